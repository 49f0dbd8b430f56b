"""Authorisation: the guard of every route, and the session cookie. Below web and pages.

`create_app` rejects routes without one of the guards `anyone`, `annotator`, `lead`, `admin`. A
route whose address names a project, or something in one, is for its members and for admins.
"""

import hmac
from typing import Annotated

from fastapi import Depends, Query, Request, Response, Security
from fastapi import Path as PathParameter
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import members, sign_in, throttle, tokens
from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Database
from alignloop.label.store.refusals import Forbidden, SignInRefused
from alignloop.label.store.tasks import BIGGEST_ID

SAFE = {"GET", "HEAD", "OPTIONS"}
CSRF_HEADER = "X-CSRF-Token"


def database_of(request: Request) -> Database:
    """The application's database."""
    return request.app.state.database


def settings_of(request: Request) -> ServerSettings:
    """The application's settings."""
    return request.app.state.settings


def address_of(request: Request) -> str:
    """The client's address, for the throttle and the audit log."""
    return request.client.host if request.client else ""


def origin_of(request: Request) -> str:
    """Our origin as the browser sees it: "http://localhost:8000"."""
    settings = settings_of(request)
    scheme = "https" if settings.is_secure else "http"
    return settings.public_url or f"{scheme}://{request.headers.get('host', '')}"


def check_origin(request: Request) -> None:
    """Refuse a change requested by another site's page. Raises Forbidden.

    Browsers send the page's origin with every change. If they hide it ("null", as our referrer
    policy makes them do for forms), Sec-Fetch-Site has the same information, and pages cannot
    set it.
    """
    if request.method in SAFE:
        return
    origin = request.headers.get("origin", "null")
    if origin == origin_of(request):
        return
    if origin == "null" and request.headers.get("sec-fetch-site") == "same-origin":
        return
    fix = f"open {origin_of(request)} and try again there"
    raise Forbidden("the request comes from another site", fix=fix)


def find_principal(request: Request) -> Principal | None:
    """The user by `Authorization: Bearer TOKEN`, otherwise by session cookie; None if neither."""
    database = database_of(request)
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return tokens.whose(database, secret.strip())
    cookie = request.cookies.get(settings_of(request).cookie)
    return sign_in.who(database, cookie) if cookie else None


def anyone(request: Request) -> None:
    """Guard of routes without an account, such as the login. Raises Forbidden for other sites."""
    check_origin(request)


# Only for the OpenAPI description: `find_principal` reads the header itself.
Described = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="An API token; or a session's cookie.")),
]


def annotator(request: Request, _: Described = None) -> Principal:
    """Guard: a signed-in user who may judge. Raises SignInRefused or Forbidden."""
    return _allowed(request, "judge")


def lead(request: Request, _: Described = None) -> Principal:
    """Guard: a lead of the project, or an admin. Raises SignInRefused, Forbidden or NotFound."""
    return _allowed(request, "lead")


def admin(request: Request, _: Described = None) -> Principal:
    """Guard: an admin. Raises SignInRefused or Forbidden."""
    found = _allowed(request, "lead")
    if not found.is_admin:
        raise Forbidden("this is for admins", fix="ask an admin")
    return found


def _allowed(request: Request, scope: str) -> Principal:
    found = find_principal(request)
    if found is None:
        raise SignInRefused("you are not signed in", fix="sign in, or send a valid API token")
    if scope not in found.scopes:
        raise Forbidden(f"this needs the scope {scope}", fix="ask the lead")
    if scope == "lead" and not found.is_lead:
        raise Forbidden("this is for the project's lead", fix="ask the lead")
    if found.via == "session" and request.method not in SAFE:
        check_origin(request)
        # sessions only: a browser adds cookies to forged requests, but never a bearer token
        sent = request.headers.get(CSRF_HEADER, "")
        # constant time: an early exit would leak the token byte by byte
        if not hmac.compare_digest(sent.encode(), found.csrf.encode()):
            problem = f"the header {CSRF_HEADER} is missing or wrong"
            raise Forbidden(problem, fix="load the page again")
    if not found.is_admin:
        _check_member(request, found)
    return found


def _check_member(request: Request, principal: Principal) -> None:
    """Raise NotFound if the address names a project that somebody does not belong to."""
    name = next((one for one in members.SCOPED_BY if one in request.path_params), None)
    if name is None:
        return
    which: str | int = request.path_params[name]
    if name != "slug":
        if not str(which).isdecimal() or not 0 < int(which) <= BIGGEST_ID:
            return  # the route refuses it as no number of ours
        which = int(which)
    with database_of(request).reading_once() as session:
        members.check_member(session, principal.user_id, name, which)


GUARDS = (anyone, annotator, lead, admin)
Id = Annotated[int, PathParameter(ge=1, le=BIGGEST_ID)]
After = Annotated[int, Query(ge=0, le=BIGGEST_ID)]
Anyone = Depends(anyone)
Annotator = Annotated[Principal, Depends(annotator)]
Lead = Annotated[Principal, Depends(lead)]
Admin = Annotated[Principal, Depends(admin)]
Store = Annotated[Database, Depends(database_of)]
Settings = Annotated[ServerSettings, Depends(settings_of)]


def begin_session(request: Request, response: Response, begun: sign_in.NewSession) -> None:
    """Set a new session's cookie and end the previous session."""
    settings = settings_of(request)
    if old := request.cookies.get(settings.cookie):
        sign_in.log_out(database_of(request), old)
    lasting = ((settings.cookie, begun.cookie, sign_in.ABSOLUTE),)
    lasting += ((settings.device_cookie, begun.device, throttle.DEVICE_LASTS),)
    for name, value, lasts in lasting:
        # httponly against scripts; lax, so that links to the site still arrive signed in
        response.set_cookie(
            name,
            value,
            httponly=True,
            samesite="lax",
            secure=settings.is_secure,
            path="/",
            max_age=int(lasts.total_seconds()),
        )


def device_of(request: Request) -> str:
    """The cookie by which a browser is known from an earlier login; "" if it has none."""
    return request.cookies.get(settings_of(request).device_cookie, "")


def end_session(request: Request, response: Response) -> None:
    """End the session of the request's cookie, and delete the cookie."""
    settings = settings_of(request)
    if cookie := request.cookies.get(settings.cookie):
        sign_in.log_out(database_of(request), cookie)
    response.delete_cookie(
        settings.cookie, path="/", secure=settings.is_secure, httponly=True, samesite="lax"
    )
