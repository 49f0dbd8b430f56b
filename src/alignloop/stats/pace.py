"""When work will be done, judging by the last days."""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit


def finish_window(left: int, counts: Sequence[int]) -> tuple[float, float]:
    """In how many days `left` pieces of work will be done, earliest and latest, at 95 %.

    The two m at which (m mean - left)^2 = t^2 s^2 (m + m^2 / n): the sum of m future days has
    variance m s^2, plus m^2 s^2 / n, since the mean of n days is not the true pace. s^2 is the
    variance of the days, at least Poisson's (the mean), t Student's quantile of n - 1.

    `counts` are the pieces done on each of the last days. The second is inf if the pace may be
    zero; both are if fewer than two days are known. Source: Fieller 1954.
    """
    days, mean = len(counts), sum(counts) / max(1, len(counts))
    if left == 0:
        return 0.0, 0.0
    if days < 2 or mean == 0:
        return math.inf, math.inf
    variance = max(mean, statistics.variance(counts))
    doubt = float(stdtrit(days - 1, 0.975)) ** 2 * variance
    square, linear = mean**2 - doubt / days, 2 * mean * left + doubt
    root = math.sqrt(linear**2 - 4 * square * left**2)
    earliest = 2 * left**2 / (linear + root)
    return earliest, (linear + root) / (2 * square) if square > 0 else math.inf
