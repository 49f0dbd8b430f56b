"""Intervals and tests for which the prompt, not the answer, is the unit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import betainc, ndtri

from alignloop.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_ENTRIES = 1_000_000  # resampling tables are cut into chunks of about 8 MB
_FEWEST_CLUSTERS = 5  # fewer do not determine the spread of an unbounded value
_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two ends, in the unit of the value."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its interval, and `n`, the number of independent units (clusters) behind it.

    An end is -inf or inf if the data do not bound it; if both are, there is no interval.
    """

    value: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, float | int | None]:
        """As JSON: None for an open end."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "n": self.n}


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    num_resamples: int = 2000,
    seed: int,
    level: float = 0.95,
) -> Estimate:
    """The mean of `values` with its studentised interval from resampling whole clusters.

    low, high = mean - q se, with q the quantiles of (mean* - mean) / se* over the resamples and
    se^2 = G / (G - 1) sum_g (s_g - mean m_g)^2 / n^2 over the G clusters' sums s and sizes m

    Answers to one prompt are not independent, so prompts are drawn with replacement, each with all
    its values; `n` of the result counts clusters. Percentiles of mean* itself would be too narrow
    for few clusters and for lengths, which have a long tail. Below five clusters, and if all values
    are equal, the spread is unknown and both ends are open. For values in 0..1 use `cluster_share`.

    Shapes: `values` [n], `clusters` [n] of labels. Raises UserError if there are no values.
    Source: Efron and Tibshirani 1993, sec. 12.5; Miller 2024 (arXiv:2411.00640) on clusters.
    """
    data = np.asarray(values, dtype=float)
    sums, sizes = _cluster_sums(data, clusters)
    mean, count = float(data.mean()), len(sizes)
    residuals = sums - mean * sizes
    spread = float(residuals @ residuals)
    if count < _FEWEST_CLUSTERS or spread <= _EPSILON * float(sums @ sums):
        return Estimate(value=mean, low=-np.inf, high=np.inf, n=count)
    moments = np.stack([residuals, sizes, residuals**2, residuals * sizes, sizes**2], axis=1)
    drawn = np.concatenate([d @ moments for d in cluster_draws(count, num_resamples, seed)])
    off = drawn[:, 0] / drawn[:, 1]
    squares = drawn[:, 2] - 2 * off * drawn[:, 3] + off**2 * drawn[:, 4]
    squares[squares < _EPSILON * spread] = 0  # equal values: no spread but rounding errors
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = off * drawn[:, 1] / np.sqrt(squares)
    ratios[np.isnan(ratios)] = 0
    # inverted_cdf: an order statistic, which infinite ratios cannot spoil
    ends = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    low, high = mean - ends[::-1] * np.sqrt(spread) / sizes.sum()
    return Estimate(value=mean, low=float(low), high=float(high), n=count)


def _cluster_sums(values: Floats, clusters: ArrayLike) -> tuple[Floats, Floats]:
    """The sum [G] and the number [G] of each cluster's values."""
    codes, num_clusters = cluster_codes(clusters)
    assert codes.shape == values.shape, (codes.shape, values.shape)
    sums = np.bincount(codes, weights=values, minlength=num_clusters)
    return np.asarray(sums, float), np.bincount(codes, minlength=num_clusters).astype(np.float64)


