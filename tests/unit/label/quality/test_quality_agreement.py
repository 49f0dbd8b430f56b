"""Agreement through the label room's own rows: by hand, and against published values."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignloop.label.labels.project_labels import Item, ProjectLabels, StoredJudgement, standing
from alignloop.label.labels.votes import votes_of
from alignloop.label.quality.agreement import (
    agreement,
    by_annotator,
    by_category,
    by_models,
    by_pair,
    confusions,
)

REFERENCE = Path(__file__).resolve().parents[5] / "shared/data/reference"
Make = Callable[..., Any]


def golden(name: str) -> Any:
    path = REFERENCE / "golden_values.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))[name]


def test_raw_cohen_and_alpha_by_hand(labels: Make) -> None:
    # ana and bo agree on 3 of 4. Labels: 4 a, 4 b or the like, so that the numbers hold for
    # either content order: ana a a b b, bo a a b a
    found = agreement(
        "", votes_of(labels({"ana": ["a", "a", "b", "b"], "bo": ["a", "a", "b", "a"]}))
    )
    assert (found.units, found.votes) == (4, 8)
    assert found.raw is not None and found.raw.value == 3 / 4
    # Cohen: e = 1/2 * 3/4 + 1/2 * 1/4 = 1/2, kappa = (3/4 - 1/2) / (1/2)
    assert found.cohen == pytest.approx(0.5)
    # Fleiss: 5 of one label and 3 of the other: e = 25/64 + 9/64, (3/4 - 34/64) / (30/64)
    assert found.fleiss == pytest.approx((48 - 34) / 30)
    # alpha: o = 2 of 8 apart; n_a n_b = 15: 1 - 7 * 2 / (2 * 15)
    assert found.alpha is not None and found.alpha.value == pytest.approx(1 - 14 / 30)
    assert found.alpha.low < found.alpha.value < found.alpha.high
    assert found.raw.n == found.alpha.n == 4


def test_alpha_of_strength_sees_how_far_apart_people_are(labels: Make) -> None:
    near = labels({"ana": ["a3", "b3", "a1"], "bo": ["a3", "b3", "a0"]})
    far = labels({"ana": ["a3", "b3", "a1"], "bo": ["a3", "b3", "b3"]})
    close, distant = (agreement("", votes_of(one)).alpha_strength for one in (near, far))
    assert close is not None and distant is not None
    # alpha = 1 - (n - 1) o / e over squared differences of mid-ranks, each pair counted both ways
    # near, as signed pairs (-4,-4) (4,4) (-2,-1): counts 2 1 1 2, mid-ranks 1 2.5 3.5 5
    # o = 2 * 1, e = 2 (2 * 2.25 + 2 * 6.25 + 4 * 16 + 1 + 2 * 6.25 + 2 * 2.25)
    assert close.value == pytest.approx(1 - 5 * 2 / 198)
    # far, (-4,-4) (4,4) (-2,4): counts 2 1 3, mid-ranks 1 2.5 4.5
    # o = 2 * 4, e = 2 (2 * 2.25 + 6 * 12.25 + 3 * 4)
    assert distant.value == pytest.approx(1 - 5 * 8 / 180)


def test_what_nobody_judged_twice_has_no_agreement(labels: Make) -> None:
    found = agreement("", votes_of(labels({"ana": ["a", "b", ""], "bo": ["", "skip", "a"]})))
    assert (found.units, found.raw, found.alpha, found.cohen, found.fleiss) == (0,) + (None,) * 4
    same = agreement("", votes_of(labels({"ana": ["a", "a"], "bo": ["a", "a"]})))
    # one label only: chance agrees as well, so that nothing is beyond chance; raw still says 1,
    # and its interval says how little two prompts prove
    assert (same.alpha, same.cohen, same.fleiss) == (None, None, None)
    assert same.raw is not None and same.raw.value == 1
    assert same.raw.low == pytest.approx(0.05 ** (1 / 2), abs=1e-6)  # of two the mid-p: p^2 = .05


def test_by_annotator_is_against_the_others(labels: Make) -> None:
    said = {"ana": ["a", "a", "b"], "bo": ["a", "a", "b"], "chen": ["b", "a", "a"]}
    found = {one.name: one for one in by_annotator(votes_of(labels(said)))}
    # ana: with bo 3 of 3, with chen 1 of 3; chen: 1 of 3 with either
    assert [found[name].raw.value for name in said] == [4 / 6, 4 / 6, 2 / 6]
    assert found["ana"].units == 6 and found["ana"].raw.n == 3
    assert found["ana"].alpha.value > found["chen"].alpha.value


def test_somebody_called_others_is_a_person_like_any_other(labels: Make) -> None:
    said = {"others": ["a", "a", "b"], "bo": ["a", "a", "b"], "chen": ["b", "a", "a"]}
    found = {one.name: one for one in by_annotator(votes_of(labels(said)))}
    assert [found[name].raw.value for name in said] == [4 / 6, 4 / 6, 2 / 6]


def test_slices_by_category_models_and_pair_of_people(labels: Make, item: Make) -> None:
    items = [
        item(0, category="howto", models=["sft", "rl"]),
        item(1, category="howto", models=["rl", "sft"]),
        item(2, category="tips", models=["sft", "base"]),
    ]
    said = {"ana": ["a", "a", "a"], "bo": ["a", "b", "b"], "chen": ["", "", "a"]}
    votes = votes_of(labels(said, items))
    raw = {s.name: (s.raw.value, s.units) for s in by_category(votes)}
    assert raw == {"howto": (1 / 2, 2), "tips": (1 / 3, 1)}
    raw = {s.name: (s.raw.value, s.units) for s in by_models(votes)}
    assert raw == {"rl ~ sft": (1 / 2, 2), "base ~ sft": (1 / 3, 1)}
    raw = {s.name: (s.raw.value, s.units) for s in by_pair(votes)}
    assert raw == {"ana ~ bo": (1 / 3, 3), "ana ~ chen": (1.0, 1), "bo ~ chen": (0.0, 1)}


def test_rankings_agree_pair_by_pair(labels: Make, item: Make) -> None:
    items = [item(0, "abc", kind="ranking", models=["x", "y", "z"])]
    votes = votes_of(labels({"ana": ["a>b>c"], "bo": ["b>a=c"]}, items))
    found = agreement("", votes)
    # ab: a / b; ac: a / tie; bc: b / b
    assert found.raw is not None and found.raw.value == 1 / 3
    assert (found.units, found.raw.n) == (3, 1)  # three units, but one prompt
    assert {one.name: one.raw.value for one in by_models(votes)} == {
        "x ~ y": 0.0,
        "x ~ z": 0.0,
        "y ~ z": 1.0,
    }


def test_confusion_is_by_content(labels: Make, item: Make) -> None:
    straight = [item(n, "ab") for n in range(5)]
    turned = [item(n, "ba" if n % 2 else "ab") for n in range(5)]
    said = {"ana": ["a", "b", "tie", "both_bad", "a"], "bo": ["a", "a", "tie", "tie", ""]}
    (one,) = confusions(votes_of(labels(said, straight)))
    assert (one.first, one.second, one.total) == ("ana", "bo", 4)
    assert one.labels == ("0", "1", "tie", "both_bad")
    a = straight[0].in_content_order.index("a")
    expected = [[0, 0, 0, 0] for _ in range(4)]
    expected[a][a], expected[1 - a][a], expected[2][2], expected[3][2] = 1, 1, 1, 1
    assert one.counts == tuple(map(tuple, expected))
    assert confusions(votes_of(labels(said, turned))) == [one]  # filed the other way round


def test_what_was_superseded_or_withdrawn_does_not_count(item: Make, judged: Make) -> None:
    one = item(0)
    first = judged(1, one, "ana", "a")
    second = judged(2, one, "ana", "b", supersedes=1)
    third = judged(3, one, "ana", "a", supersedes=2, withdrawn=True)
    other = judged(4, one, "bo", "tie")
    assert standing([second, first, other]) == (second, other)
    assert standing([first, second, third, other]) == (other,)
    assert [
        vote.annotator for vote in votes_of(ProjectLabels.of([one], [first, second, third]))
    ] == []


def test_gold_and_repeats_are_not_about_answers(labels: Make, item: Make) -> None:
    items = [item(0), item(1, gold="a"), item(2, why="repeat", repeat_of=0)]
    every = labels({"ana": ["a", "a", "b"]}, items)
    assert set(every.about_answers.items) == {0}
    assert [one.item_id for one in every.about_answers.judgements] == [0]


def rows_of(
    table: list[tuple[str, int, str]], item: Make, judged: Make, texts: str
) -> ProjectLabels:
    """(coder, unit, value) triples as choices among K answers named by the values."""
    items: dict[int, Item] = {unit: item(unit, texts) for _, unit, _ in table}
    said: list[StoredJudgement] = [
        judged(number, items[unit], coder, value)
        for number, (coder, unit, value) in enumerate(table)
    ]
    return ProjectLabels.of(items.values(), said)


def test_golden_krippendorff(item: Make, judged: Make) -> None:
    known = golden("krippendorff_4coders_12units")
    letters = dict(zip("12345", "abcde", strict=True))
    table = [(c, int(u), letters[v]) for c, u, v in known["data_coder_unit_value"]]
    found = agreement("", votes_of(rows_of(table, item, judged, "abcde")))
    assert found.alpha is not None
    assert found.alpha.value == pytest.approx(known["published"]["nominal"], abs=1e-11)


def test_golden_cohen(item: Make, judged: Make) -> None:
    known = golden("cohen_sas_3x3")
    cells = [
        (row, column)
        for row, counts in enumerate(known["table"])
        for column, count in enumerate(counts)
        for _ in range(count)
    ]
    table = [
        (coder, unit, "abc"[value])
        for unit, cell in enumerate(cells)
        for coder, value in zip(("one", "two"), cell, strict=True)
    ]
    (found,) = confusions(votes_of(rows_of(table, item, judged, "abc")))
    assert found.total == len(cells)
    assert found.kappa == pytest.approx(known["recomputed_here"]["kappa"], rel=1e-12)
    assert round(found.kappa or 0, 4) == known["published"]["kappa"]


def test_golden_fleiss(item: Make, judged: Make) -> None:
    known = golden("fleiss_wikipedia")
    table = [
        (f"rater {rater}", unit, letter)
        for unit, counts in enumerate(known["table"])
        for rater, letter in enumerate(
            letter for letter, count in zip("abcde", counts, strict=True) for _ in range(int(count))
        )
    ]
    found = agreement("", votes_of(rows_of(table, item, judged, "abcde")))
    assert found.fleiss == pytest.approx(known["recomputed_here"], rel=1e-12)
    assert found.raw is not None and found.raw.value == pytest.approx(0.378021978)


WORDS = st.sampled_from(["a0", "a2", "b0", "b3", "tie", "both_bad", "skip", ""])


@pytest.mark.slow
@given(said=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=12), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # they hold no state
def test_swapping_the_answers_changes_nothing(
    labels: Make, item: Make, said: list[tuple[str, ...]], data: st.DataObject
) -> None:
    people = dict(zip(("ana", "bo", "chen"), zip(*said, strict=True), strict=True))
    turned = [data.draw(st.booleans()) for _ in said]
    plain = labels(people, [item(n) for n in range(len(said))])
    swapped = labels(people, [item(n, "ba" if turn else "ab") for n, turn in enumerate(turned)])
    one, other = (agreement("", votes_of(every)) for every in (plain, swapped))
    assert one == other
