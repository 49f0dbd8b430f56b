"""Webhooks: what they are told, how it is signed, and what happens if nobody listens."""

import json
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from label_support import World, items

from alignloop.label.store import events, webhooks
from alignloop.label.store.event_tables import Webhook
from alignloop.label.store.refusals import Invalid
from alignloop.label.store.tables import now
from alignloop.label.webhooks import Sender, signature, verify

MakeWorld = Callable[..., World]


class Listener(HTTPServer):
    """A program of somebody's on this machine; `answers` are the statuses to come, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Generator[Listener]:
    server = Listener()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "SETTLED_AFTER", timedelta(0))
    monkeypatch.setattr(webhooks, "FIRST_WAIT", timedelta(0))


def hook(here: World, url: str, *kinds: str) -> str:
    with here.database.transaction() as session:
        return webhooks.add_webhook(session, here.project_id, url, kinds)[1]


def state(here: World) -> Webhook:
    with here.database.reading() as session:
        (row,) = webhooks.list_webhooks(session, here.project_id)
        return row


def send_all(here: World) -> None:
    sender = Sender(here.database)
    while sender.send_due():
        pass


def test_judgements_and_the_end_of_a_batch_are_told_in_order(
    world: MakeWorld, listener: Listener
) -> None:
    here = world(items(2), users=2, overlap=2)
    secret = hook(here, listener.url)
    here.work(0)
    here.work(1)
    send_all(here)
    told = [json.loads(body) for _, body in listener.got]
    assert [one["kind"] for one in told] == ["judgement made"] * 4 + ["batch finished"]
    assert [one["data"].get("annotator") for one in told] == ["ann0", "ann0", "ann1", "ann1", None]
    assert {one["project"] for one in told} == {"demo"} and told[-1]["data"] == {"batch": "first"}
    assert len({one["id"] for one in told}) == 5
    for headers, body in listener.got:
        stamp, signed = headers["X-Alignloop-Timestamp"], headers["X-Alignloop-Signature"]
        assert verify(secret, stamp, body, signed)
        assert not verify(secret, stamp, body + b" ", signed)
        assert not verify("other", stamp, body, signed)
        assert not verify(secret, stamp, body, signed, at=int(stamp) + 301)
        assert not verify(secret, "soon", body, signed)
    assert (state(here).delivered, state(here).given_up) == (5, 0)


def test_the_signature_is_that_of_the_standard() -> None:
    """RFC 4231, test case 2, with a point between the two parts of the message."""
    import hashlib
    import hmac

    expected = hmac.new(b"Jefe", b"17.what do ya want", hashlib.sha256).hexdigest()
    assert signature("Jefe", "17", b"what do ya want") == f"sha256={expected}"


def test_only_the_kinds_asked_for_and_only_from_now_on(
    world: MakeWorld, listener: Listener
) -> None:
    here = world(items(3))
    here.submit(here.must_claim())
    hook(here, listener.url, "batch finished")
    here.work()
    with here.database.transaction() as session:
        events.record(session, "annotator paused", here.project_id, {"annotator": "ann0"})
    send_all(here)
    assert [json.loads(body)["kind"] for _, body in listener.got] == ["batch finished"]


def test_nobody_listening_costs_the_annotators_nothing(world: MakeWorld) -> None:
    here = world(items(1))
    here.work()
    with here.database.reading() as session:
        assert list(events.events_after(session, 0)) == []


def test_a_failed_attempt_is_repeated_and_nothing_overtakes(
    world: MakeWorld, listener: Listener
) -> None:
    here = world(items(2))
    hook(here, listener.url, "judgement made")
    here.work()
    listener.answers = [500, 302, 204]  # a redirect is not followed, and is no success
    send_all(here)
    ids = [json.loads(body)["id"] for _, body in listener.got]
    assert ids[0] == ids[1] == ids[2] < ids[3] and len(ids) == 4
    assert (state(here).delivered, state(here).last_error) == (2, "")


def test_attempts_are_bounded_and_kept_over_a_restart(world: MakeWorld) -> None:
    here = world(items(2))
    hook(here, "http://127.0.0.1:9/closed", "judgement made")
    here.work()
    for attempt in range(1, webhooks.MAX_ATTEMPTS):
        assert Sender(here.database).send_due() == 1
        assert state(here).attempts == attempt
    assert state(here).last_error
    send_all(here)
    row = state(here)
    assert (row.given_up, row.delivered, row.attempts) == (2, 0, 0)


def test_pauses_double_up_to_a_limit(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "FIRST_WAIT", timedelta(seconds=5))
    here = world(items(1))
    hook(here, "http://127.0.0.1:9/closed")
    here.work()
    at, waits = now(), list[float]()
    for _ in range(webhooks.MAX_ATTEMPTS - 1):
        with here.database.transaction() as session:
            (due,) = webhooks.take_due(session, at)
            assert webhooks.take_due(session, at) == []  # another sender leaves it alone
        with here.database.transaction() as session:
            webhooks.note_attempt(session, due, "no", at)
        waits.append((state(here).next_at - at).total_seconds())
        at = state(here).next_at
    assert waits == [min(5 * 2**n, 6 * 3600) for n in range(len(waits))]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://",
        "https://me:secret@example.com/",
        "http://127.0.0.1.example.com/",
        "http://[::1",
        "https://example.com:port/",
        "",
    ],
)
def test_what_may_not_be_called(url: str) -> None:
    with pytest.raises(Invalid):
        webhooks.check_url(url)


@pytest.mark.parametrize("url", ["https://example.com/a?b", "http://127.0.0.1:8/", "http://[::1]/"])
def test_what_may_be_called(url: str) -> None:
    assert webhooks.check_url(url) == url


def test_the_sender_works_beside_the_server(world: MakeWorld, listener: Listener) -> None:
    here = world(items(1))
    hook(here, listener.url)
    heard = threading.Event()
    with Sender(here.database):
        here.work()
        for _ in range(200):
            if len(listener.got) == 2:
                heard.set()
                break
            threading.Event().wait(0.05)
    assert heard.is_set()
