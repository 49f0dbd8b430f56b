"""The client, against the application itself."""

from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from label_support import SLUG, World, comparison, items, make_token

from alignloop.data import read_objects
from alignloop.errors import UserError
from alignloop.label import Client
from alignloop.label.store import accounts, refusals


@pytest.fixture
def lead(app: FastAPI, people: World) -> Client:
    """A lead's client."""
    with people.database.reading() as session:
        user_id = accounts.get_user(session, "lea").id
    return client_of(app, make_token(people.database, user_id, "judge", "lead"))


@pytest.fixture
def annotating(app: FastAPI, people: World) -> Client:
    """An annotator's client."""
    return client_of(app, make_token(people.database, people.users[0], "judge"))


def client_of(app: FastAPI, token: str) -> Client:
    """A client whose network is the application in this process."""
    return Client("http://localhost", token, http=TestClient(app), patience=0)


def test_a_batch_by_client(annotating: Client) -> None:
    done = 0
    while (task := annotating.claim(SLUG)) is not None:
        annotating.submit(task, verdict="choice", choice=task.answers[1].id, strength=1)
        done += 1
    assert done == 4
    back = annotating.undo(SLUG)
    assert back is not None
    assert back.previous is not None
    assert back.previous.choice == back.answers[1].id
    annotating.release(back)
    assert annotating.me() == {
        **{"name": "ann0", "role": "annotator", "locale": "", "scopes": ["judge"], "csrf": ""}
    }
    assert [one["slug"] for one in annotating.projects()] == [SLUG]


def test_refusals_are_raised_by_their_names(annotating: Client, app: FastAPI) -> None:
    with pytest.raises(refusals.NotFound, match="no such project"):
        annotating.claim("nowhere")
    with pytest.raises(refusals.Forbidden, match="scope lead"):
        annotating.quality(SLUG)
    with pytest.raises(refusals.SignInRefused, match="not signed in"):
        client_of(app, "no token").me()
    task = annotating.claim(SLUG)
    assert task is not None
    with pytest.raises(refusals.Invalid, match="not shown"):
        annotating.submit(task, verdict="choice", choice="foreign")
    first, second = (answer.id for answer in task.answers)
    said = {"verdict": "choice", "choice": first, "ratings": {first: 1, second: 9}}
    with pytest.raises(refusals.Contradiction) as caught:
        annotating.submit(task, **said)
    assert (caught.value.chosen, caught.value.better) == (first, second)
    annotating.submit(task, **said, confirmed=True)
    with pytest.raises(refusals.Conflict, match="already judged"):
        annotating.submit(task, **said, confirmed=True)


@pytest.mark.slow
def test_a_project_from_import_to_export(lead: Client, annotating: Client, tmp_path: Path) -> None:
    lead.create_project("new", "New", schema={"kind": "comparison", "ratings": True})
    lead.create_batch("new", "one", overlap=1)
    told: list[int] = []
    new = [comparison(n) for n in range(100, 1300)]
    done = lead.import_items("new", "one", new, on_progress=told.append)
    assert (done["added"], done["duplicates"], told) == (1200, 0, [500, 1000, 1200])
    file = tmp_path / "more.jsonl"
    file.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n{broken\n', encoding="utf-8")
    done = lead.import_file("new", "one", file)
    assert (done["added"], done["num_refused"]) == (1, 1)
    assert f"{file}:2" in done["refused"][0]
    assert (done["judged"], done["elsewhere"]) == (1, 0)
    for _ in range(3):
        task = annotating.claim("new")
        assert task is not None
        annotating.submit(task, verdict="tie")
    made = lead.export("new", tmp_path / "out.jsonl")
    assert made["counts"]["judgements"] == 3
    rows = [row for _, row in read_objects(tmp_path / "out.jsonl")]
    assert [row["preference"] for row in rows] == [0.5] * 3
    assert len(list(lead.judgements("new"))) == 3
    assert len(list(lead.items("new"))) == 1201
    assert lead.quality("new")["overall"] is not None


def test_a_third_opinion_is_asked_for(lead: Client) -> None:
    assert lead.change_batch(SLUG, "first", overlap=3)["overlap"] == 3
    assert [one["overlap"] for one in lead.batches(SLUG)] == [3]
    with pytest.raises(refusals.NotFound):
        lead.change_batch(SLUG, "none", overlap=3)


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    http = httpx2.Client(transport=httpx2.MockTransport(refuse))
    client = Client("http://127.0.0.1:1", "token", http=http, patience=0)
    with pytest.raises(UserError, match=r"does not answer .*alignloop label serve"):
        client.me()


def test_what_the_network_loses_is_sent_again_under_the_same_key(people: World) -> None:
    bodies: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        if len(bodies) == 1:
            raise httpx2.ReadError("lost")
        if len(bodies) == 2:
            return httpx2.Response(503, text="starting")
        return httpx2.Response(201, json={"judgement_id": 7})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    assert Client("http://x", "token", http=http).submit(1, verdict="tie") == 7
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_an_undo_is_not_sent_again_by_itself() -> None:
    tried: list[int] = []

    def lose(request: httpx2.Request) -> httpx2.Response:
        tried.append(1)
        raise httpx2.ReadError("lost")

    http = httpx2.Client(transport=httpx2.MockTransport(lose))
    with pytest.raises(UserError):
        Client("http://x", "token", http=http).undo(SLUG)
    assert len(tried) == 1


def test_something_else_at_the_url_is_no_riddle() -> None:
    page = httpx2.MockTransport(lambda _: httpx2.Response(418, text="<html>"))
    with pytest.raises(UserError, match=r"HTTP status 418.*right URL"):
        Client("http://x", "token", http=httpx2.Client(transport=page)).me()


def test_items_carry_their_reasons(lead: Client) -> None:
    lead.import_items(SLUG, "first", items(1, start=70, why="coverage", why_detail={"slice": "x"}))
    found = [one for one in lead.items(SLUG) if one["why"] == "coverage"]
    assert [one["why_detail"] for one in found] == [{"slice": "x"}]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"null", b'"gone"', b"{}"])
def test_an_answer_that_is_not_ours_is_told_by_its_status(body: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(404, content=body))
    client = Client("http://x", "token", http=httpx2.Client(transport=transport), patience=0)
    with pytest.raises(refusals.NotFound, match="HTTP status 404"):
        client.me()
