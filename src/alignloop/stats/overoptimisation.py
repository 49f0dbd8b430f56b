"""How far a proxy can be optimised before the gold score falls: the curves of Gao et al.

Source: Gao, Schulman and Hilton 2022, Scaling Laws for Reward Model Overoptimization
(arXiv:2210.10760). d = sqrt(KL(policy || start)), the KL in nats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alignloop.stats.intervals import Floats

# Distance measured by the start model: an answer with more surprise than this quantile of the start
# model's own answers is "outside"; if more than this share of answers is, the reward model is asked
# about texts unlike those it was trained on.
USUAL, OUTSIDE = 0.95, 0.5

_MIN_POINTS = 4


@dataclass(frozen=True, kw_only=True)
class GaoFit:
    """The two coefficients of a curve, and the d at which its gold score peaks."""

    a: float
    b: float
    peak_d: float


def fit_rl_curve(sqrt_kl: ArrayLike, gold: ArrayLike) -> GaoFit | None:
    """Fit R(d) = d (a - b log d), the curve of reinforcement learning; it peaks at exp(a/b - 1).

    Least squares, linear in a and b. Points at d = 0 carry no information and are left out. None if
    fewer than 4 points remain, or if they show no finite peak (b <= 0).

    Shapes: `sqrt_kl` [n] in sqrt(nats); `gold` [n], already relative to the gold score at d = 0.
    """
    d, relative = _points(sqrt_kl, gold)
    fitted = _least_squares(d, d * np.log(d), relative)
    if fitted is None:
        return None
    a, b = fitted
    # a nearly straight curve peaks beyond the range of floats
    with np.errstate(over="ignore"):
        peak = float(np.exp(np.float64(a / b - 1)))
    return GaoFit(a=a, b=b, peak_d=peak) if 0 < peak < np.inf else None


def fit_bon_curve(sqrt_kl: ArrayLike, gold: ArrayLike) -> GaoFit | None:
    """Fit R(d) = d (a - b d), the curve of best-of-n; it peaks at a / (2 b).

    As `fit_rl_curve`; None also if the curve falls from the start (a <= 0).
    """
    d, relative = _points(sqrt_kl, gold)
    fitted = _least_squares(d, d**2, relative)
    if fitted is None or fitted[0] <= 0:
        return None
    a, b = fitted
    peak = a / (2 * b)
    return GaoFit(a=a, b=b, peak_d=peak) if np.isfinite(peak) else None


def rl_curve(fit: GaoFit, sqrt_kl: ArrayLike) -> Floats:
    """The fitted R(d) = d (a - b log d), relative to d = 0; R(0) = 0. Shapes: any."""
    d = np.asarray(sqrt_kl, dtype=float)
    return d * (fit.a - fit.b * np.log(np.where(d > 0, d, 1.0)))


def bon_curve(fit: GaoFit, sqrt_kl: ArrayLike) -> Floats:
    """The fitted R(d) = d (a - b d), relative to d = 0. Shapes: any."""
    d = np.asarray(sqrt_kl, dtype=float)
    return d * (fit.a - fit.b * d)


def best_of_n_kl(n: int) -> float:
    """KL in nats between the best of n samples and one sample: log n - (n - 1) / n.

    Exact if no two samples have the same score, else an upper bound.
    Source: Stiennon et al. 2020, appendix G.3; Beirami et al. 2024 on the bound.
    """
    assert n >= 1, n
    return float(np.log(n) - (n - 1) / n)


def _points(sqrt_kl: ArrayLike, gold: ArrayLike) -> tuple[Floats, Floats]:
    d, relative = np.asarray(sqrt_kl, dtype=float), np.asarray(gold, dtype=float)
    assert d.shape == relative.shape and d.ndim == 1, (d.shape, relative.shape)
    kept = (d > 0) & np.isfinite(d) & np.isfinite(relative)
    return d[kept], relative[kept]


def _least_squares(d: Floats, bend: Floats, gold: Floats) -> tuple[float, float] | None:
    """a and b of gold = a d - b bend; None if undetermined or if the curve has no peak."""
    if len(d) < _MIN_POINTS:
        return None
    (a, b), _, rank, _ = np.linalg.lstsq(np.stack([d, -bend], axis=1), gold, rcond=None)
    return (float(a), float(b)) if rank == 2 and b > 0 else None
