"""Whether probabilities are calibrated, and how far a score only measures length."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import logit, xlog1py, xlogy
from scipy.stats import rankdata

from alignloop.errors import UserError
from alignloop.stats.intervals import Floats

FEW_PAIRS = 50  # with fewer, the temperature is uncertain by a factor of two and more

_NEAR = 1e-6
_EPSILON = np.finfo(float).eps


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """`count` similar forecasts: their mean probability, and how often the outcome was 1."""

    mean_probability: float
    frequency: float
    count: int


def reliability_bins(
    probabilities: ArrayLike, outcomes: ArrayLike, *, num_bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Group forecasts in bins of equal mass, from the lowest to the highest probability.

    Equal probabilities share a bin, so the order of the data cannot matter; there are fewer bins if
    many are equal.

    Shapes: `probabilities` [n] in [0, 1], `outcomes` [n] of 0 and 1 (or soft, between them).
    Raises UserError if there are no forecasts.
    """
    forecasts, came = _checked(probabilities, outcomes)
    starts = np.arange(1, num_bins) * len(forecasts) // num_bins
    edges = np.sort(forecasts)[starts]
    codes = np.searchsorted(edges, forecasts, side="right")
    counts = np.bincount(codes)
    promised = np.bincount(codes, weights=forecasts)
    happened = np.bincount(codes, weights=came)
    return tuple(
        ReliabilityBin(
            mean_probability=float(promise / count),
            frequency=float(happening / count),
            count=int(count),
        )
        for promise, happening, count in zip(promised, happened, counts, strict=True)
        if count
    )


def expected_calibration_error(
    probabilities: ArrayLike, outcomes: ArrayLike, *, num_bins: int = 10
) -> float:
    """The mean gap between forecast and outcome over bins of equal mass, in [0, 1].

    ECE = sum_b (count_b / n) |frequency_b - mean_probability_b|

    Means little below some 300 forecasts, and nothing if the sides of the pairs are not shuffled
    (then every outcome is 1). Shapes and errors: see `reliability_bins`. Source: Naeini et al.
    2015; equal mass after Nguyen and O'Connor 2015.
    """
    bins = reliability_bins(probabilities, outcomes, num_bins=num_bins)
    gaps = sum(one.count * abs(one.frequency - one.mean_probability) for one in bins)
    return gaps / sum(one.count for one in bins)


def log_loss(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean of -(y log p + (1 - y) log(1 - p)), in nats.

    p is kept 2.2e-16 away from 0 and 1: a certain and wrong forecast costs 36 nats, not infinity.
    Shapes and errors: see `reliability_bins`.
    """
    forecasts, came = _checked(probabilities, outcomes)
    safe = np.clip(forecasts, _EPSILON, 1 - _EPSILON)
    return float(-np.mean(xlogy(came, safe) + xlog1py(1 - came, -safe)))


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean of (p - y)^2, in [0, 1]; always forecasting 0.5 earns 0.25.

    Shapes and errors: see `reliability_bins`. Source: Brier 1950.
    """
    forecasts, came = _checked(probabilities, outcomes)
    return float(np.mean((forecasts - came) ** 2))


def temperature_range(score_differences: ArrayLike) -> tuple[float, float]:
    """The lowest and the highest temperature that this many pairs can support.

    low = m / log(n + 1), high = m / logit(0.51), with m the median of |d| over n pairs: if all n
    are right, the next one is with probability (n + 1) / (n + 2) by the rule of succession, so a
    typical pair gets at most that probability, and at least 0.51. (1, 1) if all d are 0.

    Shapes: [n] in units of the score. Raises UserError if there are no pairs.
    """
    sizes = np.abs(np.asarray(score_differences, dtype=float))
    if sizes.size == 0:
        raise UserError("no pairs to calibrate on", fix="give at least one held-out pair")
    typical = float(np.median(sizes)) or float(sizes.mean())
    if typical == 0:
        return 1.0, 1.0
    return typical / float(np.log(sizes.size + 1)), typical / float(logit(0.51))


def fit_temperature(score_differences: ArrayLike, outcomes: ArrayLike) -> float:
    """The most likely temperature T of sigmoid(d / T); above 1 the scores are overconfident.

    Maximises sum y log sigmoid(d/T) + (1 - y) log sigmoid(-d/T) over `temperature_range`. An end of
    that range means that the data do not determine T (every pair right, or no better than chance);
    `temperature_note` explains it.

    Shapes: `score_differences` [n] in units of the score, `outcomes` [n] in [0, 1], 1 if the first
    of the pair was preferred. Raises UserError if there are no pairs. Source: Guo et al. 2017
    (arXiv:1706.04599), section 4.2.
    """
    differences = np.asarray(score_differences, dtype=float)
    came = np.asarray(outcomes, dtype=float)
    assert differences.shape == came.shape, (differences.shape, came.shape)
    low, high = temperature_range(differences)
    if low == high:
        return low

    def cost(log_temperature: float) -> float:
        logits = differences / np.exp(log_temperature)
        losses: Floats = np.logaddexp(0, logits) - came * logits
        return float(np.mean(losses))

    # searched in log T: the cost is smoother, and T stays positive
    ends = np.log([low, high])
    found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10})
    # the bounded search never tries the ends themselves
    best: float = min((float(found.x), *map(float, ends)), key=cost)
    return float(np.exp(best))


def temperature_note(temperature: float, score_differences: ArrayLike) -> str:
    """Why a fitted temperature is unreliable, in words; "" if it is not."""
    low, high = temperature_range(score_differences)
    count = np.asarray(score_differences).size
    if temperature <= low * (1 + _NEAR):
        return f"at its lower bound: nearly all of the {count} calibration pairs are right"
    if temperature >= high * (1 - _NEAR):
        return f"at its upper bound: no better than chance on the {count} calibration pairs"
    if count < FEW_PAIRS:
        return f"fitted on only {count} calibration pairs: too few to be reliable"
    return ""


def spearman_length(scores: ArrayLike, lengths: ArrayLike) -> float:
    """Spearman's rank correlation of score with length, in [-1, 1]; ties get their mean rank.

    NaN if all scores or all lengths are equal. Shapes: [n] twice.
    """
    by_score, by_length = (rankdata(np.asarray(v, dtype=float)) for v in (scores, lengths))
    assert by_score.shape == by_length.shape, (by_score.shape, by_length.shape)
    if by_score.size == 0 or np.ptp(by_score) == 0 or np.ptp(by_length) == 0:
        return float("nan")
    return float(np.corrcoef(by_score, by_length)[0, 1])


def _checked(probabilities: ArrayLike, outcomes: ArrayLike) -> tuple[Floats, Floats]:
    forecasts = np.asarray(probabilities, dtype=float)
    came = np.asarray(outcomes, dtype=float)
    assert forecasts.shape == came.shape and forecasts.ndim == 1, (forecasts.shape, came.shape)
    assert np.all((forecasts >= 0) & (forecasts <= 1)), "a probability outside [0, 1]"
    assert np.all((came >= 0) & (came <= 1)), "an outcome outside [0, 1]"
    if forecasts.size == 0:
        raise UserError("no forecasts", fix="give at least one held-out pair")
    return forecasts, came
