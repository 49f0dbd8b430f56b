"""Calibration: numbers worked by hand, and what must hold for any forecast."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from alignloop.errors import UserError
from alignloop.stats.calibration import (
    brier,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_bins,
    spearman_length,
    temperature_note,
)

FORECASTS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=60
)


def test_two_bins_by_hand() -> None:
    probabilities, outcomes = [0.8, 0.1, 0.6, 0.3], [1, 0, 0, 1]
    low, high = reliability_bins(probabilities, outcomes, num_bins=2)
    assert (low.mean_probability, low.frequency, low.count) == (pytest.approx(0.2), 0.5, 2)
    assert (high.mean_probability, high.frequency, high.count) == (pytest.approx(0.7), 0.5, 2)
    error = expected_calibration_error(probabilities, outcomes, num_bins=2)
    assert error == pytest.approx((0.3 + 0.2) / 2, rel=1e-12)


def test_bins_have_equal_mass_and_equal_forecasts_share_one() -> None:
    even = reliability_bins(np.linspace(0, 1, 100) ** 3, np.zeros(100))
    assert [one.count for one in even] == [10] * 10
    (single,) = reliability_bins([0.5] * 6, [1, 1, 1, 0, 0, 0])
    assert (single.frequency, single.count) == (0.5, 6)
    assert expected_calibration_error([0.5] * 6, [1, 1, 1, 0, 0, 0]) == 0


@given(forecasts=FORECASTS, num_bins=st.integers(1, 12), seed=st.integers(0, 99))
def test_calibration_error_is_a_share_and_knows_no_order(
    forecasts: list[tuple[float, float]], num_bins: int, seed: int
) -> None:
    probabilities, outcomes = np.array(forecasts).T
    error = expected_calibration_error(probabilities, outcomes, num_bins=num_bins)
    assert 0 <= error <= 1
    order = np.argsort(np.random.default_rng(seed).random(len(forecasts)))
    again = expected_calibration_error(probabilities[order], outcomes[order], num_bins=num_bins)
    assert error == pytest.approx(again, abs=1e-12)
    bins = reliability_bins(probabilities, outcomes, num_bins=num_bins)
    assert sum(one.count for one in bins) == len(forecasts)
    assert len(bins) <= num_bins


def test_log_loss_and_brier_by_hand() -> None:
    assert log_loss([0.8, 0.4], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert log_loss([0.8], [0.5]) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)
    assert brier([0.8, 0.4], [1, 0]) == pytest.approx((0.04 + 0.16) / 2)


def test_certain_forecasts_cost_little_or_much_but_never_infinity() -> None:
    assert log_loss([1.0, 0.0], [1, 0]) == pytest.approx(0, abs=1e-15)
    assert log_loss([0.0], [1]) == pytest.approx(52 * math.log(2), rel=1e-12)


def test_temperature_by_hand() -> None:
    # three of four pairs with d = 2 came true: sigmoid(2 / T) = 3/4
    expected = 2 / math.log(3)
    assert fit_temperature([2, 2, 2, 2], [1, 1, 1, 0]) == pytest.approx(expected, rel=1e-6)
    assert fit_temperature([2, -2], [0.75, 0.25]) == pytest.approx(expected, rel=1e-6)


def test_temperature_ends_at_its_bounds_where_no_answer_exists() -> None:
    # worse than chance: a pair of size 3 is said with 51 %; all 12 right: with 13/14
    worse, all_right = np.array([3.0, -3.0]), np.full(12, 5.0)
    assert fit_temperature(worse, [0, 1]) == pytest.approx(3 / math.log(0.51 / 0.49), rel=1e-12)
    coldest = fit_temperature(all_right, np.ones(12))
    assert expit(5 / coldest) == pytest.approx(13 / 14, rel=1e-12)
    assert "upper bound" in temperature_note(fit_temperature(worse, [0, 1]), worse)
    assert "lower bound: nearly all of the 12" in temperature_note(coldest, all_right)
    assert fit_temperature([0.0, 0.0], [1, 1]) == 1.0


def test_few_calibration_pairs_are_said() -> None:
    differences = np.tile([1.0, 2.0, -1.0, 0.5], 20)
    fitted = fit_temperature(differences, np.ones(80))
    assert temperature_note(fitted, differences) == ""
    few = fit_temperature(differences[:12], np.ones(12))
    assert temperature_note(few, differences[:12]).startswith("fitted on only 12 calibration pairs")


@given(scale=st.floats(0.05, 20))
def test_temperature_has_the_unit_of_the_scores(scale: float) -> None:
    differences, outcomes = np.array([1.0, 2.0, -1.5, 0.5]), [1, 1, 1, 0]
    base = fit_temperature(differences, outcomes)
    assert fit_temperature(scale * differences, outcomes) == pytest.approx(scale * base, rel=1e-5)


def test_spearman_by_hand() -> None:
    assert spearman_length([0.1, 0.2, 9.0], [10, 20, 30]) == pytest.approx(1)
    assert spearman_length([3, 2, 1], [10, 20, 30]) == pytest.approx(-1)
    # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    assert spearman_length([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)
    # ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2
    assert spearman_length([5, 5, 6], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(3))
    assert math.isnan(spearman_length([1, 1], [1, 2]))
    assert math.isnan(spearman_length([], []))


def test_nothing_to_calibrate_on_is_said_in_words() -> None:
    with pytest.raises(UserError, match="no forecasts"):
        brier([], [])
    with pytest.raises(UserError, match="no pairs"):
        fit_temperature([], [])
    with pytest.raises(AssertionError, match="outside"):
        brier([1.2], [1])
