"""What a lead decides is what comes out: in every kind of export, and in training."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.label.exports import KINDS, Query, export_project, export_rows
from alignloop.label.labels.pairs import content_hash, preference_pairs
from alignloop.label.labels.project_labels import (
    LEAD,
    WITHDRAWN,
    Adjudicated,
    Item,
    ItemAnswer,
    ProjectLabels,
    StoredJudgement,
)
from alignloop.label.store import adjudicating, overview
from alignloop.label.store.database import Database
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import User, now
from alignloop.label.store.tasks import JudgementIn
from alignloop.label.training_pairs import project_pairs
from alignloop.records import Message, PreferencePair, Prompt

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
Strategy = st.SearchStrategy[ProjectLabels]
ordinary = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def make_item(number: int, texts: str = "ab", **fields: Any) -> Item:
    turn = Message(role="user", content=f"q{number}")
    return Item(
        item_id=number,
        comparison_id=f"c{number}",
        prompt=Prompt(prompt_id=f"p{number}", messages=(turn,), source="mine"),
        answers=tuple(ItemAnswer(response_id=text, text=text.upper()) for text in texts),
        **fields,
    )


def judged(number: int, item: int, name: str, **fields: Any) -> StoredJudgement:
    fields = {"verdict": "choice", "created_at": NOW, **fields}
    return StoredJudgement(judgement_id=number, item_id=item, annotator=name, **fields)


def decided(item: int, verdict: Any, number: int = 1, **fields: Any) -> Adjudicated:
    fields = {"created_at": NOW + number * HOUR, **fields}
    return Adjudicated(item_id=item, by="lea", verdict=verdict, adjudication_id=number, **fields)


@pytest.fixture
def labels() -> Callable[..., ProjectLabels]:
    """Two say A, one says B; all three rate, too. With decisions."""
    said = [
        judged(1, 1, "ana", choice="a", strength=3, ratings={"a": 9.0, "b": 3.0}),
        judged(2, 1, "bo", choice="a", strength=1),
        judged(3, 1, "chen", choice="b", strength=2),
        judged(4, 2, "ana", choice="a", strength=1),
    ]

    def make(*decisions: Adjudicated) -> ProjectLabels:
        return ProjectLabels.of([make_item(1), make_item(2)], said, decisions)

    return make


def pairs(labels: ProjectLabels, kind: Any) -> list[PreferencePair]:
    return [p for row in export_rows(labels, kind) for p in row.pairs if p.comparison_id == "c1"]


def short(pair: PreferencePair) -> tuple[Any, ...]:
    return pair.chosen, pair.rejected, pair.preference, pair.margin, pair.source


def hashes(labels: ProjectLabels) -> dict[str, str]:
    return {
        kind: content_hash(kind, [row.content for row in export_rows(labels, kind)])
        for kind in KINDS
        if kind != "comparisons"
    }


def test_a_decision_replaces_the_votes_in_every_kind(labels: Any) -> None:
    found = labels(decided(1, "choice", choice="b", strength=2, comment="B is true"))
    assert [short(p) for p in pairs(labels(), "soft")] == [("A", "B", 2 / 3, 0.0, "mine")]
    for kind in ("pairs", "margins", "ratings"):
        assert [short(pair) for pair in pairs(found, kind)] == [("B", "A", 1.0, 2.0, LEAD)]
    assert [short(pair) for pair in pairs(found, "soft")] == [("B", "A", 1.0, 0.0, LEAD)]
    assert [short(p) for p in preference_pairs(found)][:1] == [("B", "A", 1.0, 2.0, LEAD)]
    (row,) = [r for r in export_rows(found, "judgements") if r.content["comparison_id"] == "c1"]
    assert (row.content["annotator_id"], row.content["choice"]) == (LEAD, "b")
    assert row.content["rationale"] == "B is true"


def test_provenance_names_the_decision_and_the_votes_it_replaces(labels: Any) -> None:
    found = labels(decided(1, "tie", number=7, comment="why"))
    for kind in ("pairs", "soft", "judgements", "comparisons"):
        (row,) = [r for r in export_rows(found, kind) if r.content["comparison_id"] == "c1"]
        assert row.provenance["decision"] == {
            "id": 7,
            "by": "lea",
            "at": (NOW + 7 * HOUR).isoformat(),
            "comment": "why",
            "replaces": [1, 2, 3],
        }
        assert row.provenance["judgements"] == []


def test_a_tie_stays_a_tie_and_both_bad_drops_the_item(labels: Any) -> None:
    tie, bad = labels(decided(1, "tie")), labels(decided(1, "both_bad"))
    for kind in ("pairs", "soft", "ratings"):
        assert [p.preference for p in pairs(tie, kind)] == [0.5]
    assert pairs(tie, "margins") == []  # no better side
    for kind in ("pairs", "soft", "margins", "ratings", "rankings"):
        assert pairs(bad, kind) == []
    said = [r.content["choice"] for r in export_rows(bad, "judgements")]
    assert said == ["both_bad", "a"]


def test_a_ranking_is_decided_by_a_ranking() -> None:
    votes = [
        judged(1, 1, "ana", ranking=(("a",), ("b",), ("c",))),
        judged(2, 1, "bo", ranking=(("b",), ("a",), ("c",))),
    ]
    verdict = decided(1, "choice", choice="c", ranking=(("c",), ("a", "b")))
    found = ProjectLabels.of([make_item(1, "abc", kind="ranking")], votes, [verdict])
    (row,) = export_rows(found, "rankings")
    assert (row.content["ranks"], row.content["annotator"]) == ([2, 2, 1], LEAD)
    soft = {(p.chosen, p.rejected): p.preference for p in pairs(found, "soft")}
    assert soft.pop(("C", "A")) == soft.pop(("C", "B")) == 1.0
    assert list(soft.values()) == [0.5]


def test_the_newest_decision_counts_and_a_withdrawal_brings_the_votes_back(labels: Any) -> None:
    first, second = decided(1, "tie"), decided(1, "choice", number=2, choice="b")
    assert [short(p)[:2] for p in pairs(labels(second, first), "pairs")] == [("B", "A")]
    third = decided(1, WITHDRAWN, number=3)
    assert hashes(labels(first, second, third)) == hashes(labels())
    again = labels(first, second, third, decided(1, "tie", number=4))
    assert pairs(again, "soft") == pairs(labels(first), "soft") != pairs(labels(), "soft")


def test_ratings_of_a_decision_lie_about_the_middle_as_far_apart_as_its_strength(
    labels: Any,
) -> None:
    def scores(**fields: Any) -> list[float]:
        found = export_rows(labels(decided(1, "choice", choice="a", **fields)), "ratings")
        return found[0].content["scores"]

    assert scores(strength=3) == [7.0, 4.0]
    assert scores() == scores(strength=0) == [6.0, 5.0]
    # nobody rated the second item
    assert len(export_rows(labels(decided(2, "choice", choice="a")), "ratings")) == 1


VERDICTS = st.sampled_from(["choice", "tie", "both_bad"])


@ordinary
@given(data=st.data())
def test_no_vote_on_a_decided_item_comes_out_and_no_other_item_changes(
    any_labels: Strategy, data: st.DataObject
) -> None:
    labels = data.draw(any_labels)
    chosen = data.draw(st.sets(st.sampled_from(sorted(labels.items))))
    decisions: list[Adjudicated] = []
    for number in chosen:
        verdict, names = data.draw(VERDICTS), [a.response_id for a in labels.items[number].answers]
        said: dict[str, Any] = {"choice": names[0]} if verdict == "choice" else {}
        if said and len(names) > 2:
            said["ranking"] = tuple((name,) for name in names)
        decisions.append(decided(number, verdict, number=number + 1, **said))
    settled = ProjectLabels(
        items=labels.items, judgements=labels.judgements, adjudications=tuple(decisions)
    )
    ordinary_ones = chosen & labels.about_answers.items.keys()
    for kind in KINDS:
        rows = export_rows(settled, kind)
        about = [row for row in rows if row.provenance["item"] in ordinary_ones]
        assert all("decision" in row.provenance for row in about)
        assert all(row.provenance["judgements"] == [] for row in about)
        others = [row for row in rows if row.provenance["item"] not in chosen]
        before = [r for r in export_rows(labels, kind) if r.provenance["item"] not in chosen]
        assert others == before
        for row in about:
            texts = [a.text for a in settled.items[row.provenance["item"]].answers]
            if settled.decisions[row.provenance["item"]].choice:
                assert all(texts.index(p.chosen) < texts.index(p.rejected) for p in row.pairs)
    assert {row.provenance["item"] for row in export_rows(settled, "judgements")} >= ordinary_ones


def test_a_project_with_a_decision(
    database: Database, store: Any, some_labels: ProjectLabels, tmp_path: Path
) -> None:
    """From the database to files and training, there and back."""
    store(database, some_labels)
    where = str(tmp_path / "project")
    before = {
        kind: export_project(database, "", tmp_path / kind, Query(kind=kind)).hash
        for kind in ("pairs", "soft", "margins", "judgements")
    }
    with database.transaction() as session:
        lead = User(name="lea", role="lead", locale="", active=True, created_at=now())
        session.add(lead)
        session.flush()
        worse = overview.responses_of(session, [1])[1][0]
        said = JudgementIn(key="decision", verdict="choice", choice=worse.public_id, comment="so")
        adjudicating.adjudicate(session, 1, lead.id, 1, said)
    for kind, digest in before.items():
        made = export_project(database, "", tmp_path / kind, Query(kind=kind))
        assert made.hash != digest
        assert made.counts["decided"] == 1
    mine = [p for p in project_pairs(where)[0] if p.prompt.prompt_id == "p1"]
    assert [(pair.chosen, pair.source) for pair in mine] == [(worse.text, LEAD)]
    assert (tmp_path / "judgements" / "comparisons.jsonl").read_text().count("\n") == 12
    with database.transaction() as session:
        adjudicating.withdraw_decision(session, 1, lead.id, 1)
    with database.reading() as session:
        assert load_labels(session, 1).decisions == {}
    for kind, digest in before.items():
        assert export_project(database, "", tmp_path / kind, Query(kind=kind)).hash == digest
