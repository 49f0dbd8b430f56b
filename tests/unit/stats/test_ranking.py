"""Abilities from pairs and rankings: by hand, and against choix's own numbers."""

import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.errors import UserError
from alignloop.stats.ranking import (
    bradley_terry,
    choices_of,
    climb,
    differences,
    likelihood,
    newton_damping,
    plackett_luce,
)

REFERENCE = Path(__file__).parents[4] / "shared" / "data" / "reference"


def golden(name: str) -> Any:
    """A stored worked example; skips where the reference values are not beside this checkout."""
    path = REFERENCE / "golden_values.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))[name]


def test_bradley_terry_by_hand() -> None:
    # 3 of 4 won: sigmoid(s_0 - s_1) = 3/4
    np.testing.assert_allclose(bradley_terry([[0, 3], [1, 0]]), [0, -math.log(3)], atol=1e-12)
    # two wins, one loss and two ties count 3 : 2
    scores = bradley_terry([[0, 2], [1, 0]], ties=[[0, 2], [2, 0]])
    np.testing.assert_allclose(scores, [0, -math.log(3 / 2)], atol=1e-12)


def test_bradley_terry_of_the_citations() -> None:
    wins = [[714, 730, 498, 221], [33, 425, 68, 17], [320, 813, 1072, 142], [284, 276, 325, 188]]
    expected = [0.0, -2.949072496843893, -0.4795697697519631, 0.26895405581921816]
    np.testing.assert_allclose(bradley_terry(wins), expected, atol=1e-10)
    stored = golden("bradley_terry_stigler_citations")
    assert stored["wins_row_beats_col(cited,citing)"] == wins
    assert stored["recomputed_here"]["log_ability_ref_Biometrika"] == expected


@pytest.mark.parametrize("name", ["pairwise", "rankings", "top1"])
def test_bradley_terry_of_stored_cycles(name: str) -> None:
    path = REFERENCE / f"choix_testcase_{name}-1.json"
    if not path.exists():
        pytest.skip("the reference values are not beside this checkout")
    stored = json.loads(path.read_text(encoding="utf-8"))
    wins = np.zeros((stored["n_items"], stored["n_items"]))
    for winner, *rest in stored["data"]:  # each one beats all that follow it
        for loser in np.ravel(rest):
            wins[winner, loser] += 1
    np.testing.assert_allclose(bradley_terry(wins), stored["ml_est"], atol=1e-12)


def test_bradley_terry_of_a_champion_that_hardly_ever_lost() -> None:
    wins = [[0, 1e9, 0], [1, 0, 2e6], [0, 1, 0]]
    expected = [0, -math.log(1e9), -math.log(1e9) - math.log(2e6)]
    np.testing.assert_allclose(bradley_terry(wins), expected, rtol=1e-8)


def test_bradley_terry_says_where_no_answer_exists() -> None:
    with pytest.raises(UserError, match="won all or none"):
        bradley_terry([[0, 3], [0, 0]])
    with pytest.raises(UserError, match="won all or none"):
        bradley_terry([[0, 1, 0], [1, 0, 0], [0, 0, 0]])


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=6, max_size=6), st.permutations(range(3)))
def test_bradley_terry_meets_its_equations_in_any_order(games: list[int], order: list[int]) -> None:
    wins = np.zeros((3, 3))
    wins[~np.eye(3, dtype=bool)] = games
    scores = bradley_terry(wins)
    expected = (wins + wins.T) / (1 + np.exp(np.subtract.outer(-scores, -scores)))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(expected.sum(axis=1), wins.sum(axis=1), rtol=1e-9)
    shuffled = bradley_terry(wins[np.ix_(order, order)])
    np.testing.assert_allclose(shuffled, scores[order] - scores[order[0]], atol=1e-9)


def test_newton_damping_takes_small_steps_whole() -> None:
    np.testing.assert_allclose(newton_damping([0.0, math.e - 1]), [1, 1 / (math.e - 1)])


