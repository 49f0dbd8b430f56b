"""The API of what comes out: decisions, discards and filtered exports, through the client."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from label_support import SLUG, World, browser, make_token

from alignloop.label.client import Client
from alignloop.label.store import accounts
from alignloop.label.store.refusals import Conflict, Invalid, NotFound


@pytest.fixture
def lead(app: FastAPI, people: World) -> Client:
    """A client of the lead, after ann0 and ann1 judged two items each."""
    people.work(0, at_most=2)
    people.work(1, at_most=2)
    with people.database.reading() as session:
        token = make_token(people.database, accounts.get_user(session, "lea").id, "lead")
    http: Any = TestClient(app, base_url="http://localhost")
    return Client("", token, http=http)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_decision_reaches_the_export_and_can_be_withdrawn(lead: Client, tmp_path: Path) -> None:
    before = lead.export(SLUG, tmp_path / "before.jsonl", kind="soft")
    judged = next(lead.judgements(SLUG))
    other = next(one for one in judged["order"] if one != judged["choice"])
    lead.decide(SLUG, judged["item_id"], "choice", choice=other, strength=1, comment="because")
    after = lead.export(SLUG, tmp_path / "after.jsonl", kind="soft")
    assert after["hash"] != before["hash"]
    decided = [row for row in rows(tmp_path / "after.jsonl") if row["source"] == "lead"]
    assert len(decided) == 1 and decided[0]["provenance"]["decision"]["comment"] == "because"
    (seen,) = lead.decisions(SLUG)
    assert (seen["choice"], seen["counts"], seen["by"]) == (other, True, "lea")
    lead.withdraw_decision(SLUG, judged["item_id"])
    assert lead.export(SLUG, tmp_path / "x.jsonl", kind="soft")["hash"] == before["hash"]
    with pytest.raises(Conflict):
        lead.withdraw_decision(SLUG, judged["item_id"])


def test_discard_preview_undo(lead: Client, people: World) -> None:
    seen = lead.preview_discard(SLUG, "ann0")
    assert seen == {"judgements": 2, "questions": 2, "asked_again": 2, "gold": 0}
    assert len(people.standing()) == 4
    made = lead.discard(SLUG, "ann0", "too fast")
    assert made == {"id": made["id"], **seen}
    assert {one["annotator"] for one in lead.judgements(SLUG) if one["standing"]} == {"ann1"}
    assert lead.quality(SLUG)["annotators"][0]["annotator"] == "ann1"
    (listed,) = lead.discards(SLUG)
    assert (listed["why"], listed["by"], listed["undone_at"]) == ("too fast", "lea", None)
    assert lead.undo_discard(SLUG, made["id"]) == 2
    assert lead.discards(SLUG)[0]["undone_at"] is not None
    assert len(people.standing()) == 4
    with pytest.raises(Invalid):
        lead.discard(SLUG, "ann0", "why", until=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(NotFound):
        lead.preview_discard(SLUG, "zoe")


def test_an_export_takes_filters(lead: Client, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    lead.export(SLUG, out, without=["ann0"])
    assert {row["source"] for row in rows(out)} == {"ann1"}
    lead.export(SLUG, out, annotators=["ann0"], since=datetime(2020, 1, 1, tzinfo=UTC))
    assert {row["source"] for row in rows(out)} == {"ann0"}
    with pytest.raises(Conflict, match="no annotator"):
        lead.export(SLUG, out, without=["zoe"])
    with pytest.raises(Conflict, match="no gold question"):
        lead.export(SLUG, out, kind="soft", weights="gold")


def test_what_is_done_is_in_the_audit_log(lead: Client, app: FastAPI, people: World) -> None:
    made = lead.discard(SLUG, "ann0", "why")
    lead.undo_discard(SLUG, made["id"])
    page = browser(app, "lea").get("/lead/audit").text
    assert "judgements discarded" in page and "discard undone" in page


def test_the_page_of_discards_shows_what_it_would_do(
    lead: Client, app: FastAPI, people: World
) -> None:
    page = browser(app, "lea").get(f"/lead/{SLUG}/discard?annotator=ann0&since=2020-01-01").text
    assert "2 judgements of 2 questions will be discarded." in page
    assert "2 items will be asked again of others." in page
    nothing = browser(app, "lea").get(f"/lead/{SLUG}/discard?annotator=ann0&until=2020-01-01").text
    assert "no valid judgements in this period" in nothing
    nobody = browser(app, "lea").get(f"/lead/{SLUG}/discard?annotator=zoe&since=nonsense").text
    assert "no valid judgements in this period" in nobody
