"""Whose judgements an export reads, of which time, and what each vote weighs."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.errors import UserError
from alignloop.label.exports import KINDS, Query, Selection, export_project, export_rows, select
from alignloop.label.exports.tallies import Weights
from alignloop.label.labels.project_labels import (
    Adjudicated,
    Item,
    ItemAnswer,
    ProjectLabels,
    StoredJudgement,
)
from alignloop.label.quality.reliability import reliabilities
from alignloop.label.store.database import Database
from alignloop.records import Message, Prompt

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
Strategy = st.SearchStrategy[ProjectLabels]
ordinary = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def make_item(number: int, texts: str = "ab", **fields: Any) -> Item:
    turn = Message(role="user", content=f"q{number}")
    return Item(
        item_id=number,
        comparison_id=f"c{number}",
        prompt=Prompt(prompt_id=f"p{number}", messages=(turn,)),
        answers=tuple(ItemAnswer(response_id=text, text=text.upper()) for text in texts),
        **fields,
    )


def judged(number: int, item: int, name: str, choice: str = "a", **fields: Any) -> StoredJudgement:
    fields = {"verdict": "choice", "created_at": NOW + number * DAY, **fields}
    fields["choice"] = choice if fields["verdict"] == "choice" else None
    return StoredJudgement(judgement_id=number, item_id=item, annotator=name, **fields)


def numbers(labels: ProjectLabels) -> list[int]:
    return [one.judgement_id for one in labels.judgements if one.decision is None]


@pytest.fixture
def labels() -> ProjectLabels:
    """ana and bo each judged items 1 and 2 (days 1 to 4), and one gold question, ana rightly."""
    items = [make_item(1, batch="x"), make_item(2, batch="y"), make_item(3, gold="a")]
    said = [
        judged(1, 1, "ana"),
        judged(2, 1, "bo", "b"),
        judged(3, 2, "ana"),
        judged(4, 2, "bo"),
        judged(5, 3, "ana"),
        judged(6, 3, "bo", "b"),
        judged(7, 2, "chen"),
    ]
    return ProjectLabels.of(items, said)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), [1, 2, 3, 4, 5, 6, 7]),
        (Selection(annotators=("ana", "chen")), [1, 3, 5, 7]),
        (Selection(without=("bo",)), [1, 3, 5, 7]),
        (Selection(since=NOW + 3 * DAY), [3, 4, 5, 6, 7]),
        (Selection(until=NOW + 3 * DAY), [1, 2]),
        (Selection(since=NOW + 2 * DAY, until=NOW + 4 * DAY, without=("bo",)), [3]),
        (Selection(batch="y"), [3, 4, 7]),
        (Selection(min_gold=0.5), [1, 3, 5]),
    ],
)
def test_filters(labels: ProjectLabels, selection: Selection, expected: list[int]) -> None:
    assert numbers(select(labels, selection)[0]) == expected


def test_who_was_left_out_is_said_with_the_reason(labels: ProjectLabels) -> None:
    assert select(labels, Selection(min_gold=0.5))[1] == {
        "bo": "gold accuracy 0.000 is below 0.5",
        "chen": "gold accuracy unknown",
    }
    assert select(labels, Selection(annotators=("bo",)))[1] == {
        "ana": "not among those chosen",
        "chen": "not among those chosen",
    }


def test_by_dawid_skene_quality() -> None:
    items = [make_item(number) for number in range(1, 21)]
    good = {"ana", "bo", "dara"}
    said = [
        judged(100 * row + n, n, name, "a" if name in good or n % 2 else "b")
        for row, name in enumerate((*sorted(good), "careless"))
        for n in range(1, 21)
    ]
    kept, out = select(ProjectLabels.of(items, said), Selection(min_dawid_skene=0.8))
    assert list(out) == ["careless"]
    assert {one.annotator for one in kept.judgements} == good


def test_names_that_there_are_not_are_refused(labels: ProjectLabels) -> None:
    with pytest.raises(UserError, match=r"--without: .*no annotator .*'zoe'.*ana, bo, chen"):
        select(labels, Selection(without=("zoe",)))
    with pytest.raises(UserError, match=r"no batch 'z'.*x, y"):
        select(labels, Selection(batch="z"))


def test_a_decision_stands_whoever_is_left_out_and_its_votes_never_come_back(
    labels: ProjectLabels,
) -> None:
    verdict = Adjudicated(item_id=1, by="lea", verdict="tie", created_at=NOW + 9 * DAY)
    decided = ProjectLabels.of(labels.items.values(), labels.judgements, [verdict])
    kept, _ = select(decided, Selection(annotators=("chen",)))
    assert [(one.annotator, one.item_id) for one in kept.judgements] == [("chen", 2), ("lead", 1)]
    # before the decision: neither the votes that it replaced nor the verdict
    kept, _ = select(decided, Selection(until=NOW + 5 * DAY))
    assert [one.item_id for one in kept.judgements] == [2, 2]


@ordinary
@given(data=st.data())
def test_an_export_without_somebody_is_that_of_a_project_without_them(
    any_labels: Strategy, data: st.DataObject
) -> None:
    labels = data.draw(any_labels)
    people = sorted({one.annotator for one in labels.judgements})
    out = data.draw(st.sets(st.sampled_from(people))) if people else set[str]()
    never = ProjectLabels.of(
        labels.items.values(), [one for one in labels.judgements if one.annotator not in out]
    )
    kept, _ = select(labels, Selection(without=tuple(out)))
    for kind in KINDS:
        assert export_rows(kept, kind) == export_rows(never, kind)


# --- weights -----------------------------------------------------------------------------------


def with_gold(hits: dict[str, tuple[int, int]], said: list[StoredJudgement]) -> ProjectLabels:
    """Each person answered so many gold questions, of which so many rightly."""
    items, judgements = [make_item(1), make_item(2, "abc")], list(said)
    for name, (right, cases) in hits.items():
        for n in range(cases):
            number = len(items) + 1
            items.append(make_item(number, gold="a"))
            choice = "a" if n < right else "b"
            judgements.append(judged(1000 + len(judgements), number, name, choice))
    return ProjectLabels.of(items, judgements)


def test_gold_weights_by_hand() -> None:
    said = [
        judged(1, 1, "ana", "a", strength=2),
        judged(2, 1, "bo", "b", strength=3),
        judged(3, 1, "chen", "b", strength=1),
        judged(4, 1, "dara", verdict="tie"),
    ]
    labels = with_gold({"ana": (9, 10), "bo": (5, 10)}, said)
    # all: 14 of 20 right, m = 15/22; ana (9 + 30/22) / 12, bo (5 + 30/22) / 12, chen m
    m = 15 / 22
    share = {"ana": (9 + 2 * m) / 12, "bo": (5 + 2 * m) / 12, "chen": m, "dara": m}
    people = reliabilities(labels, "gold")
    assert {name: people[name].share for name in share} == pytest.approx(share)
    w = {name: math.log(p / (1 - p)) for name, p in share.items()}
    assert w == pytest.approx(
        {"ana": 1.8458, "bo": 0.1214, "chen": 0.7621, "dara": 0.7621}, abs=1e-4
    )
    weights = Weights(method="gold", people=people)
    (row,) = export_rows(labels, "soft", weights)
    # a against b: 1.8458 - 0.1214 - 0.7621 = 0.9623: two of three say b, but ana is right more
    assert row.content["chosen"] == "A"
    assert row.content["preference"] == pytest.approx(1 / (1 + math.exp(-0.9623)), abs=1e-4)
    (row,) = export_rows(labels, "margins", weights)
    # (2 * 1.8458 - 3 * 0.1214 - 0.7621 + 0) / (1.8458 + 0.1214 + 2 * 0.7621)
    assert row.content["margin"] == pytest.approx(2.5655 / 3.4915, abs=1e-3)
    stated = row.provenance["weights"]
    assert stated["method"] == "gold"
    assert stated["annotators"]["ana"] == {
        "log_odds": pytest.approx(1.8458, abs=1e-4),
        "share": pytest.approx(share["ana"], abs=1e-6),
        "right": 9.0,
        "gold": 10.0,
    }
    assert stated["annotators"]["chen"]["gold"] == 0.0
    plain = export_rows(labels, "soft")[0]
    assert (plain.content["chosen"], "weights" in plain.provenance) == ("B", False)


def test_a_choice_among_three_weighs_more_than_one_among_two() -> None:
    labels = with_gold({"ana": (3, 4)}, [judged(1, 2, "ana", "b")])
    # m = 4/6, share (3 + 8/6) / 6 = 13/18; the two wrong ones share 5/18: log(13 / 2.5)
    rows = export_rows(labels, "soft", Weights(method="gold", people=reliabilities(labels, "gold")))
    found = {row.content["rejected"]: row.content["preference"] for row in rows}
    assert found == pytest.approx({"A": 13 / 15.5, "C": 13 / 15.5})


def test_dawid_skene_weights_outvote_the_careless() -> None:
    items = [make_item(number) for number in range(1, 32)]
    said: list[StoredJudgement] = []
    for n in range(1, 31):
        for row, name in enumerate(("ana", "bo", "chen", "dara")):
            wrong = row >= 2 and (n + row) % 2
            said.append(judged(10 * n + row, n, name, "b" if wrong else "a"))
    said += [judged(901, 31, "ana"), judged(902, 31, "chen", "b"), judged(903, 31, "dara", "b")]
    labels = ProjectLabels.of(items, said)
    people = reliabilities(labels, "dawid-skene")
    assert people["ana"].log_odds() > 2 > 0.5 > abs(people["chen"].log_odds())
    rows = export_rows(labels, "soft", Weights(method="dawid-skene", people=people))
    (last,) = [row for row in rows if row.content["comparison_id"] == "c31"]
    assert last.content["chosen"] == "A" and last.content["preference"] > 0.8
    assert "cases" in last.provenance["weights"]["annotators"]["ana"]


def test_a_lead_has_no_weight() -> None:
    labels = with_gold({"ana": (9, 10)}, [judged(1, 1, "ana")])
    verdict = Adjudicated(item_id=1, by="lea", verdict="choice", choice="b", created_at=NOW)
    labels = ProjectLabels.of(labels.items.values(), labels.judgements, [verdict])
    (row,) = export_rows(
        labels, "soft", Weights(method="gold", people=reliabilities(labels, "gold"))
    )
    assert (row.content["chosen"], row.content["preference"]) == ("B", 1.0)
    assert "weights" not in row.provenance


def test_what_cannot_be_weighted_is_said(
    database: Database, store: Callable[..., int], some_labels: ProjectLabels, tmp_path: Path
) -> None:
    store(database, some_labels)
    with pytest.raises(UserError, match="no gold question has been answered"):
        export_project(database, "", tmp_path / "a", Query(kind="soft", weights="gold"))
    with pytest.raises(UserError, match="--weights: pairs have a row for each judgement"):
        export_project(database, "", tmp_path / "a", Query(kind="pairs", weights="gold"))
    single = ProjectLabels.of([make_item(1)], [judged(1, 1, "ana")])
    with pytest.raises(UserError, match="too few items were judged by the same people"):
        reliabilities(single, "dawid-skene")
    assert not (tmp_path / "a").exists()


def test_the_manifest_states_filters_weights_and_who_was_left_out(
    database: Database, store: Callable[..., int], some_labels: ProjectLabels, tmp_path: Path
) -> None:
    third = [
        StoredJudgement(**(vars(one) | {"annotator": "cy", "judgement_id": 100 + n, "key": ""}))
        for n, one in enumerate(some_labels.judgements)
        if one.annotator == "ana"
    ]
    store(database, some_labels.plus(third))
    query = Query(kind="soft", weights="dawid-skene", since=NOW, without=("bo",))
    made = export_project(database, "", tmp_path / "out", query)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["query"]["since"] == NOW.isoformat()
    assert (manifest["query"]["without"], manifest["query"]["weights"]) == (["bo"], "dawid-skene")
    assert manifest["left_out"] == made.left_out == {"bo": "excluded by name"}
    assert list(manifest["weights"]["annotators"]) == ["ana", "cy"]
    assert made.counts["annotators"] == 2
