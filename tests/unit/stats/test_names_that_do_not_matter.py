"""Figures about labels whose names are arbitrary: the same under every naming, and its average."""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from alignloop.errors import UserError
from alignloop.stats import (
    accuracy_intervals,
    cohen_kappa,
    cohen_kappa_named,
    dawid_skene,
    fleiss_kappa,
    fleiss_kappa_named,
    krippendorff_alpha,
    krippendorff_interval,
)

Triple = tuple[str, int, Any]
SWAPS: tuple[Mapping[Any, Any], ...] = ({}, {0: 1, 1: 0})


def simulated(
    seed: int, accuracy: float, units: int, people: int, ties: float = 0.1
) -> list[Triple]:
    """Each person says which of two answers is better, or that they tie."""
    rng = np.random.default_rng(seed)
    found: list[Triple] = []
    for unit in range(units):
        truth = int(rng.integers(2))
        for person in range(people):
            label = truth if rng.random() < accuracy else 1 - truth
            found.append((f"ann{person}", unit, 2 if rng.random() < ties else label))
    return found


def renamed(triples: list[Triple], names: Mapping[int, Mapping[Any, Any]]) -> list[Triple]:
    return [(who, unit, names[unit].get(value, value)) for who, unit, value in triples]


def test_alpha_is_the_mean_over_random_orders() -> None:
    """The case that was reported: alpha of the names as they fell differs from the mean."""
    triples = simulated(1, 0.65, 60, 3)
    ways = dict.fromkeys(range(60), SWAPS)
    found = krippendorff_alpha(triples, renamings=ways)
    rng = np.random.default_rng(2)
    drawn = [
        krippendorff_alpha(renamed(triples, {u: SWAPS[rng.integers(2)] for u in range(60)}))
        for _ in range(600)
    ]
    error = float(np.std(drawn)) / math.sqrt(len(drawn))
    assert error < 0.002
    # the mean of the ratio and the ratio of the means differ by 1 / units^2
    assert found == pytest.approx(float(np.mean(drawn)), abs=4 * error + 1 / 60**2)
    assert max(drawn) - min(drawn) > 0.01  # what a coin decided before


def test_alpha_over_all_orders_of_a_small_set_exactly() -> None:
    triples = simulated(3, 0.8, 5, 3, ties=0.2)
    ways = dict.fromkeys(range(5), SWAPS)
    every = [renamed(triples, dict(enumerate(names))) for names in product(SWAPS, repeat=5)]
    # D_e = 1 - sum n_c (n_c - 1) / (n (n - 1)); its mean over the 32 namings by counting
    size = len(triples)
    chance = []
    for one in every:
        counts = np.unique([value for _, _, value in one], return_counts=True)[1]
        chance.append(1 - (counts * (counts - 1)).sum() / (size * (size - 1)))
    apart = [
        (first[2] != second[2]) / (2 * size)
        for first, second in product(triples, triples)
        if first[1] == second[1] and first[0] != second[0]
    ]
    expected = 1 - sum(apart) / float(np.mean(chance))
    assert krippendorff_alpha(triples, renamings=ways) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_no_naming_changes_alpha_or_its_interval(level: Any) -> None:
    signs: tuple[Mapping[Any, Any], ...] = ({}, {-1: 1, 1: -1})
    triples = [(who, unit, (-1, 1, 0)[value]) for who, unit, value in simulated(4, 0.8, 20, 3)]
    ways = dict.fromkeys(range(20), signs)
    turned = renamed(triples, {unit: signs[unit % 3 == 0] for unit in range(20)})
    one = krippendorff_interval(triples, level, renamings=ways)
    other = krippendorff_interval(turned, level, renamings=ways)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert one.value == pytest.approx(krippendorff_alpha(triples, level, renamings=ways))
    assert krippendorff_alpha(triples, level) != pytest.approx(krippendorff_alpha(turned, level))


def test_kappas_have_the_mean_chance_over_all_orders() -> None:
    triples = simulated(5, 0.75, 6, 2, ties=0.2)
    ways = dict.fromkeys(range(6), SWAPS)
    every = [renamed(triples, dict(enumerate(names))) for names in product(SWAPS, repeat=6)]

    def table(one: list[Triple], kind: str) -> np.ndarray:
        found = np.zeros((6, 3) if kind == "fleiss" else (3, 3))
        for (_, unit, first), (_, _, second) in zip(one[::2], one[1::2], strict=True):
            if kind == "fleiss":
                found[unit, first] += 1
                found[unit, second] += 1
            else:
                found[first, second] += 1
        return found

    same = sum(a[2] == b[2] for a, b in zip(triples[::2], triples[1::2], strict=True)) / 6

    def mean_chance(kappas: list[float]) -> float:
        # kappa = (same - e) / (1 - e), so e = (same - kappa) / (1 - kappa)
        return float(np.mean([(same - kappa) / (1 - kappa) for kappa in kappas]))

    chance = mean_chance([fleiss_kappa(table(one, "fleiss")) for one in every])
    assert fleiss_kappa_named(triples, ways) == pytest.approx((same - chance) / (1 - chance))
    chance = mean_chance([cohen_kappa(table(one, "cohen")) for one in every])
    pairs = {a[1]: (a[2], b[2]) for a, b in zip(triples[::2], triples[1::2], strict=True)}
    assert cohen_kappa_named(pairs, ways) == pytest.approx((same - chance) / (1 - chance))


