"""Settings of a server."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from alignloop.label.store.queue import LEASE

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How one server runs. `hosts` are the names it answers to; () means any name.

    `behind_tls` means that a proxy in front terminates TLS: cookies are then restricted to TLS.
    """

    folder: Path | None = None  # the project's folder, where exports go
    behind_tls: bool = False
    hosts: tuple[str, ...] = LOOPBACK
    max_body: int = MIB
    max_upload: int = 256 * MIB
    lease: timedelta = LEASE

    @property
    def cookie(self) -> str:
        """The session cookie's name; __Host- binds it to this host, to TLS and to the path /."""
        return "__Host-alignloop" if self.behind_tls else "alignloop"
