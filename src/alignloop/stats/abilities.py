"""Abilities with intervals, open-ended if the data set no bound."""

from itertools import combinations

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.csgraph import connected_components
from scipy.special import chdtri, stdtrit

from alignloop.stats.intervals import Estimate, Floats, Ints
from alignloop.stats.ranking import (
    Choices,
    choices_of,
    climb,
    curvatures_of_rows,
    differences,
    exists,
    likelihood,
    merged,
    scores_of_rows,
)

_RIDGE = 1e-6  # makes Newton's method stop if the likelihood rises forever
_FARTHEST = 40.0  # nats from the estimate at which the search for an end gives up
_CHANCE = 0.025  # one tail of a 95 % interval
_SINGULAR = 1e-9  # smallest eigenvalue, as a share of the curvature, that counts as invertible
_MANY_CLUSTERS = 100  # with fewer, their variance is unreliable for models that hardly ever lose


def abilities(choices: Choices, *, level: float = 0.95) -> list[Estimate] | None:
    """Every contestant's ability in nats above the mean of all, with its interval.

    The value is the maximum likelihood estimate; if none exists (a contestant never lost, or never
    won), it is computed with one tied comparison added between each two that were compared. The
    ends are those of the profile likelihood: 2 (max l - max_{ability = x} l) <= c chi2(level),
    where c >= 1 is the variance over clusters (by the jackknife, leaving each out once) divided by
    that of independent choices. If clusters hold several choices, c is estimated: Student's
    quantile of clusters - 1, squared, replaces chi2; all ends are open if the comparisons depend on
    one cluster; and below a hundred clusters repeated votes on one choice within a cluster count
    once.

    An upper end is open if the data set no bound: if some other contestant never beat this one
    (even by a chain: A beat B, B beat it), or if it lost or tied in so few clusters that more than
    2.5 % of bootstrap resamples would contain none of them. Lower ends likewise. `n` counts the
    clusters in which the contestant was compared. None if two groups were never compared.

    Source: Ford 1957 on existence; Venzon and Moolgavkar 1988 on profiles; Rotnitzky and Jewell
    1990 on the likelihood ratio in clusters; Bell and McCaffrey 2002 on the jackknife.
    """
    pooled, num = merged(choices), choices.chosen.shape[1]
    beats = pooled.beats
    if connected_components(beats, connection="weak")[0] > 1:
        return None
    fitted = _estimate(pooled)
    best, cuts = _highest(pooled), _cuts(choices, pooled, fitted, level)
    reach = _reaches(beats)
    found: list[Estimate] = []
    for one in range(num):
        cut = float(cuts[one])
        lost, won, met = _clusters(choices, one)
        low = -np.inf if _rare(won, choices) or not reach[one].all() else None
        high = np.inf if _rare(lost, choices) or not reach[:, one].all() else None
        at = float(fitted[one])
        found.append(
            Estimate(
                value=at,
                low=low if low is not None else _end(pooled, one, fitted, -1, best, cut),
                high=high if high is not None else _end(pooled, one, fitted, 1, best, cut),
                n=met,
            )
        )
    return found


def _estimate(pooled: Choices) -> Floats:
    num: int = pooled.chosen.shape[1]
    ridge = 0.0
    if not exists(pooled):
        met = pooled.beats + pooled.beats.T
        ties = [[[a, b]] for a, b in combinations(range(num), 2) if met[a, b] > 0]
        pooled = merged(_joined(pooled, choices_of(ties, num)))
        # choices among several may still leave a contestant unbeaten by any chain
        ridge = 0.0 if exists(pooled) else _RIDGE
    scores, _ = climb(pooled, np.zeros(num), differences(num), ridge=ridge)
    return scores - scores.mean()


def _joined(one: Choices, other: Choices) -> Choices:
    return Choices(
        chosen=np.concatenate([one.chosen, other.chosen]),
        offered=np.concatenate([one.offered, other.offered]),
        weights=np.concatenate([one.weights, other.weights]),
        clusters=np.concatenate([one.clusters, other.clusters]),
    )


def _highest(pooled: Choices) -> float:
    num: int = pooled.chosen.shape[1]
    ridge = 0.0 if exists(pooled) else _RIDGE
    return climb(pooled, np.zeros(num), differences(num), ridge=ridge)[1]


