"""Settings of a server."""

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from alignloop.errors import UserError
from alignloop.label.store.queue import LEASE

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How one server runs. `hosts` are the names it answers to; () means any name.

    `public_url` is the address that people open, in the form of `checked_url`: every link begins
    with it, and changes are accepted from its pages only. Without one, the request's Host counts.
    """

    folder: Path | None = None  # the project's folder, where exports go
    public_url: str = ""
    speaks_tls: bool = False  # this process does, without a proxy
    hosts: tuple[str, ...] = LOOPBACK
    max_body: int = MIB
    max_upload: int = 256 * MIB
    lease: timedelta = LEASE

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this server by TLS, so that cookies are for TLS only."""
        return self.speaks_tls or self.public_url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The session cookie's name; __Host- binds it to this host, to TLS and to the path /."""
        return "__Host-alignloop" if self.is_secure else "alignloop"

    @property
    def device_cookie(self) -> str:
        """The name of the cookie by which a browser is known from an earlier login."""
        return f"{self.cookie}-device"

    @property
    def is_pinned_to_tls(self) -> bool:
        """Whether browsers may be told to use nothing but TLS for this host (HSTS).

        Not on a port of its own, since other services of the host may have no TLS.
        """
        url = urlsplit(self.public_url)
        return url.scheme == "https" and url.port is None and not is_address(url.hostname or "")


def checked_url(text: str) -> str:
    """A public address as "https://name" or "https://name:port".

    Raises UserError for anything else, and for http:// where it is not this machine's own name.
    """
    url = urlsplit(text.strip())
    fix = "write it like https://label.example.org or https://192.168.1.5:8443"
    try:
        port = url.port
    except ValueError:
        port = -1
    if url.scheme not in ("http", "https") or not url.hostname or port == -1 or "@" in url.netloc:
        raise UserError("this is not the address of a page", where=text, fix=fix)
    if url.path not in ("", "/") or url.query or url.fragment:
        problem = "the page needs a host name or port of its own: a path is not supported"
        raise UserError(problem, where=text, fix=fix)
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    if url.scheme == "http" and host not in LOOPBACK:
        problem = "without TLS passwords and cookies could be read on their way"
        raise UserError(problem, where=text, fix="use https://, by --tls-certificate or a proxy")
    is_default = port is None or port == {"http": 80, "https": 443}[url.scheme]
    return f"{url.scheme}://{host}" if is_default else f"{url.scheme}://{host}:{port}"


def hosts_of(public_url: str) -> tuple[str, ...]:
    """The names that a server with this address answers to: its own, and this machine's."""
    if not public_url:
        return LOOPBACK
    name = urlsplit(public_url).netloc
    host = name[: name.index("]") + 1] if name.startswith("[") else name.partition(":")[0]
    return (host.lower(), *(one for one in LOOPBACK if one != host))


def is_address(host: str) -> bool:
    """Whether a host is an IP address or this machine, and no name that others may resolve."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
