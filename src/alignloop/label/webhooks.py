"""Webhooks: signed requests to addresses that the operator has set, sent beside the server's work.

from alignloop.label.webhooks import verify
verify(secret, headers["X-Alignloop-Timestamp"], body, headers["X-Alignloop-Signature"])
"""

import hashlib
import hmac
import json
import logging
import threading
import time

import httpx2

from alignloop.errors import UserError
from alignloop.label.store.database import Database
from alignloop.label.store.tables import now
from alignloop.label.store.webhooks import Due, check_url, is_due, note_attempt, take_due

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds, for connecting and for each part of the answer
PAUSE = 1.0  # seconds between two looks at the database
TOLERANCE = 300  # seconds: older requests may have been recorded by somebody and sent again


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """ "sha256=" and the HMAC-SHA256 of "TIMESTAMP.BODY" in hexadecimal digits."""
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def verify(
    secret: str, timestamp: str, body: bytes, signed: str, *, at: float | None = None
) -> bool:
    """Whether a request is ours and fresh (five minutes); for those who receive webhooks."""
    if not timestamp.isascii() or not timestamp.isdigit():
        return False
    fresh = abs((time.time() if at is None else at) - int(timestamp)) <= TOLERANCE
    # constant time: an early exit would leak the signature byte by byte
    same = hmac.compare_digest(signature(secret, timestamp, body).encode(), signed.encode())
    return fresh and same


class Sender:
    """Sends what is due from a thread of its own: `with Sender(database): ...`."""

    def __init__(self, database: Database, *, http: httpx2.Client | None = None) -> None:
        self._database = database
        # no proxies and no .netrc from the environment, and no redirects to elsewhere
        self._http = http or httpx2.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(TIMEOUT)
        self._http.close()

    def send_due(self) -> int:
        """One attempt for every webhook with something due; returns their number."""
        with self._database.reading() as session:
            if not is_due(session, now()):  # most looks, and they take no lock
                return 0
        with self._database.transaction(durably=False) as session:
            found = take_due(session, now())
        for due in found:
            problem = self._send(due)
            with self._database.transaction() as session:
                note_attempt(session, due, problem, now())
        return len(found)

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                sent = self.send_due()
            except Exception:
                logger.exception("webhooks could not be sent")
                sent = 0
            if not sent:
                self._over.wait(PAUSE)

    def _send(self, due: Due) -> str:
        """Why the event did not arrive; "" if it did. The answer's body is not read."""
        told = {"id": due.event_id, "kind": due.kind, "project": due.project}
        told |= {"at": due.at.isoformat(), "data": due.data}
        body, timestamp = json.dumps(told, ensure_ascii=False).encode(), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Alignloop-Event": due.kind,
            "X-Alignloop-Delivery": str(due.event_id),
            "X-Alignloop-Timestamp": timestamp,
            "X-Alignloop-Signature": signature(due.secret, timestamp, body),
        }
        try:
            url = check_url(due.url)
            with self._http.stream("POST", url, content=body, headers=headers) as response:
                good = 200 <= response.status_code < 300
                return "" if good else f"HTTP status {response.status_code}"
        except (httpx2.HTTPError, UserError) as error:
            return str(error) or type(error).__name__