def _reaches(beats: Floats) -> np.ndarray:
    """[n, n]: whether the row beat the column, possibly by a chain; the diagonal is true."""
    # Warshall's transitive closure
    reach = (beats > 0) | np.eye(len(beats), dtype=bool)
    for middle in range(len(reach)):
        reach |= reach[:, middle, None] & reach[None, middle]
    return reach


def _clusters(choices: Choices, one: int) -> tuple[int, int, int]:
    """In how many clusters the contestant lost, won and was compared; a tie counts as both."""
    there = choices.offered[:, one] > 0
    won, lost = choices.chosen[:, one] > 0, there & (choices.chosen[:, one] < 1)
    return tuple(len(np.unique(choices.clusters[rows])) for rows in (lost, won, there))  # type: ignore[return-value]


def _rare(clusters: int, choices: Choices) -> bool:
    """Whether a bootstrap resample misses all these clusters with more than a chance of 2.5 %."""
    count = len(np.unique(choices.clusters))
    return (1 - clusters / count) ** count > _CHANCE


def _cuts(choices: Choices, pooled: Choices, scores: Floats, level: float) -> Floats:
    """How far twice the log likelihood may fall for each contestant, [n]."""
    num = len(scores)
    names, codes = np.unique(choices.clusters, return_inverse=True)
    count = len(names)
    if count == len(choices.clusters):  # one choice per cluster: they are independent
        return np.full(num, float(chdtri(1, 1 - level)))
    basis = differences(num)
    whole = basis.T @ likelihood(pooled, scores)[2] @ basis
    pulls, parts = np.zeros((count, num)), np.zeros((count, num, num))
    np.add.at(pulls, codes.reshape(-1), scores_of_rows(choices, scores))
    np.add.at(parts, codes.reshape(-1), curvatures_of_rows(choices, scores))
    left = whole - basis.T @ parts @ basis
    if count < 2 or np.linalg.eigvalsh(left)[:, 0].min() < _SINGULAR * np.trace(whole):
        return np.full(num, np.inf)  # one cluster alone connects the contestants
    moves = np.linalg.solve(left, (pulls @ basis)[:, :, None])[:, :, 0] @ basis.T
    robust = (moves**2).sum(axis=0) * (count - 1) / count
    assumed = np.diag(basis @ np.linalg.inv(whole) @ basis.T)
    least = _repeats_per_cluster(choices, codes.reshape(-1)) if count < _MANY_CLUSTERS else 1.0
    return np.maximum(least, robust / assumed) * float(stdtrit(count - 1, (1 + level) / 2)) ** 2


def _repeats_per_cluster(choices: Choices, codes: Ints) -> float:
    """How often a cluster repeats the same choice: sum(m^2) / sum(m) over clusters."""
    repeated = np.concatenate([codes[:, None], choices.offered], axis=1)
    groups, owners = np.unique(repeated, axis=0, return_inverse=True)
    weights = np.bincount(owners.reshape(-1), weights=choices.weights)
    most = np.zeros(int(codes.max()) + 1)
    np.maximum.at(most, groups[:, 0].astype(np.int64), weights)
    return max(1.0, float(most @ most / most.sum()))


def _end(pooled: Choices, one: int, fitted: Floats, side: int, best: float, cut: float) -> float:
    """The point at which the profile likelihood of one ability has fallen by cut / 2."""
    num, at, guess = len(fitted), float(fitted[one]), fitted
    ridge = 0.0 if exists(pooled) else _RIDGE
    others = np.delete(np.eye(num), one, axis=1) @ differences(num - 1)
    unit = np.eye(num)[one] * num / (num - 1)  # the others' mean is 0: one ability above all

    def fall(distance: float) -> float:
        nonlocal guess
        start = unit * (at + side * distance)
        guess, reached = climb(pooled, start, others, guess=guess, ridge=ridge)
        return 2 * (best - reached) - cut

    if not np.isfinite(cut):
        return side * np.inf
    far = 1.0
    while fall(far) < 0:
        far *= 2
        if far > _FARTHEST:
            return side * np.inf
    low = 0.0 if far == 1.0 else far / 2
    if fall(low) >= 0:  # the estimate with added ties may itself lie outside
        return at
    return at + side * float(brentq(fall, low, far, xtol=1e-4))
