"""How sure a number is: intervals and tests whose unit is the prompt, not the answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import ndtri

from alignloop.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_ENTRIES = 1_000_000  # a resampling table is cut into pieces of about 8 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two ends, in the unit of what they enclose."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its interval, and `n`, the number of independent units (clusters) behind it."""

    value: float
    low: float
    high: float
    n: int


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    statistic: Callable[[NDArray[Any]], float] = np.mean,
    num_resamples: int = 2000,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """A statistic of `values` with its percentile interval from resampling whole clusters.

    Answers to one prompt are not independent, so prompts are drawn with replacement and each
    brings all of its values; `n` of the result counts clusters. The order of the entries does not
    matter; renaming the clusters draws other resamples.

    Shapes: `values` [n] (or [n, k] where `statistic` takes rows), `clusters` [n] of labels.
    Raises UserError where there are no values.
    Source: Efron and Tibshirani 1993, ch. 13; Miller 2024 (arXiv:2411.00640) on clusters.
    """
    data = np.asarray(values, dtype=float)
    codes, num_clusters = cluster_codes(clusters)
    assert len(codes) == len(data), (codes.shape, data.shape)
    draws = cluster_draws(num_clusters, num_resamples, seed)
    if statistic is np.mean and data.ndim == 1:
        sums = np.bincount(codes, weights=data, minlength=num_clusters)
        sizes = np.bincount(codes, minlength=num_clusters)
        resampled = [draw @ sums / (draw @ sizes) for draw in draws]
    else:
        resampled = [
            np.array([float(statistic(np.repeat(data, row[codes], axis=0))) for row in draw])
            for draw in draws
        ]
    return percentile_estimate(
        float(statistic(data)), np.concatenate(resampled), num_clusters, level
    )


def cluster_codes(clusters: ArrayLike) -> tuple[Ints, int]:
    """Number the clusters 0, 1, ...: the number of each entry, and how many clusters there are.

    Shapes: [n] labels; result [n]. Raises UserError where there are none.
    """
    labels = np.asarray(clusters)
    if labels.size == 0:
        raise UserError("there is nothing to measure", fix="give at least one judged prompt")
    names, codes = np.unique(labels, return_inverse=True)
    return codes.reshape(-1), len(names)


def cluster_draws(num_clusters: int, num_resamples: int, seed: int) -> Iterator[Ints]:
    """How often each cluster is drawn in each bootstrap resample, in chunks of resamples.

    Shapes: yields [chunk, num_clusters] counts, every row of sum `num_clusters`; the rows of all
    chunks together are `num_resamples`.
    """
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK_ENTRIES // num_clusters)
    for start in range(0, num_resamples, size):
        rows = min(size, num_resamples - start)
        picks = rng.integers(num_clusters, size=(rows, num_clusters))
        picks += np.arange(rows)[:, None] * num_clusters
        flat = np.bincount(picks.reshape(-1), minlength=rows * num_clusters)
        yield flat.reshape(rows, num_clusters)


def percentile_estimate(value: float, resampled: Floats, n: int, level: float) -> Estimate:
    """The middle `level` of the resampled values; resamples without a value (NaN) are left out.

    Shapes: `resampled` [num_resamples]. Where every resample is NaN, so are both ends.
    """
    assert 0 < level < 1, level
    known = resampled[~np.isnan(resampled)]
    if known.size == 0:
        return Estimate(value=value, low=float("nan"), high=float("nan"), n=n)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share: honest for small n and for shares near 0 and 1.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),  p = successes / n

    `successes` may hold halves (ties). Raises UserError where n is 0. Source: Wilson 1927.
    """
    if n == 0:
        raise UserError("a share of nothing has no interval", fix="give at least one case")
    assert 0 <= successes <= n, (successes, n)
    share, z = successes / n, float(ndtri((1 + level) / 2))
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return Interval(
        low=max(0.0, float((middle - half) / scale)), high=min(1.0, float((middle + half) / scale))
    )


def cluster_share(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """A share: the mean of values in 0..1 with an interval clustered by prompt.

    Where every resample gives the same (20 of 20), the bootstrap knows no doubt; the interval is
    then Wilson's, with the clusters as its cases.

    Shapes: `values` [n], `clusters` [n] of labels. Raises UserError where there are no values.
    """
    shares = np.asarray(values, dtype=float)
    assert np.all((shares >= 0) & (shares <= 1)), "a share is a mean of values in 0..1"
    found = cluster_bootstrap(shares, clusters, num_resamples=num_resamples, seed=seed, level=level)
    if found.high > found.low:
        return found
    doubt = wilson(found.value * found.n, found.n, level=level)
    return replace(found, low=doubt.low, high=doubt.high)


def paired_sign_test(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided exact p-value of "a beats b as often as b beats a"; ties are dropped.

    P(|X - m/2| >= |k - m/2|), X ~ Binomial(m, 1/2), with k wins of a in m untied pairs; 1 where
    every pair is tied. Shapes: [n] twice, one entry per prompt. Source: Conover 1999, sec. 3.4.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    assert first.shape == second.shape, (first.shape, second.shape)
    wins, losses = int(np.sum(first > second)), int(np.sum(first < second))
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)
