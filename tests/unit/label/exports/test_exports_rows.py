"""What each kind of export makes of labels, by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.data.preferences import pairs_from_judgements
from alignloop.label.exports import KINDS, ExportRow, export_rows
from alignloop.label.exports.export_rows import comparison_record, judgement_record
from alignloop.label.labels.pairs import content_hash, preference_pairs
from alignloop.label.labels.project_labels import Item, ItemAnswer, ProjectLabels, StoredJudgement
from alignloop.records import Message, PreferencePair, Prompt

SCORES = {"a": {"helpful": 5.0}, "b": {"helpful": 2.0}}
NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
Strategy = st.SearchStrategy[ProjectLabels]
ordinary = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def make_item(number: int, texts: str, **fields: Any) -> Item:
    return Item(
        item_id=number,
        comparison_id=f"c{number}",
        prompt=Prompt(
            prompt_id=f"p{number}", messages=(Message(role="user", content=f"q{number}"),)
        ),
        answers=tuple(ItemAnswer(response_id=text, text=text.upper()) for text in texts),
        **fields,
    )


def make_judged(number: int, item: int, name: str, **fields: Any) -> StoredJudgement:
    fields = {"verdict": "choice", "created_at": NOW, "guideline": 2, **fields}
    return StoredJudgement(judgement_id=number, item_id=item, annotator=name, **fields)


@pytest.fixture
def labels() -> ProjectLabels:
    """Two answers judged by four, three ranked by one, two rated, a gold question, a repeat."""
    items = [
        make_item(1, "ab"),
        make_item(2, "abc"),
        make_item(3, "ab"),
        make_item(4, "ab", gold="a"),
        make_item(5, "ab", repeat_of=1, why="repeat"),
        make_item(6, "ab"),
    ]
    said = [
        make_judged(1, 1, "ana", choice="a", strength=3, scores=SCORES, levels={"helpful": 5}),
        make_judged(2, 1, "bo", choice="b", strength=1),
        make_judged(3, 1, "chen", choice="a", strength=2),
        make_judged(4, 1, "dara", verdict="tie"),
        make_judged(5, 2, "ana", ranking=(("b",), ("a", "c"))),
        make_judged(6, 3, "ana", choice="b", ratings={"a": 6.0, "b": 9.0}),
        make_judged(7, 4, "ana", choice="a"),
        make_judged(8, 5, "ana", choice="a"),
        make_judged(9, 6, "ana", verdict="both_bad"),
        make_judged(10, 6, "bo", verdict="skip"),
    ]
    return ProjectLabels.of(items, said)


def short(pair: PreferencePair) -> tuple[Any, ...]:
    return pair.chosen, pair.rejected, pair.preference, pair.margin, pair.weight, pair.source


def pairs(labels: ProjectLabels, kind: Any) -> list[PreferencePair]:
    return [pair for row in export_rows(labels, kind) for pair in row.pairs]


def hash_of(kind: str, rows: list[ExportRow]) -> str:
    return content_hash(kind, [row.content for row in rows])


def test_training_reads_the_pairs_of_the_export(labels: ProjectLabels) -> None:
    found = pairs(labels, "pairs")
    assert len(found) == 8
    assert preference_pairs(labels) == found


def test_pairs_are_one_for_each_judgement(labels: ProjectLabels) -> None:
    found = [short(pair) for pair in pairs(labels, "pairs")]
    assert found[:3] == [
        ("A", "B", 1.0, 3.0, 1.0, "ana"),
        ("B", "A", 1.0, 1.0, 1.0, "bo"),
        ("A", "B", 1.0, 2.0, 1.0, "chen"),
    ]
    assert found[3][2:] == (0.5, 0.0, 1.0, "dara")
    # the ranking b > a = c: three pairs that weigh a third each, and stand together
    assert {one[:3] for one in found[4:7]} >= {("B", "A", 1.0), ("B", "C", 1.0)}
    assert sorted(one[2] for one in found[4:7]) == [0.5, 1.0, 1.0]
    assert [one[4] for one in found[4:7]] == [1 / 3] * 3
    assert found[7] == ("B", "A", 1.0, 0.0, 1.0, "ana")
    assert len(found) == 8  # no gold question, no repeat, no both_bad, no skip


def test_pairs_are_those_of_the_records(labels: ProjectLabels) -> None:
    two = [one for one in labels.about_answers.judgements if not one.ranking]
    records = [judgement_record(labels.items[one.item_id], one) for one in two]
    comparisons = [comparison_record(item) for item in labels.about_answers.items.values()]
    expected = pairs_from_judgements(comparisons, records)
    found = [pair for pair in pairs(labels, "pairs") if pair.weight == 1]
    assert sorted(map(short, found)) == sorted(map(short, expected))


def test_soft_labels_are_shares_of_votes(labels: ProjectLabels) -> None:
    found = {pair.comparison_id: [] for pair in pairs(labels, "soft")}
    for pair in pairs(labels, "soft"):
        found[pair.comparison_id].append(pair)
    (one,) = found["c1"]
    # a: 1 + 0 + 1 + 1/2 of four
    assert (one.chosen, one.preference, one.weight) == ("A", 2.5 / 4, 1.0)
    assert sorted(pair.preference for pair in found["c2"]) == [0.5, 1.0, 1.0]
    assert sum(pair.weight for pair in found["c2"]) == pytest.approx(1.0)
    assert set(found) == {"c1", "c2", "c3"}


def test_margins_are_mean_strengths(labels: ProjectLabels) -> None:
    (one,) = [pair for pair in pairs(labels, "margins") if pair.comparison_id == "c1"]
    # for a: 3 - 1 + 2 + 0 over four
    assert short(one)[:4] == ("A", "B", 1.0, 1.0)
    # the tie within the ranking has no better side, and so no row
    assert len([p for p in pairs(labels, "margins") if p.comparison_id == "c2"]) == 2


def test_a_majority_of_shades_against_one_clear_word_has_no_negative_margin() -> None:
    said = [
        make_judged(1, 1, "ana", choice="a", strength=0),
        make_judged(2, 1, "bo", choice="a", strength=0),
        make_judged(3, 1, "chen", choice="b", strength=3),
    ]
    (one,) = pairs(ProjectLabels.of([make_item(1, "ab")], said), "margins")
    assert (one.chosen, one.margin) == ("A", 0.0)


def test_rankings_and_ratings(labels: ProjectLabels) -> None:
    (ranking,) = export_rows(labels, "rankings")
    assert ranking.content["answers"] == ["A", "B", "C"]
    assert ranking.content["ranks"] == [2, 1, 2]
    (rating,) = export_rows(labels, "ratings")
    assert rating.content["scores"] == [6.0, 9.0]
    # 6 of 10 against 9 of 10
    assert [short(pair) for pair in rating.pairs] == [("B", "A", 1.0, 3.0, 1.0, "ana")]


def test_a_skip_says_nothing_of_the_answers_whatever_was_filled_in() -> None:
    filled = {"ranking": (("a",), ("b",)), "ratings": {"a": 9.0, "b": 2.0}}
    said = make_judged(1, 1, "ana", verdict="skip", skip_reason="upsetting", **filled)
    skipped = ProjectLabels.of([make_item(1, "ab")], [said])
    found = {kind: len(export_rows(skipped, kind)) for kind in KINDS}
    told = {"judgements": 1, "comparisons": 1}
    assert found == dict.fromkeys(KINDS, 0) | told


def test_every_row_says_where_it_comes_from(labels: ProjectLabels) -> None:
    row = export_rows(labels, "soft")[0]
    assert row.provenance == {
        "item": 1, "judgements": [1, 2, 3, 4], "guideline_versions": [2], "votes": 4
    }  # fmt: skip
    for kind in KINDS:
        for row in export_rows(labels, kind):
            assert row.provenance["item"] in labels.about_answers.items
            assert not {7, 8} & set(row.provenance["judgements"])


def test_the_hash_does_not_know_the_database(labels: ProjectLabels) -> None:
    renumbered = ProjectLabels.of(
        [
            Item(**{**vars(item), "item_id": 100 - item.item_id, "repeat_of": None})
            for item in reversed(labels.about_answers.items.values())
            if vars(item).pop("in_content_order", True)
        ],
        [
            StoredJudgement(
                **{**vars(one), "item_id": 100 - one.item_id, "judgement_id": 50 - number}
            )
            for number, one in enumerate(labels.about_answers.judgements)
        ],
    )
    for kind in KINDS:
        rows, others = export_rows(labels, kind), export_rows(renumbered, kind)
        assert [row.content for row in rows] == [row.content for row in others]
        assert hash_of(kind, rows) == hash_of(kind, others)
        assert hash_of(kind, rows[1:]) != hash_of(kind, rows)


def test_the_hash_knows_the_labels(labels: ProjectLabels) -> None:
    before = hash_of("pairs", export_rows(labels, "pairs"))
    other = make_judged(1, 1, "ana", choice="b", strength=3)
    changed = ProjectLabels.of(labels.items.values(), [other, *labels.judgements[1:]])
    assert hash_of("pairs", export_rows(changed, "pairs")) != before


@pytest.mark.slow
@ordinary
@given(data=st.data())
def test_every_judgement_weighs_one(any_labels: Strategy, data: st.DataObject) -> None:
    labels = data.draw(any_labels)
    weights: dict[int, float] = {}
    for row in export_rows(labels, "pairs"):
        (number,) = row.provenance["judgements"]
        weights[number] = weights.get(number, 0) + sum(pair.weight for pair in row.pairs)
    counted = [
        one
        for one in labels.about_answers.judgements
        if one.verdict == "tie" or one.choice is not None or one.ranking
    ]
    assert weights.keys() == {one.judgement_id for one in counted}
    assert all(weight == pytest.approx(1) for weight in weights.values())
