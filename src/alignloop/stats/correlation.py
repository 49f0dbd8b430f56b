"""Correlation with an interval for which the prompt is the unit."""

import math

import numpy as np
from numpy.typing import ArrayLike

from alignloop.stats.intervals import Estimate, cluster_codes, cluster_draws

_FEWEST_CLUSTERS = 5  # fewer do not determine the spread


def cluster_correlation(
    x: ArrayLike, y: ArrayLike, clusters: ArrayLike, *, seed: int, level: float = 0.95
) -> Estimate | None:
    """Pearson's correlation with the percentile interval from resampling whole clusters.

    r = (n sum xy - sum x sum y) / sqrt((n sum x^2 - (sum x)^2) (n sum y^2 - (sum y)^2))

    None if x or y is constant. Below five clusters both ends are open; `n` counts clusters. Shapes:
    `x`, `y`, `clusters` [n]. Raises UserError if there are none.
    Source: Efron and Tibshirani 1993, sec. 13.3.
    """
    codes, count = cluster_codes(clusters)
    # centred: the sums of squares of far-away numbers would lose their last digits
    a, b = (np.asarray(v, dtype=float) - np.mean(np.asarray(v, dtype=float)) for v in (x, y))
    if a.max() - a.min() < 1e-12 or b.max() - b.min() < 1e-12:
        return None
    parts = (np.ones_like(a), a, b, a * a, b * b, a * b)
    moments = np.stack([np.bincount(codes, weights=p, minlength=count) for p in parts], axis=1)
    value = float(_pearson(moments.sum(axis=0)[None])[0])
    if count < _FEWEST_CLUSTERS:
        return Estimate(value=value, low=-math.inf, high=math.inf, n=count)
    drawn = np.concatenate([_pearson(d @ moments) for d in cluster_draws(count, 2000, seed)])
    # a resample in which one of them is constant says nothing
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=count)


def _pearson(sums: np.ndarray) -> np.ndarray:
    """From the sums of 1, x, y, x^2, y^2 and xy: [resamples, 6] to [resamples]."""
    n, x, y, xx, yy, xy = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
