"""The web application: API and pages behind one shield, with a guard on every route."""

import logging
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from alignloop.errors import UserError
from alignloop.label.guards import GUARDS
from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import refusals
from alignloop.label.store.database import Database
from alignloop.label.texts.i18n import Locale
from alignloop.label.texts.refusal_texts import asked_locale, translated
from alignloop.label.web import api, api_lead
from alignloop.label.web.schemas import ContradictionOut
from alignloop.label.web.shield import Shield, problem, shield_headers

logger = logging.getLogger(__name__)

STATIC_FILES = Path(__file__).parents[1] / "pages" / "static"
STATUS: dict[type[UserError], int] = {
    refusals.NotFound: 404,
    refusals.Invalid: 422,
    refusals.Forbidden: 403,
    refusals.SignInRefused: 401,
    refusals.TooManyAttempts: 429,
    refusals.Contradiction: 409,
    refusals.Conflict: 409,
}


def create_app(database: Database, settings: ServerSettings | None = None) -> FastAPI:
    """The application for a database; opens no port and reads no environment variables."""
    from alignloop.label.pages import routes

    settings = settings or ServerSettings()
    # no documentation pages: FastAPI's load scripts from other sites
    app = FastAPI(title="alignloop label", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.database, app.state.settings = database, settings
    for router in (api.router, api_lead.router, routes.router):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC_FILES, check_dir=False), name="static")
    app.add_middleware(Shield, settings=settings)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _broken)
    unguarded = [route.path for route in routes_of(app) if not guard_of(route)]
    # fail at start, before a forgotten route is reachable
    assert not unguarded, f"routes without a guard: {unguarded}"
    return app


def routes_of(app: FastAPI) -> list[RouteContext]:
    """All routes of the application, including those of included routers."""
    return list(iter_route_contexts(app.routes))


def guard_of(route: RouteContext) -> str:
    """The guard of a route: "anyone", "annotator" or "lead"; "" if it has none."""
    if isinstance(route.original_route, Mount) and route.name == "static":
        return "anyone"
    if not isinstance(route.original_route, APIRoute):
        return ""
    found = [call.__name__ for call in _calls(route.dependant) if call in GUARDS]
    return found[0] if found else ""


def _calls(dependant: Dependant) -> list[Callable[..., object]]:
    below = [call for one in dependant.dependencies for call in _calls(one)]
    return [dependant.call, *below] if dependant.call else below


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _refused(request: Request, error: Exception) -> Response:
    """Return a store's refusal with its status; redirect to the login page if not signed in."""
    assert isinstance(error, UserError)
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 400)
    if status == 401 and not _is_api(request):
        return RedirectResponse("/login", status_code=303)
    response = _respond(request, status, error.problem, error.fix)
    if isinstance(error, refusals.Contradiction):
        response = _contradiction(error, asked_locale(request))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _respond(request: Request, status: int, detail: str, fix: str = "") -> Response:
    locale = asked_locale(request)
    return problem(status, translated(detail, locale), translated(fix, locale))


def _contradiction(error: refusals.Contradiction, locale: Locale) -> Response:
    words = translated(error.problem, locale)
    body = ContradictionOut(
        detail=words,
        fix=translated(error.fix, locale),
        contradiction=words,
        chosen=error.chosen,
        better=error.better,
    )
    return Response(body.model_dump_json(), status_code=409, media_type="application/json")


def _invalid(request: Request, error: Exception) -> Response:
    """Return pydantic's errors in one line, without echoing the input."""
    assert isinstance(error, RequestValidationError)
    wrong = [(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()][:5]
    if asked_locale(request) == "en":
        detail = "; ".join(f"{field}: {words}" for field, words in wrong)
    else:  # pydantic's messages are English
        detail = f"these fields are invalid: {'、'.join(field for field, _ in wrong)}"
    return _respond(request, 422, detail[:1000], "see the API's description")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _respond(request, error.status_code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


def _broken(request: Request, error: Exception) -> Response:
    """A bug on our side: details go to the log only, not to the client."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    response = _respond(
        request, 500, "the server failed to handle this request", "tell the lead; the log says why"
    )
    shield_headers(response.headers, request.url.path)
    return response
