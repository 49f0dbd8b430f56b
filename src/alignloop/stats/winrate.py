"""How often a policy's answer is preferred, as is and at equal length."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from alignloop.stats.intervals import (
    Estimate,
    Floats,
    cluster_codes,
    cluster_share,
    share_estimate,
)
from alignloop.stats.ranking import newton_damping

_RIDGE = 1e-3  # on the sum of the losses: negligible for real data, a bound for separable data
_MAX_STEPS = 100


def win_rate(wins: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean of wins (1 won, 0.5 tied, 0 lost) with an interval clustered by prompt: a share.

    Shapes: `wins` [n], `clusters` [n] prompt ids. Raises UserError if there are none.
    """
    return cluster_share(_checked(wins), clusters, level=level)


def length_controlled_win_rate(
    wins: ArrayLike,
    length_differences: ArrayLike,
    clusters: ArrayLike,
    *,
    difficulties: ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """The win rate that AlpacaEval 2's logistic model expects between answers of equal length.

    P(win) = sigmoid(theta + phi tanh(d / std(d)) + psi gamma), read at d = 0 and averaged over the
    prompts: theta and psi are the difference of the two models' own terms, gamma the difficulty of
    an instruction. Without `difficulties` (published only for AlpacaEval's 805 instructions, fitted
    over all models of its leaderboard) the last term is left out: the package's
    "length_controlled_minimal", otherwise its "length_controlled_noreg". A ridge of 1e-3 replaces
    the package's cross-validated penalty, and its "gamed baseline" rows are not added. If all
    differences, or all wins, are equal, there is nothing to control, and this is the plain win
    rate.

    The interval is that of `share_estimate` of the linearised fit: each prompt's influence is its
    residual divided by 1 - leverage (MacKinnon and White 1985, HC3).

    Shapes: `wins` [n] in [0, 1]; `length_differences` [n], own length minus the other's, in any
    unit (AlpacaEval: characters); `clusters` and `difficulties` [n]. Raises UserError if there are
    none. Source: Dubois et al. 2024 (arXiv:2404.04475), eq. 2.
    """
    won, differences = _checked(wins), np.asarray(length_differences, dtype=float)
    codes, num_clusters = cluster_codes(clusters)
    assert won.shape == differences.shape == codes.shape, "one entry per judged answer in each"
    if np.ptp(won) == 0 or np.ptp(differences) == 0:  # nothing to explain, or nothing to explain it
        return win_rate(won, clusters, level=level)
    # tanh bounds the effect of extreme length differences
    length = np.tanh(differences / differences.std(ddof=1))
    columns = [np.ones_like(length), length]
    if difficulties is not None:
        columns.append(np.asarray(difficulties, dtype=float))
    design = np.stack(columns, axis=1)  # [n, terms]
    fitted, curvature = _logistic(design, won)
    at_zero = design * ([1, 0] + [1] * (len(columns) - 2))
    expected = expit(at_zero @ fitted)
    share = float(expected.mean())
    slope = (expected * (1 - expected)) @ at_zero / len(won)
    chances = expit(design @ fitted)
    spread = chances * (1 - chances)
    leverage = spread * np.einsum("nt,nt->n", design @ np.linalg.inv(curvature), design)
    pulls = design @ np.linalg.solve(curvature, slope) * (won - chances) / (1 - leverage)
    linear = share + (expected - share) + len(won) * pulls
    sums = np.bincount(codes, weights=linear, minlength=num_clusters)
    sizes = np.bincount(codes, minlength=num_clusters)
    return share_estimate(share, sums, sizes, level=level)


def _logistic(design: Floats, wins: Floats) -> tuple[Floats, Floats]:
    """The ridge logistic fit: coefficients [terms], and the curvature [terms, terms] there."""
    reach = np.abs(design).max(axis=0)
    coefficients = np.zeros(design.shape[1])
    ridge = curvature = _RIDGE * np.eye(design.shape[1])
    for _ in range(_MAX_STEPS):
        chances = expit(design @ coefficients)
        curvature = (design.T * (chances * (1 - chances))) @ design + ridge
        gradient = design.T @ (chances - wins) + _RIDGE * coefficients
        step = np.linalg.solve(curvature, gradient)
        coefficients = coefficients - step * newton_damping(reach @ np.abs(step))
        if np.abs(step).max() < 1e-10:
            break
    return coefficients, curvature


def _checked(wins: ArrayLike) -> Floats:
    values = np.asarray(wins, dtype=float)
    assert np.all((values >= 0) & (values <= 1)), "a win is 1, a tie 0.5, a loss 0"
    return values