def test_plackett_luce_of_two_is_bradley_and_terry() -> None:
    # 3 of 4: apart by log 3
    found = plackett_luce([[[0], [1]]] * 3 + [[[1], [0]]], 2)
    np.testing.assert_allclose(found, [math.log(3) / 2, -math.log(3) / 2], atol=1e-12)


def test_plackett_luce_of_partial_rankings() -> None:
    # choix's rankings-2: 0 > 1 > 2, 3 > 2 > 0, 1 > 3. Stored there to 4 digits; these are
    # choix 0.4.1's opt_rankings(..., tol=1e-12) and mm_rankings, which agree to 1e-8
    found = plackett_luce([[[0], [1], [2]], [[3], [2], [0]], [[1], [3]]], 4)
    expected = [-0.44330849, 0.69506787, -0.67060957, 0.41885019]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_choices_of_the_best_of_several() -> None:
    # choix's top1-2: 0 of {0, 1}, 1 of {1, 2}, 2 of {0, 1, 2}; its stored values
    told = choices_of([[[0], [1]], [[1], [2]], [[2], [0, 1]]], 3, top_only=[True] * 3)
    scores, _ = climb(told, np.zeros(3), differences(3))
    np.testing.assert_allclose(scores, [0.16040395, -0.32080789, 0.16040394], atol=2e-8)
    chances = np.exp(scores)
    chances /= chances.sum()  # what is chosen is what is expected: contestant 0 once
    a, b, _ = chances
    assert a / (a + b) + a == pytest.approx(1, abs=1e-9)


def test_a_tie_is_the_mean_of_both_orders() -> None:
    tied = plackett_luce([[[0, 1], [2]], [[2], [1], [0]], [[0], [1], [2]]], 3)
    orders = [[[0], [1], [2]], [[1], [0], [2]], *[[[2], [1], [0]], [[0], [1], [2]]] * 2]
    np.testing.assert_allclose(tied, plackett_luce(orders, 3), atol=1e-9)
    np.testing.assert_allclose(plackett_luce([[[0, 1, 2]]], 3), np.zeros(3), atol=1e-12)


@settings(deadline=None)
@given(tier=st.permutations(range(4)), rest=st.permutations(range(4)))
def test_a_tie_of_three_is_the_mean_of_its_six_orders(tier: list[int], rest: list[int]) -> None:
    three, last = list(tier[:3]), tier[3]
    scores = np.array([0.3, -1.2, 0.5, 2.0])
    tied = likelihood(choices_of([[three, [last]]], 4), scores)
    orders = [[[one] for one in (*order, last)] for order in permutations(three)]
    apart = likelihood(choices_of(orders, 4), scores)
    assert tied[0] == pytest.approx(apart[0] / 6, rel=1e-12)
    np.testing.assert_allclose(tied[1], apart[1] / 6, atol=1e-12)
    np.testing.assert_allclose(tied[2], apart[2] / 6, atol=1e-12)


def test_plackett_luce_says_where_no_answer_exists() -> None:
    with pytest.raises(UserError, match="all or none"):
        plackett_luce([[[0], [1], [2]], [[0], [2], [1]]], 3)  # 0 is always first
    with pytest.raises(UserError, match="all or none"):
        plackett_luce([], 2)
    with pytest.raises(UserError, match="11 contestants are tied"):
        plackett_luce([[list(range(11))]], 11)


@settings(deadline=None)
@given(data=st.data())
def test_plackett_luce_finds_what_the_likelihood_prefers(data: st.DataObject) -> None:
    full = st.permutations(range(4)).map(lambda order: [[one] for one in order])
    rankings = [[[n], [(n + 1) % 4]] for n in range(4)] + data.draw(st.lists(full, max_size=9))
    scores, told = plackett_luce(rankings, 4), choices_of(rankings, 4)
    best, gradient, _ = likelihood(told, scores)
    assert np.abs(gradient).max() < 1e-8
    nudge = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=4, max_size=4)))
    assert likelihood(told, scores + nudge)[0] <= best + 1e-9
