"""Time limits for clients that send half a request, or do not read their answer.

Uvicorn limits only the pause between two requests. A connection that stays half open holds a
file descriptor, and a few hundred of them would keep everybody else out.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CHECK_EVERY = 1.0  # seconds
HEADER_SECONDS = 10.0  # for a request's line and headers
BODY_SECONDS, BODY_RATE = 20.0, 2048  # a body may take 20 seconds, and one more for each 2 KiB
READ_SECONDS = 60.0  # in which a client has to take something of its answer


class PatientConnection(H11Protocol):
    """Uvicorn's HTTP/1.1 connection, closed when the other side is too slow."""

    _phase: str = ""  # what the client owes us since `_since`
    _since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._phase, self._since, self._received = "", self.loop.time(), 0
        self._watch = self.loop.call_later(CHECK_EVERY, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives."""
        self._received += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Give the next request its own time."""
        self._phase = ""
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The client has read something: its time begins again."""
        self._phase = ""
        super().resume_writing()

    def _check(self) -> None:
        phase, now = self._waits_for(), self.loop.time()
        if phase != self._phase:
            self._phase, self._since, self._received = phase, now, 0
        limits: dict[str, float] = {
            "header": HEADER_SECONDS,
            "body": BODY_SECONDS + self._received / BODY_RATE,
            "reader": READ_SECONDS,
        }
        if phase and now - self._since >= limits[phase]:
            # not close(): that would wait until the other side has read everything
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(CHECK_EVERY, self._check)

    def _waits_for(self) -> str:
        """What the client owes us: the rest of a "header" or "body", or is to read; "" nothing."""
        if self.flow.write_paused:
            return "reader"
        state: Any = self.conn.their_state
        if state is h11.IDLE:
            return "header"
        # a paused transport waits for us, not for the client
        return "body" if state is h11.SEND_BODY and not self.flow.read_paused else ""