def test_kappas_refuse_what_has_none() -> None:
    with pytest.raises(UserError, match="same number of raters"):
        fleiss_kappa_named([("a", 0, 1), ("b", 0, 1), *[(c, 1, 1) for c in "abc"]], {})
    with pytest.raises(UserError, match="no item was judged twice"):
        cohen_kappa_named({}, {})


def test_three_answers_by_cyclic_names() -> None:
    """Renaming by cycles gives the same as by all six orders, where only equality counts."""
    rng = np.random.default_rng(6)
    triples = [(f"a{who}", unit, int(rng.integers(3))) for unit in range(8) for who in range(3)]
    cycles = [{n: (n + shift) % 3 for n in range(3)} for shift in range(3)]
    orders = [dict(enumerate(order)) for order in product(range(3), repeat=3) if len({*order}) == 3]
    by_cycles = krippendorff_alpha(triples, renamings=dict.fromkeys(range(8), cycles))
    by_orders = krippendorff_alpha(triples, renamings=dict.fromkeys(range(8), orders))
    assert by_cycles == pytest.approx(by_orders)


# --- Dawid and Skene ---------------------------------------------------------------------------


def test_exchangeable_classes_have_no_names() -> None:
    triples = simulated(7, 0.8, 40, 3)
    turned = renamed(triples, {unit: SWAPS[unit % 2] for unit in range(40)})
    one, other = (dawid_skene(said, 3, exchangeable=2) for said in (triples, turned))
    assert one.accuracy() == pytest.approx(other.accuracy(), abs=1e-9)
    assert one.class_shares[0] == one.class_shares[1]
    np.testing.assert_allclose(one.error_rates[:, 0, 0], one.error_rates[:, 1, 1])
    np.testing.assert_allclose(one.error_rates[:, 0, 2], one.error_rates[:, 1, 2])
    free = [dawid_skene(said, 3).accuracy() for said in (triples, turned)]
    assert free[0] != pytest.approx(free[1], abs=1e-3)


def test_exchangeable_rates_by_hand() -> None:
    # one step from majorities: items 0 and 1 are 0 and 1 for sure, c is wrong of one of the two
    said = [(who, item, item) for who in "ab" for item in (0, 1)]
    said += [("c", 0, 0), ("c", 1, 0)]
    found = dawid_skene(said, 2, exchangeable=2, max_iterations=1)
    # majorities: item 0 is 0; item 1 is 1 with 2/3. a: (1 + 2/3) of 2 right, c: (1 + 1/3) of 2
    # the first expectation of item 1: a, b right 5/6 each, c right 2/3
    odds = (5 / 6) ** 2 * (1 / 3) / ((1 / 6) ** 2 * (2 / 3))
    assert found.posteriors[1, 1] == pytest.approx(odds / (1 + odds))


@pytest.mark.slow
def test_intervals_of_accuracy_cover_the_truth() -> None:
    """Four people of .74 to .90 on 60 items: 19 in 20 intervals hold the true accuracy."""
    truth = (0.74, 0.9, 0.85, 0.8)
    rng = np.random.default_rng(8)
    covered: list[bool] = []
    widths: list[float] = []
    for _ in range(60):
        said: list[Triple] = []
        for unit in range(60):
            right = int(rng.integers(2))
            for person in rng.choice(4, size=3, replace=False):
                label = right if rng.random() < truth[person] else 1 - right
                said.append((f"ann{person}", unit, label))
        fitted = dawid_skene(said, 2, exchangeable=2)
        found = accuracy_intervals(said, fitted, fitted.items, exchangeable=2)
        for name, estimate in found.items():
            covered.append(estimate.low <= truth[int(str(name)[-1])] <= estimate.high)
            widths.append(estimate.high - estimate.low)
    # of 240 intervals that cover in 19 of 20 cases fewer than 0.9 do with a chance of 1 in 1,000
    assert np.mean(covered) >= 0.9
    assert np.median(widths) < 0.5  # and they are not all of 0 to 1


def test_what_is_not_determined_has_the_interval_0_to_1() -> None:
    two = simulated(9, 0.9, 40, 2, ties=0)
    fitted = dawid_skene(two, 2, exchangeable=2)
    ends = accuracy_intervals(two, fitted, fitted.items, exchangeable=2).values()
    assert [(one.low, one.high) for one in ends] == [(0.0, 1.0)] * 2
    # three people, but one prompt alone
    three = simulated(9, 0.9, 40, 3, ties=0)
    fitted = dawid_skene(three, 2, exchangeable=2)
    one_prompt = accuracy_intervals(three, fitted, ["p"] * 40, exchangeable=2)
    assert {(one.low, one.high, one.n) for one in one_prompt.values()} == {(0.0, 1.0, 1)}
    prompts = accuracy_intervals(three, fitted, range(40), exchangeable=2)
    assert all(0.5 < one.low < one.value < one.high for one in prompts.values())
