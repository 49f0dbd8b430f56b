"""Win rates: worked by hand, mirrored, and freed of length."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.errors import UserError
from alignloop.stats.intervals import wilson
from alignloop.stats.winrate import length_controlled_win_rate, win_rate

JUDGED = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-40, 40), st.integers(0, 9)),
    min_size=1,
    max_size=40,
)


def test_ties_count_half() -> None:
    rate = win_rate([1, 1, 0.5, 0], ["p", "p", "q", "r"])
    assert (rate.value, rate.n) == (0.625, 3)
    assert rate.low < 0.625 < rate.high


def test_a_clean_sweep_is_not_certainty() -> None:
    rate, doubt = win_rate(np.ones(20), np.arange(20)), wilson(20, 20)
    assert (rate.value, rate.low, rate.high) == (1.0, doubt.low, 1.0)
    assert rate.low == pytest.approx(20 / 23.841459, abs=1e-7)
    copied = win_rate(np.ones(40), np.repeat(np.arange(20), 2))
    assert copied.low == rate.low


@settings(deadline=None)
@given(judged=JUDGED)
def test_swapping_the_sides_mirrors_the_win_rate(judged: list[tuple[float, int, int]]) -> None:
    wins, _, prompts = np.array(judged).T
    one = win_rate(wins, prompts)
    other = win_rate(1 - wins, prompts)
    assert one.value == pytest.approx(1 - other.value, abs=1e-12)
    assert one.low == pytest.approx(1 - other.high, abs=1e-12)
    assert one.high == pytest.approx(1 - other.low, abs=1e-12)
    assert 0 <= one.low <= one.high <= 1


@pytest.mark.slow
@settings(deadline=None)
@given(judged=JUDGED)
def test_swapping_the_sides_mirrors_the_length_controlled_rate(
    judged: list[tuple[float, int, int]],
) -> None:
    wins, lengths, prompts = np.array(judged).T
    one = length_controlled_win_rate(wins, lengths, prompts)
    other = length_controlled_win_rate(1 - wins, -lengths, prompts)
    assert one.value == pytest.approx(1 - other.value, abs=1e-6)
    assert one.low == pytest.approx(1 - other.high, abs=1e-6)
    assert 0 <= one.low <= one.high <= 1


def two_lengths(longer: int, shorter: int, of: int) -> tuple[np.ndarray, np.ndarray]:
    """So many wins out of `of` at +1 and at -1 unit of length difference."""
    wins = np.repeat([1.0, 0.0, 1.0, 0.0], [longer, of - longer, shorter, of - shorter])
    return wins, np.repeat([1.0, -1.0], of)


def test_two_lengths_by_hand() -> None:
    # sigmoid(b0 + b1) = .9, sigmoid(b0 - b1) = .5: b0 = log(9) / 2, so sigmoid(b0) = 3 / (3 + 1)
    wins, lengths = two_lengths(900, 500, 1000)
    rate = length_controlled_win_rate(wins, lengths, np.arange(2000))
    assert rate.value == pytest.approx(0.75, abs=1e-5)  # the ridge takes less than this
    assert rate.low < 0.75 < rate.high
    assert wins.mean() == 0.7


def test_a_rate_that_is_all_length_is_even() -> None:
    wins, lengths = two_lengths(80, 20, 100)
    rate = length_controlled_win_rate(wins, 37 * lengths, np.arange(200))
    assert rate.value == pytest.approx(0.5, abs=1e-9)


def test_longer_by_a_constant_cannot_be_controlled() -> None:
    rate = length_controlled_win_rate([1, 1, 0, 1], [50, 50, 50, 50], [1, 2, 3, 4])
    assert rate.value == pytest.approx(0.75, abs=1e-3)


def test_separated_data_do_not_explode() -> None:
    wins, lengths = two_lengths(50, 0, 50)
    rate = length_controlled_win_rate(wins, lengths, np.arange(100))
    assert rate.value == pytest.approx(0.5, abs=1e-9)
    assert math.isfinite(rate.low) and math.isfinite(rate.high)
    sweep = length_controlled_win_rate(np.ones(20), np.arange(20), np.arange(20))
    assert (sweep.value, sweep.low) == (1.0, wilson(20, 20).low)


def test_no_judgements_are_said_in_words() -> None:
    with pytest.raises(UserError, match="nothing to measure"):
        win_rate([], [])
    with pytest.raises(UserError, match="nothing to measure"):
        length_controlled_win_rate([], [], [])
    with pytest.raises(AssertionError, match="a tie"):
        win_rate([2], [0])
