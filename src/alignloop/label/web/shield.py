"""Around every request: which host names are ours, how long a body may be, security headers."""

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alignloop.label.server_settings import ServerSettings

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
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STATIC, UPLOAD = "/static/", "/import"


class TooLong(HTTPException):
    """More came than may; an HTTPException, which the framework's parsers let pass."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"more than {limit} bytes were sent; send it in smaller pieces")


class Shield:
    """The outermost layer of ours; it reads nothing of a body but its length."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, but for a foreign host, a NUL in the address or a long body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), str(scope["path"])

        async def send_shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                shield_headers(MutableHeaders(scope=message), path)
            await send(message)

        limit = self._settings.max_upload if path.endswith(UPLOAD) else self._settings.max_body
        if not self._is_our_host(headers.get("host", "")):
            refusal = problem(400, "this server does not go by that name")
            await refusal(scope, receive, send_shielded)
        elif "\0" in path or b"%00" in scope["query_string"]:  # no database text holds one
            await problem(400, "the address holds a NUL character")(scope, receive, send_shielded)
        elif _declared(headers) > limit:
            await problem(413, TooLong(limit).detail)(scope, receive, send_shielded)
        else:
            await self._app(scope, _counted(receive, limit), send_shielded)

    def _is_our_host(self, host: str) -> bool:
        # A page elsewhere may have its name point at 127.0.0.1 (DNS rebinding).
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        return not self._settings.hosts or name.lower() in self._settings.hosts


def shield_headers(headers: MutableHeaders, path: str) -> None:
    """Set what every response carries; nothing but static files may be kept by a cache."""
    for name, value in HEADERS.items():
        headers[name] = value
    # Scripts are asked for anew, so that an update is not mixed with what a browser kept.
    headers["cache-control"] = "no-cache" if path.startswith(STATIC) else "no-store"


def problem(status: int, detail: str, fix: str = "") -> JSONResponse:
    """An error as the API gives it."""
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
