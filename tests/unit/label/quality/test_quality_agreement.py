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
from alignloop.label.quality.annotators import dawid_skene_accuracy

REFERENCE = Path(__file__).resolve().parents[5] / "shared/data/reference"
Make = Callable[..., Any]


def golden(name: str) -> Any:
    path = REFERENCE / "golden_values.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))[name]


def test_raw_cohen_and_alpha_by_hand(labels: Make) -> None:
    # ana and bo agree on 3 of 4: ana a a b b, bo a a b a. Which answer is "0" is arbitrary, so
    # each of two labels of one item is either name with 1/2, and both change together.
    found = agreement(
        "", votes_of(labels({"ana": ["a", "a", "b", "b"], "bo": ["a", "a", "b", "a"]}))
    )
    assert (found.units, found.votes) == (4, 8)
    assert found.raw is not None and found.raw.value == 3 / 4
    # Cohen: both margins 2 2, e = (8 + 3 (1 - 1/2) + (0 - 1/2)) / 16 = 9/16
    assert found.cohen == pytest.approx((12 - 9) / (16 - 9))
    # sum of E[n_k^2]: margins 4 4 give 32, three items of equal labels 4 - 2 each: 38 of 64
    assert found.fleiss == pytest.approx((48 - 38) / (64 - 38))
    # alpha: o = 2 of 8 apart, e = 64 - 38: 1 - 7 * 2 / 26
    assert found.alpha is not None and found.alpha.value == pytest.approx(1 - 14 / 26)
    assert found.alpha.low < found.alpha.value < found.alpha.high
    assert found.raw.n == found.alpha.n == 4


def test_alpha_of_strength_sees_how_far_apart_people_are(labels: Make) -> None:
    near = labels({"ana": ["a3", "b3", "a1"], "bo": ["a3", "b3", "a0"]})
    far = labels({"ana": ["a3", "b3", "a1"], "bo": ["a3", "b3", "b3"]})
    close, distant = (agreement("", votes_of(one)).alpha_strength for one in (near, far))
    assert close is not None and distant is not None
    # alpha = 1 - (n - 1) o / e over squared differences of mid-ranks, each pair counted both ways.
    # Each item's signs turn with probability 1/2.
    # near, as signed pairs (4,4) (4,4) (2,1): margins 2 .5 .5 .5 .5 2, mid-ranks 1 2.25 2.75 and
    # so on, about 3: o = 2 * .25
    # e / 2: items 1 and 2: 4 * 16 / 2; each with item 3: 2 (4.5625 + 4.0625); within item 3: .25
    assert close.value == pytest.approx(1 - 5 * 0.5 / (2 * (32 + 2 * 17.25 + 0.25)))
    # far, (4,4) (4,4) (-2,4): margins 2.5 .5 .5 2.5, mid-ranks 1.25 2.75 3.25 4.75: o = 2 * 4
    # e / 2: 4 * 12.25 / 2; each with item 3: 2 (3.125 + 6.125); within item 3: 4
    assert distant.value == pytest.approx(1 - 5 * 8 / (2 * (24.5 + 2 * 18.5 + 4)))


def test_what_nobody_judged_twice_has_no_agreement(labels: Make) -> None:
    found = agreement("", votes_of(labels({"ana": ["a", "b", ""], "bo": ["", "skip", "a"]})))
    assert (found.units, found.raw, found.alpha, found.cohen, found.fleiss) == (0,) + (None,) * 4
    same = agreement("", votes_of(labels({"ana": ["tie", "tie"], "bo": ["tie", "tie"]})))
    # one label only: chance agrees as well, so that nothing is beyond chance; raw still says 1,
    # and its interval says how little two prompts prove
    assert (same.alpha, same.cohen, same.fleiss) == (None, None, None)
    assert same.raw is not None and same.raw.value == 1
    assert same.raw.low == pytest.approx(0.05 ** (1 / 2), abs=1e-6)  # of two the mid-p: p^2 = .05


WORDS = st.sampled_from(["a", "b", "tie", "both_bad", "a1", "b3", ""])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=2, max_size=6), data=st.data())
def test_no_figure_depends_on_which_answer_is_the_first(
    said: list[tuple[str, str, str]], data: st.DataObject, item: Make, labels: Make
) -> None:
    """Swapping the two texts of an item swaps the names of its labels, and nothing else."""
    turned = data.draw(st.lists(st.booleans(), min_size=len(said), max_size=len(said)))

    def of(is_turned: list[bool]) -> Any:
        words = [
            tuple(turned_word(word) if turn else word for word in row)
            for row, turn in zip(said, is_turned, strict=True)
        ]
        people = {name: [row[n] for row in words] for n, name in enumerate(("ana", "bo", "chen"))}
        made = labels(people, [item(n) for n in range(len(said))])
        found = agreement("", votes_of(made))
        return found, dawid_skene_accuracy(made), [one.kappa for one in confusions(votes_of(made))]

    (one, true, kappas), (other, same, same_kappas) = of([False] * len(said)), of(turned)
    assert figures(one) == pytest.approx(figures(other), nan_ok=True)
    assert kappas == pytest.approx(same_kappas)
    assert {name: e.value for name, e in true.items()} == pytest.approx(
        {name: e.value for name, e in same.items()}, abs=1e-6
    )


def turned_word(word: str) -> str:
    return word if word in ("tie", "both_bad") else word.translate(str.maketrans("ab", "ba"))


def figures(found: Any) -> list[float]:
    shares = [found.raw, found.alpha, found.alpha_strength]
    values = [value for share in shares if share for value in (share.value, share.low, share.high)]
    return [*values, *(float("nan") if k is None else k for k in (found.cohen, found.fleiss))]


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
