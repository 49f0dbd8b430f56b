"""Agreement against published and stored values, and against numbers worked by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.errors import UserError
from alignloop.stats.agreement import (
    Level,
    Triple,
    accuracy_ceiling,
    agreement_per_label,
    bennett_s,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_interval,
    raw_agreement,
    scott_pi,
)
from alignloop.stats.intervals import wilson

REFERENCE = Path(__file__).parents[4] / "shared" / "data" / "reference"

# Krippendorff's 4 coders and 12 units (None: no label); published nominal alpha 0.743421052632
CODERS: dict[str, list[int | None]] = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, None],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 3],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
TRIPLES: list[Triple] = [
    (coder, unit, value)
    for coder, values in CODERS.items()
    for unit, value in enumerate(values)
    if value is not None
]
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def golden(name: str) -> Any:
    path = REFERENCE / "golden_values.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))[name]


def test_raw_agreement_pools_pairs_of_annotators() -> None:
    # item 1: pairs aa, ab, ab: 1 of 3 agree; item 2: 1 of 1; item 3 says nothing
    assert raw_agreement([["a", "a", "b"], ["b", "b"], ["a"]]) == 2 / 4
    with pytest.raises(UserError, match="judged twice"):
        raw_agreement([["a"], []])


def test_agreement_per_label_counts_an_item_by_its_labels() -> None:
    # aab: of the 2 other labels 1/2, 1/2 and 0 agree; bb: 1 and 1; of 5 labels (1 + 2) / 5
    assert agreement_per_label([["a", "a", "b"], ["b", "b"], ["a"]]) == pytest.approx(3 / 5)
    with pytest.raises(UserError, match="judged twice"):
        agreement_per_label([["a"], []])


@given(labels=st.lists(st.lists(st.sampled_from("ab"), min_size=3, max_size=3), min_size=1))
def test_with_equally_many_labels_both_agreements_are_one(labels: list[list[str]]) -> None:
    assert agreement_per_label(labels) == pytest.approx(raw_agreement(labels))


def test_accuracy_ceiling_by_hand() -> None:
    assert accuracy_ceiling(0.9**2 + 0.1**2) == pytest.approx(0.9, rel=1e-12)
    assert accuracy_ceiling(1.0) == 1.0
    assert accuracy_ceiling(0.5) == accuracy_ceiling(0.3) == 0.5


@given(accuracy=st.floats(0.5, 1.0))
def test_accuracy_ceiling_undoes_the_agreement_of_two(accuracy: float) -> None:
    agreement = accuracy**2 + (1 - accuracy) ** 2
    assert accuracy_ceiling(min(1.0, agreement)) == pytest.approx(accuracy, abs=1e-7)


def test_cohen_by_hand() -> None:
    # o = .7 on the diagonal; margins .5/.5 and .6/.4, so e = .3 + .2: kappa = .2 / .5
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4, rel=1e-12)
    # p_o = .90 on skewed labels, and yet kappa is negative: 1 - .1 / (2 * .95 * .05)
    assert cohen_kappa([[90, 5], [5, 0]]) == pytest.approx(1 - 0.1 / 0.095, rel=1e-12)


def test_cohen_of_sas() -> None:
    table = [[0, 4, 1], [0, 8, 0], [0, 1, 5]]
    assert cohen_kappa(table) == pytest.approx(0.48416289592760176, rel=1e-12)
    assert cohen_kappa(table, "linear") == pytest.approx(0.4701195219123505, rel=1e-12)


def test_cohen_quadratic_by_hand() -> None:
    # one disagreement of two steps (cost 4) among four items
    # rows 3/4, 0, 1/4; columns 1/2, 0, 1/2: e = 4 * (3/4 * 1/2 + 1/4 * 1/2) = 2, o = 4 * 1/4
    assert cohen_kappa([[2, 0, 1], [0, 0, 0], [0, 0, 1]], "quadratic") == pytest.approx(0.5)


def test_cohen_is_not_defined_by_one_label_or_none() -> None:
    assert math.isnan(cohen_kappa([[9, 0], [0, 0]]))
    with pytest.raises(UserError, match="judged twice"):
        cohen_kappa([[0, 0], [0, 0]])


def test_scott_and_bennett_by_hand() -> None:
    # 40 and 30 alike of 100: p_o = .7; margins 50/50 and 60/40: e = .55^2 + .45^2 = .505
    table = [[40, 10], [20, 30]]
    assert scott_pi(table) == pytest.approx((0.7 - 0.505) / (1 - 0.505))
    assert bennett_s(table) == pytest.approx(2 * 0.7 - 1)
    # a third label that nobody used is one that chance could have hit: (3 * .7 - 1) / 2
    assert bennett_s([[40, 10, 0], [20, 30, 0], [0, 0, 0]]) == pytest.approx(0.55)
    # skewed labels: p_o = .9 and kappa = -.05, but S = .8
    skewed = [[90, 5], [5, 0]]
    assert cohen_kappa(skewed) == pytest.approx(-0.0526, abs=1e-4)
    assert (scott_pi(skewed), bennett_s(skewed)) == pytest.approx((-1 / 19, 0.8))
    assert math.isnan(scott_pi([[4, 0], [0, 0]])) and math.isnan(bennett_s([[4]]))
    with pytest.raises(UserError, match="judged twice"):
        bennett_s([[0, 0], [0, 0]])


@given(cells=st.lists(st.integers(0, 9), min_size=9, max_size=9).filter(any))
def test_scott_of_two_is_fleiss_of_two(cells: list[int]) -> None:
    table = np.array(cells).reshape(3, 3)
    rows = [
        np.bincount([i, j], minlength=3) for (i, j), n in np.ndenumerate(table) for _ in range(n)
    ]
    one, other = scott_pi(table), fleiss_kappa(rows)
    assert one == pytest.approx(other, abs=1e-9) or (math.isnan(one) and math.isnan(other))


def test_fleiss_of_the_textbook() -> None:
    assert fleiss_kappa(FLEISS) == pytest.approx(0.20993070442195522, rel=1e-12)
    assert fleiss_kappa([[2, 0], [0, 2]]) == 1.0
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    with pytest.raises(UserError, match="krippendorff_alpha"):
        fleiss_kappa([[2, 0], [1, 2]])


@pytest.mark.parametrize(
    ("level", "alpha"),
    [
        ("nominal", 0.743421052631579),
        ("ordinal", 0.8153875037548813),
        ("interval", 0.8491071428571428),
    ],
)
def test_krippendorff_of_the_textbook(level: Level, alpha: float) -> None:
    assert krippendorff_alpha(TRIPLES, level) == pytest.approx(alpha, rel=1e-12)


def test_krippendorff_takes_words() -> None:
    # pairs: aa, ab; o_ab = o_ba = 1, n_a = 3, n_b = 1, n = 4: 1 - 3 * 2 / (2 * 3 * 1)
    triples: list[Triple] = [(1, "u", "a"), (2, "u", "a"), (1, "v", "a"), (2, "v", "b")]
    assert krippendorff_alpha(triples) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(krippendorff_alpha(triples[:2]))
    with pytest.raises(UserError, match="judged twice"):
        krippendorff_alpha([(1, "u", "a"), (1, "v", "a")])


@given(order=st.permutations(TRIPLES))
def test_krippendorff_does_not_care_about_order(order: list[Triple]) -> None:
    assert krippendorff_alpha(order, "ordinal") == pytest.approx(0.8153875037548813, rel=1e-12)


def test_krippendorff_interval_holds_the_value_and_counts_units() -> None:
    estimate = krippendorff_interval(TRIPLES)
    assert estimate.value == pytest.approx(0.743421052631579, rel=1e-12)
    assert estimate.n == 11  # the twelfth unit has one label
    assert estimate.low < 0.6 < estimate.value < 0.9 < estimate.high <= 1


@pytest.mark.parametrize(("units", "low"), [(10, 0.473), (30, 0.777)])
def test_krippendorff_interval_where_all_agree_is_that_of_the_raw_agreement(
    units: int, low: float
) -> None:
    agreed = [(coder, unit, unit % 2) for coder in "ab" for unit in range(units)]
    found = krippendorff_interval(agreed)
    assert (found.value, found.high, found.n) == (1.0, 1.0, units)
    # half and half: D_e = 2 (units / 2 of each coder, n = 2 units) n/2 n/2 / (n (n - 1))
    by_chance = 2 * units * units / (2 * units * (2 * units - 1))
    assert found.low == pytest.approx(1 - (1 - wilson(units, units).low) / by_chance, rel=1e-9)
    assert found.low == pytest.approx(low, abs=5e-4)


def test_krippendorff_has_no_interval_where_it_hangs_on_one_unit() -> None:
    lonely = [(coder, unit, int(unit == 0)) for coder in "ab" for unit in range(20)]
    found = krippendorff_interval(lonely)
    assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)
    split = [("a", 0, "x"), ("b", 0, "y"), ("a", 1, "x"), ("b", 1, "x")]
    assert krippendorff_interval(split).high == math.inf


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_stored_krippendorff(level: Level) -> None:
    stored = golden("krippendorff_4coders_12units")
    triples = [(coder, unit, int(value)) for coder, unit, value in stored["data_coder_unit_value"]]
    expected = stored["recomputed_here"][level]
    assert krippendorff_alpha(triples, level) == pytest.approx(expected, rel=1e-12)


def test_stored_fleiss_and_cohen() -> None:
    fleiss, cohen = golden("fleiss_wikipedia"), golden("cohen_sas_3x3")
    assert fleiss_kappa(fleiss["table"]) == pytest.approx(fleiss["recomputed_here"], rel=1e-12)
    expected = cohen["recomputed_here"]
    assert cohen_kappa(cohen["table"]) == pytest.approx(expected["kappa"], rel=1e-12)
    assert cohen_kappa(cohen["table"], "linear") == pytest.approx(expected["weighted"], rel=1e-12)


def test_dawid_skene_of_the_paper() -> None:
    stored = golden("dawid_skene_1979_table1")
    triples = [
        (observer, patient, label - 1)
        for patient, responses in stored["responses"].items()
        for observer, labels in responses.items()
        for label in labels
    ]
    found, expected = dawid_skene(triples, 4, tolerance=1e-12), stored["recomputed_here"]
    assert found.log_likelihood == pytest.approx(expected["loglik"], rel=1e-12)
    np.testing.assert_allclose(found.class_shares, expected["class_marginals"], atol=1e-12)
    rates = expected["observer_error_rates_[obs][true][reported]"]
    np.testing.assert_allclose(found.error_rates, rates, atol=5e-7)  # stored with six decimals
    assert (found.posteriors.argmax(axis=1) + 1).tolist() == expected["map_class"]
    assert found.items == tuple(stored["responses"])


def test_dawid_skene_first_step_by_hand() -> None:
    # shares: item 0 -> (2/3, 1/3), item 1 -> (0, 1); class shares (1/3, 2/3)
    # annotator c says 1 for item 0 and 1 for item 1: rates (0, 1) and (0, 1)
    # annotators a, b say 0 and 1: truth 0 -> (1, 0); truth 1 -> (1/4, 3/4)
    # item 0: 1/3 * 1 * 1 * 1 against 2/3 * 1/4 * 1/4 * 1 = 1/24: posterior 8/9
    labels = [("a", 0, 0), ("b", 0, 0), ("c", 0, 1), ("a", 1, 1), ("b", 1, 1), ("c", 1, 1)]
    found = dawid_skene(labels, 2, max_iterations=1)
    np.testing.assert_allclose(found.posteriors, [[8 / 9, 1 / 9], [0, 1]], rtol=1e-12)
    # evidence: 1/3 + 1/24 = 3/8 and 2/3 * 9/16 = 3/8
    assert found.log_likelihood == pytest.approx(2 * math.log(3 / 8), rel=1e-12)
    assert found.iterations == 1


def test_dawid_skene_finds_the_careless_annotator() -> None:
    truth = [0, 1] * 20
    labels = [(who, item, label) for who in "abc" for item, label in enumerate(truth)]
    labels += [("d", item, (item // 2) % 2) for item in range(40)]
    found = dawid_skene(labels, 2)
    assert found.accuracy() == pytest.approx({"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.5})
    assert found.posteriors.argmax(axis=1).tolist() == truth


def test_dawid_skene_has_no_opinion_on_a_class_that_nobody_saw() -> None:
    found = dawid_skene([("a", 0, 0), ("a", 1, 1)], 3)
    np.testing.assert_allclose(found.error_rates[0], [[1, 0, 0], [0, 1, 0], [1 / 3] * 3])
    np.testing.assert_allclose(found.class_shares, [0.5, 0.5, 0])


def test_dawid_skene_refuses_what_it_cannot_count() -> None:
    with pytest.raises(UserError, match=r"annotator 'a', item 7: 2 is not a class number.*0 to 1"):
        dawid_skene([("a", 7, 2)], 2)
    with pytest.raises(UserError, match="no labels"):
        dawid_skene([], 2)


def test_krippendorff_interval_keeps_together_what_belongs_together() -> None:
    # four units of one prompt are one case: nothing is known of its spread
    agreed = [(coder, unit, unit % 2) for coder in "ab" for unit in range(4)]
    split = [("a", 4, 0), ("b", 4, 1)]
    one = krippendorff_interval([*agreed, *split], clusters=dict.fromkeys(range(5), "p"))
    assert (one.n, one.low, one.high) == (1, -math.inf, math.inf)
    # as many prompts as units: the same cases as without
    apart = krippendorff_interval([*agreed, *split], clusters={n: n for n in range(5)})
    assert apart == krippendorff_interval([*agreed, *split])
    assert apart.low < apart.value < apart.high
