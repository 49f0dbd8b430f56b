"""Over-optimisation curves: exact points give back their coefficients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.stats.overoptimisation import (
    GaoFit,
    best_of_n_kl,
    bon_curve,
    fit_bon_curve,
    fit_rl_curve,
    rl_curve,
)

D = np.array([0.0, 0.5, 1.0, 2.0, 4.0])


def test_rl_curve_by_hand() -> None:
    # d (1 - log(d) / 2): 1 at d = 1, and flat where a - b log d = b, at d = e
    fit = fit_rl_curve(
        D, [0.0, 0.5 * (1 + math.log(2) / 2), 1.0, 2 - math.log(2), 4 - 4 * math.log(2)]
    )
    assert fit is not None
    assert (fit.a, fit.b) == (pytest.approx(1), pytest.approx(0.5))
    assert fit.peak_d == pytest.approx(math.e)
    np.testing.assert_allclose(rl_curve(fit, [0.0, 1.0, math.e]), [0, 1, math.e / 2], rtol=1e-9)


def test_bon_curve_by_hand() -> None:
    # d (3 - d / 2): peak at 3
    fit = fit_bon_curve(D, [0, 1.375, 2.5, 4.0, 4.0])
    assert fit is not None
    assert (fit.a, fit.b) == (pytest.approx(3), pytest.approx(0.5))
    assert fit.peak_d == pytest.approx(3)
    np.testing.assert_allclose(bon_curve(fit, [0.0, 3.0]), [0, 4.5], rtol=1e-9)


@given(a=st.floats(0.1, 3), b=st.floats(0.1, 3))
def test_the_curve_is_highest_at_its_peak(a: float, b: float) -> None:
    truth = GaoFit(a=a, b=b, peak_d=math.exp(a / b - 1))
    fit = fit_rl_curve(D, rl_curve(truth, D))
    assert fit is not None
    assert fit.peak_d == pytest.approx(truth.peak_d, rel=1e-6)
    beside = rl_curve(fit, fit.peak_d * np.array([0.9, 1.0, 1.1]))
    assert beside[1] > beside[0] and beside[1] > beside[2]


def test_points_that_show_no_peak_give_none() -> None:
    assert fit_rl_curve([0, 1, 2, 3], [0, 1, 1, 0]) is None  # only three of them say something
    assert fit_rl_curve(D, D * (1 + np.log(np.maximum(D, 1e-9)))) is None  # bends upwards
    assert fit_rl_curve([2, 2, 2, 2], [1, 1, 1, 1]) is None  # one place is no curve
    assert fit_bon_curve(D, D * (1 + D)) is None
    assert fit_bon_curve(D, D * (-1 - D)) is None  # falls from the start
    assert fit_rl_curve(D, D * (1 - 1e-4 * np.log(np.maximum(D, 1e-9)))) is None  # exp(9999)
    assert fit_rl_curve([1, 2, 3, math.nan], [1, 2, 2, 1]) is None


def test_best_of_n_kl_by_hand() -> None:
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert best_of_n_kl(16) == pytest.approx(4 * math.log(2) - 15 / 16)
