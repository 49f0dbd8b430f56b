"""How far a proxy can be pushed before the gold score falls: the curves of Gao et al.

Source: Gao, Schulman and Hilton 2022, Scaling Laws for Reward Model Overoptimization
(arXiv:2210.10760). d = sqrt(KL(policy || start)), the KL in nats.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alignloop.stats.intervals import Floats

# Distance seen through the start model: answers that surprise it more than this quantile of its
# own are outside of what it would say; where more than this share of them are, a reward model that
# learnt from answers like its own is asked about what it does not know.
USUAL, OUTSIDE = 0.95, 0.5

_MIN_POINTS = 4


@dataclass(frozen=True, kw_only=True)
class GaoFit:
    """The two coefficients of a curve, and the d at which it says that the gold score peaks."""

    a: float
    b: float
    peak_d: float


def fit_rl_curve(sqrt_kl: ArrayLike, gold: ArrayLike) -> GaoFit | None:
    """Fit R(d) = d (a - b log d), the curve of reinforcement learning; it peaks at exp(a/b - 1).

    Least squares, linear in a and b. Points at d = 0 say nothing and are left out. None where
    fewer than 4 points remain, or where they show no finite peak (b <= 0).

    Shapes: `sqrt_kl` [n] in sqrt(nats); `gold` [n], already relative to the gold score at d = 0.
    """
    d, relative = _points(sqrt_kl, gold)
    fitted = _least_squares(d, d * np.log(d), relative)
    if fitted is None:
        return None
    a, b = fitted
    with np.errstate(over="ignore"):
        peak = float(np.exp(np.float64(a / b - 1)))
    return GaoFit(a=a, b=b, peak_d=peak) if 0 < peak < np.inf else None


def fit_bon_curve(sqrt_kl: ArrayLike, gold: ArrayLike) -> GaoFit | None:
    """Fit R(d) = d (a - b d), the curve of best-of-n; it peaks at a / (2 b).

    As `fit_rl_curve`; None also where the curve falls from the start (a <= 0).
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

    Exact where no two samples have the same score, else an upper bound.
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
    """a and b of gold = a d - b bend; None where the points cannot tell or do not bend down."""
    if len(d) < _MIN_POINTS:
        return None
    (a, b), _, rank, _ = np.linalg.lstsq(np.stack([d, -bend], axis=1), gold, rcond=None)
    return (float(a), float(b)) if rank == 2 and b > 0 else None
