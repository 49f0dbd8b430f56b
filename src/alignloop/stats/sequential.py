"""Tests of a share that may be looked at after every answer: e-processes, and what they imply."""

import math
from collections.abc import Callable

from scipy.special import betainc, betaln

from alignloop.stats.intervals import Interval

GUESSING = 0.5  # of two answers
_SMALLEST = 1e-300


def evidence_below(right: int, wrong: int, bar: float) -> float:
    """The log of the evidence that a share is below `bar`, after `right` + `wrong` answers.

    An e-process: the likelihood of the answers under shares q < bar, drawn half uniformly from
    (0, bar) and half at GUESSING (at bar / 2 if that is not below the bar), over their likelihood
    under `bar`. While the true share is at
    least `bar` its mean stays at most 1 whenever one stops to look, so the chance that it ever
    exceeds 1 / alpha is at most alpha (Ville's inequality); looking often needs no correction.
    Answers may be chosen by what was seen before, but not by how they will turn out. `bar` lies
    in (0, 1). Sources: Ville 1939; Robbins 1970; Ramdas et al. 2023.
    """
    against = right * math.log(bar) + wrong * math.log1p(-bar)
    part = max(float(betainc(right + 1, wrong + 1, bar)), _SMALLEST)
    anywhere = float(betaln(right + 1, wrong + 1)) + math.log(part / bar) - against
    bad = GUESSING if bar > GUESSING else bar / 2
    typical = right * math.log(bad) + wrong * math.log1p(-bad) - against
    return _log_mean(anywhere, typical)


def evidence_of_side(first: int, second: int, tolerance: float) -> float:
    """The log of the evidence that the share of `first` differs from 1/2 by more than `tolerance`.

    The mean of two e-processes, one for each side, which is one itself. `tolerance` in [0, 1/2).
    """
    bar = 0.5 - tolerance
    return _log_mean(evidence_below(first, second, bar), evidence_below(second, first, bar))


def anytime_interval(right: int, wrong: int, alpha: float) -> Interval:
    """An interval that covers the share at all times with probability 1 - 2 alpha.

    The shares that neither `evidence_below` nor its mirror image excludes at level alpha; (0, 1)
    without answers.
    """
    limit = math.log(1 / alpha)
    high = _crossing(lambda bar: evidence_below(right, wrong, bar) < limit)
    low = 1 - _crossing(lambda bar: evidence_below(wrong, right, bar) < limit)
    return Interval(low=min(low, high), high=max(low, high))


def _crossing(is_possible: Callable[[float], bool]) -> float:
    """The largest share in (0, 1) that is possible, to within 1e-4."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return 1.0 if high == 1.0 else low


def _log_mean(one: float, other: float) -> float:
    most = max(one, other)
    return most + math.log((math.exp(one - most) + math.exp(other - most)) / 2)
