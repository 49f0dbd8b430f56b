"""kill -9 of the server while people submit: what was acknowledged is there, and once."""

import secrets
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from label_support import SLUG, items, make_token, make_world, serving
from sqlalchemy import func, select, text

from alignloop.label import Client
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.judging import standing
from alignloop.label.store.tables import judgements
from alignloop.label.store.tasks import JudgementIn

PEOPLE, KILLS, BETWEEN_KILLS = 4, 3, 25

pytestmark = pytest.mark.slow


class Annotator:
    """Somebody whose program tries until the server is there, always with the same key."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
        self.acknowledged: dict[str, int] = {}
        self.sent: list[str] = []

    def work(self, url: "list[str]", enough: threading.Event, told: threading.Event) -> None:
        """Claim and submit until there is enough; `told` is set after each acknowledgement."""
        with httpx2.Client(headers=self.headers, timeout=10) as http:
            pending: tuple[int, dict[str, Any]] | None = None
            while not enough.is_set():
                try:
                    if pending is None:
                        pending = self._claim(http, url[0])
                    assignment, body = pending
                    path = f"{url[0]}/api/v1/assignments/{assignment}/judgement"
                    done = http.post(path, json=body)
                except httpx2.TransportError:
                    enough.wait(0.01)
                    continue
                assert done.status_code == 201, done.text
                self.acknowledged[body["key"]] = done.json()["judgement_id"]
                pending = None
                told.set()

    def _claim(self, http: httpx2.Client, url: str) -> tuple[int, dict[str, Any]]:
        task = http.post(f"{url}/api/v1/projects/{SLUG}/claim").json()
        body = {"key": secrets.token_hex(8), "verdict": "choice"}
        self.sent.append(body["key"])
        return task["assignment_id"], body | {"choice": task["answers"][0]["id"]}


def test_killing_the_server_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    database = open_database(folder)
    world = make_world(database, items(2000), users=PEOPLE)
    people = [Annotator(make_token(database, user, "judge")) for user in world.users]
    database.close()
    url, enough, told = [""], threading.Event(), threading.Event()
    threads: list[threading.Thread] = []
    for number in range(KILLS + 1):
        with serving("--project", str(folder)) as server:
            url[0] = server.url
            if not threads:
                threads = [
                    threading.Thread(target=one.work, args=(url, enough, told)) for one in people
                ]
                for thread in threads:
                    thread.start()
            _wait_for_more(people, told)
            if number < KILLS:
                server.kill()
            else:
                enough.set()
                for thread in threads:
                    thread.join(timeout=30)
    database = open_database(folder)
    _check(database, people)
    assert all(told == counted for told, counted in world_of(database, world).counted().values())
    database.close()


def _wait_for_more(people: list[Annotator], told: threading.Event) -> None:
    goal = sum(len(one.acknowledged) for one in people) + BETWEEN_KILLS
    while sum(len(one.acknowledged) for one in people) < goal:
        told.clear()
        assert told.wait(30), "nobody gets through"


def _check(database: Database, people: list[Annotator]) -> None:
    with database.reading() as session:
        rows = session.execute(select(judgements.c.idempotency_key, judgements.c.id))
        kept = {row[0]: row[1] for row in rows}
        stands = session.scalar(select(func.count()).select_from(standing().subquery()))
        whole = session.execute(text("PRAGMA integrity_check")).scalar_one()
    acknowledged = {key: one for person in people for key, one in person.acknowledged.items()}
    sent = {key for person in people for key in person.sent}
    assert len(acknowledged) >= (KILLS + 1) * BETWEEN_KILLS
    assert acknowledged.items() <= kept.items(), "an acknowledged judgement is lost"
    assert set(kept) <= sent, "a judgement that nobody sent"
    assert stands == len(kept), "an item is judged twice by one person"
    assert whole == "ok"


def world_of(database: Database, world: Any) -> Any:
    """The same world on another connection."""
    world.database = database
    return world


def test_the_client_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    database = open_database(folder)
    world = make_world(database, items(3))
    token = make_token(database, world.users[0], "judge")
    database.close()
    with serving("--project", str(folder)) as server:
        port = httpx2.URL(server.url).port
        assert port is not None
        with Client(server.url, token, patience=60) as client:
            task = client.claim(SLUG)
            assert task is not None
            server.kill()
            sent = JudgementIn(key="once-only", verdict="choice", choice=task.answers[0].id)
            kept: list[int] = []
            waiting = threading.Thread(target=lambda: kept.append(client.submit(task, sent)))
            waiting.start()
            with serving("--project", str(folder), port=port):
                waiting.join(timeout=60)
                assert kept
                assert client.submit(task, sent) == kept[0]
