"""Render a template as a page, in the reader's language and theme."""

from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from alignloop.errors import UserError
from alignloop.label.guards import find_principal
from alignloop.label.pages.render import render, show_invisible
from alignloop.label.store.accounts import Principal
from alignloop.label.store.refusals import Forbidden, NotFound, SignInRefused
from alignloop.label.texts.i18n import NAMES, TAGS, Locale, Texts, choose, other_than

TEMPLATES = Path(__file__).parent / "templates"
SHADES = ("light", "dark")


@cache
def environment() -> Environment:
    """The template environment: everything is escaped, and an undefined name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cast(Any, made).filters.update(markdown=render, visible=show_invisible)
    return made


def locale_of(request: Request, principal: Principal | None = None) -> Locale:
    """The reader's choice on a page, then their account's, then their browser's."""
    return choose(
        request.cookies.get("alignloop_locale"),
        principal.locale if principal else None,
        accepted=request.headers.get("accept-language", ""),
    )


def page(
    request: Request,
    name: str,
    principal: Principal | None,
    *,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """Render `name`.html with `values` and the common values of `frame`."""
    context = frame(request, principal) | values
    html = environment().get_template(f"{name}.html").render(context)
    return HTMLResponse(html, status_code=status)


def frame(request: Request, principal: Principal | None) -> dict[str, Any]:
    """Common values of all pages: texts, user and theme."""
    locale = locale_of(request, principal)
    other = other_than(locale)
    theme = request.cookies.get("alignloop_theme", "")
    return {
        "t": Texts(locale),
        "user": principal,
        "csrf": principal.csrf if principal else "",
        "theme": theme if theme in SHADES else "",
        "other_locale": other,
        "other_tag": TAGS[other],
        "other_name": NAMES[other],
    }


class PageRoute(APIRoute):
    """A route whose refusals are pages; the API's are JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler to turn refusals into pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except SignInRefused:
                return RedirectResponse(f"/login?after={quote(request.url.path)}", status_code=303)
            except (NotFound, Forbidden) as error:
                return await run_in_threadpool(_refusal, request, type(error))

        return answer


def _refusal(request: Request, kind: type[UserError]) -> Response:
    principal = find_principal(request)
    status = 403 if issubclass(kind, Forbidden) else 404
    t = Texts(locale_of(request, principal))
    title, words = t(f"error.{status}_title"), t(f"error.{status}")
    return page(request, "error", principal, status=status, title=title, words=words)
