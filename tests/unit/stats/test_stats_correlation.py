"""Correlation by hand, and an interval over clusters."""

import math

import numpy as np
import pytest

from alignloop.stats.correlation import cluster_correlation


def test_by_hand() -> None:
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2
    found = cluster_correlation([1, 2, 3], [1, 3, 2], ["a", "b", "c"], seed=0)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high, found.n) == (-math.inf, math.inf, 3)


def test_a_constant_has_no_correlation() -> None:
    assert cluster_correlation([1, 1, 1], [1, 2, 3], [0, 1, 2], seed=0) is None


def test_equal_numbers_correlate_perfectly_wherever_they_are() -> None:
    x = 1e9 + np.arange(50.0)
    found = cluster_correlation(x, -3 * x, np.arange(50), seed=0)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))


def test_repeated_answers_of_a_prompt_add_no_certainty() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    once = cluster_correlation(x, y, np.arange(40), seed=1)
    many = cluster_correlation(np.tile(x, 9), np.tile(y, 9), np.tile(np.arange(40), 9), seed=1)
    assert once is not None and many is not None
    assert (many.low, many.high) == pytest.approx((once.low, once.high))
    assert once.low < once.value < once.high


@pytest.mark.slow
def test_the_interval_covers_the_truth() -> None:
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=80)
        y = 0.5 * x + math.sqrt(0.75) * rng.normal(size=80)
        found = cluster_correlation(x, y, np.arange(80), seed=seed)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    # a percentile interval of 80 points covers a little less than 95 %
    assert 0.90 <= covered / 300 <= 0.99
