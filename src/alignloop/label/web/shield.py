"""Checks around every request: host names, body length, security headers."""

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignloop.label.server_settings import ServerSettings

# Deny by default: model output on the pages is hostile, so nothing may load from other sites.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    # an export served as text must not be sniffed as HTML
    "x-content-type-options": "nosniff",
    # one-time links are secrets in the URL: they must not leak in a Referer header
    "referrer-policy": "no-referrer",
    # against clickjacking, for browsers without frame-ancestors
    "x-frame-options": "DENY",
    # isolate windows and responses from other sites' scripts
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STATIC, UPLOADS = "/static/", ("/import", "/imports")


class TooLong(HTTPException):
    """The body is too long; an HTTPException, which the framework's parsers do not swallow."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"more than {limit} bytes were sent; send it in smaller pieces")


class Shield:
    """Our outermost layer; of a body it reads only the length."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it has a foreign host, a NUL in the address or a long body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), str(scope["path"])

        async def send_shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                shield_headers(MutableHeaders(scope=message), path)
            await send(message)

        limit = self._settings.max_upload if path.endswith(UPLOADS) else self._settings.max_body
        if not self._is_our_host(headers.get("host", "")):
            refusal = problem(400, "this server does not go by that name")
            await refusal(scope, receive, send_shielded)
        elif "\0" in path or b"%00" in scope["query_string"]:  # databases cannot store NUL
            await problem(400, "the address holds a NUL character")(scope, receive, send_shielded)
        elif _declared(headers) > limit:
            await problem(413, TooLong(limit).detail)(scope, receive, send_shielded)
        else:
            await self._app(scope, _counted(receive, limit), send_shielded)

    def _is_our_host(self, host: str) -> bool:
        # against DNS rebinding: another site's name may resolve to 127.0.0.1
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        return not self._settings.hosts or name.lower() in self._settings.hosts


def shield_headers(headers: MutableHeaders, path: str) -> None:
    """Set the headers of every response; caches may store static files only."""
    for name, value in HEADERS.items():
        headers[name] = value
    # revalidate scripts, so that an update is not mixed with cached files
    headers["cache-control"] = "no-cache" if path.startswith(STATIC) else "no-store"


def problem(status: int, detail: str, fix: str = "") -> JSONResponse:
    """An error in the API's form."""
    return JSONResponse({"detail": detail, "fix": fix}, status_code=status)


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _counted(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def receive_counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise TooLong(limit)
        return message

    return receive_counted