def cluster_codes(clusters: ArrayLike) -> tuple[Ints, int]:
    """Number the clusters 0, 1, ...: the code of each entry, and how many clusters there are.

    Shapes: [n] labels; result [n]. Raises UserError if there are none.
    """
    labels = np.asarray(clusters)
    if labels.size == 0:
        raise UserError("nothing to measure", fix="give at least one judged prompt")
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


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share: reliable for small n and for shares near 0 and 1.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),  p = successes / n

    `successes` may contain halves (ties). Raises UserError if n is 0. Source: Wilson 1927.
    """
    if n == 0:
        raise UserError("a share of nothing has no interval", fix="give at least one case")
    assert -_EPSILON * n <= successes <= n * (1 + _EPSILON), (successes, n)
    none, every = _ends(successes, n)
    share, z = 0.0 if none else 1.0 if every else successes / n, float(ndtri((1 + level) / 2))
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    low, high = float((middle - half) / scale), float((middle + half) / scale)
    return Interval(low=max(0.0, min(low, share)), high=min(1.0, max(high, share)))


def _ends(successes: float, n: float) -> tuple[bool, bool]:
    """Whether none and whether all succeeded, up to rounding."""
    return successes <= _EPSILON * n, n - successes <= _EPSILON * n


def share_interval(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """The wider end, on either side, of Wilson's and the mid-p interval of a share.

    Each has weaknesses that the other lacks: with 10 cases Wilson's covers a share of .983 in 84 %
    of samples, and with 2 to 7 it is too narrow if all succeed. Together they cover every share in
    more than 91 % of samples of any size. If seven or more all succeed, it is Wilson's.

    mid-p: P(X > x) + P(X = x) / 2 = (1 - level) / 2 at the low end, (1 + level) / 2 at the high
    one, X ~ Binomial(n, p), by incomplete beta functions, so that `n` may be an effective number of
    cases.

    Raises UserError if n is 0. Source: Lancaster 1961; Agresti and Gottard 2005.
    """
    plain, none, every = wilson(successes, n, level=level), *_ends(successes, n)

    def above(share: float) -> float:
        more = 0.0 if every else betainc(successes + 1, n - successes, share)
        no_less = 1.0 if none else betainc(successes, n - successes + 1, share)
        return float(more + no_less) / 2

    low, high = plain.low, plain.high
    if low > 0 and above(low) > (1 - level) / 2:
        low = float(brentq(lambda share: above(share) - (1 - level) / 2, 0, low))
    if high < 1 and above(high) < (1 + level) / 2:
        high = float(brentq(lambda share: above(share) - (1 + level) / 2, high, 1))
    return Interval(low=low, high=high)


def cluster_share(values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Estimate:
    """A share: the mean of values in 0..1, with an interval clustered by prompt.

    `share_interval` with n / deff cases, where deff is the design effect: the variance of the mean
    over clusters divided by that of n independent yes-or-no answers. Ties and similar scores make
    the interval narrower; correlated answers to one prompt make it wider.

    Shapes: `values` [n], `clusters` [n] of labels. Raises UserError if there are no values.
    Source: Kish 1965 on design effects; Agresti and Coull 1998 on the four cases added to it.
    """
    shares = np.asarray(values, dtype=float)
    assert np.all((shares >= 0) & (shares <= 1)), "a share is a mean of values in 0..1"
    sums, sizes = _cluster_sums(shares, clusters)
    return share_estimate(float(shares.mean()), sums, sizes, level=level)


def share_estimate(
    share: float, sums: ArrayLike, sizes: ArrayLike, *, level: float = 0.95
) -> Estimate:
    """The interval of a share in 0..1 that is, to first order, sum(sums) / sum(sizes).

    deff = sum_g (s_g - p m_g)^2 / (p (1 - p) sum_g m_g) over the clusters plus four of the usual
    size sum(m^2) / sum(m), two that won all and two that lost all, with p the share over all of
    these. The four keep deff defined if all agree (it is then the usual size: the clusters count,
    not their answers), and matter less as clusters are added.

    Shapes: `sums` [G] of values or of linearised values (share + influence), `sizes` [G].
    """
    totals, counts = np.asarray(sums, dtype=float), np.asarray(sizes, dtype=float)
    usual = float(counts @ counts / counts.sum())
    totals = np.append(totals, [usual, usual, 0, 0])
    padded = np.append(counts, [usual] * 4)
    # linearised values, and so their mean, may lie beyond 0..1; a variance needs p inside
    least = 0.5 / padded.sum()
    middle = min(max(totals.sum() / padded.sum(), least), 1 - least)
    gaps = totals - middle * padded
    effect = float(gaps @ gaps / (middle * (1 - middle) * padded.sum()))
    cases = counts.sum() / effect
    doubt = share_interval(share * cases, cases, level=level)
    return Estimate(value=share, low=doubt.low, high=doubt.high, n=len(counts))


def paired_sign_test(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided exact p-value of "a beats b as often as b beats a"; ties are dropped.

    P(|X - m/2| >= |k - m/2|), X ~ Binomial(m, 1/2), with k wins of a in m untied pairs; 1 if every
    pair is tied. Shapes: [n] twice, one entry per prompt. Source: Conover 1999, sec. 3.4.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    assert first.shape == second.shape, (first.shape, second.shape)
    wins, losses = int(np.sum(first > second)), int(np.sum(first < second))
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)
