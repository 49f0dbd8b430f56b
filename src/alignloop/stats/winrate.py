"""How often a policy's answer is preferred, plainly and at equal length."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from alignloop.stats.agreement import newton_damping
from alignloop.stats.intervals import (
    Estimate,
    Floats,
    cluster_codes,
    cluster_draws,
    cluster_share,
    percentile_estimate,
)

_RIDGE = 1e-3  # on the sum of the losses: nothing for real data, a stop for separated data
_MAX_STEPS = 100


def win_rate(
    wins: ArrayLike,
    clusters: ArrayLike,
    seed: int,
    *,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Mean of wins (1 won, 0.5 tied, 0 lost) with an interval clustered by prompt: a share.

    Shapes: `wins` [n], `clusters` [n] prompt ids. Raises UserError where there are none.
    """
    wins = _checked(wins)
    return cluster_share(wins, clusters, num_resamples=num_resamples, seed=seed, level=level)


def length_controlled_win_rate(
    wins: ArrayLike,
    length_differences: ArrayLike,
    clusters: ArrayLike,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """The win rate that a logistic model expects between answers of the same length.

    P(win) = sigmoid(b0 + b1 d / std(d)), fitted with a ridge of 1e-3, read at d = 0: sigmoid(b0).
    Where all differences, or all wins, are equal nothing can be controlled, and this is the plain
    win rate.

    Shapes: `wins` [n] in {0, 0.5, 1}; `length_differences` [n], own length minus the other's, in
    any unit; `clusters` [n] prompt ids. Raises UserError where there are none.
    Source: Dubois et al. 2024 (arXiv:2404.04475), without the terms for model and instruction.
    """
    wins, differences = _checked(wins), np.asarray(length_differences, dtype=float)
    codes, num_clusters = cluster_codes(clusters)
    assert wins.shape == differences.shape == codes.shape, "one entry per judged answer in each"
    if np.ptp(wins) == 0:  # length explains nothing where every answer was judged the same
        return win_rate(wins, clusters, seed, num_resamples=num_resamples, level=level)
    spread = differences.std()
    scaled = differences / spread if spread > 0 else np.zeros_like(differences)
    value = _rate_at_zero(wins, scaled, np.ones((1, len(wins))))[0]
    resampled = [
        _rate_at_zero(wins, scaled, draw[:, codes].astype(float))
        for draw in cluster_draws(num_clusters, num_resamples, seed)
    ]
    return percentile_estimate(float(value), np.concatenate(resampled), num_clusters, level)


def _rate_at_zero(wins: Floats, scaled: Floats, weights: Floats) -> Floats:
    """sigmoid(b0) of the ridge logistic fit under each row of `weights` [r, n]; result [r]."""
    design = np.stack([np.ones_like(scaled), scaled])  # [2, n]
    reach = np.abs(scaled).max()
    coefficients = np.zeros((len(weights), 2))
    for _ in range(_MAX_STEPS):
        chances = expit(coefficients @ design)
        gradient = (weights * (chances - wins)) @ design.T + _RIDGE * coefficients
        spread = weights * chances * (1 - chances)
        curvature = np.einsum("rn,an,bn->rab", spread, design, design, optimize=True)
        step = np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient[:, :, None])[:, :, 0]
        damping = newton_damping(np.abs(step[:, 0]) + reach * np.abs(step[:, 1]))
        coefficients -= step * damping[:, None]
        if np.abs(step).max() < 1e-9:
            break
    return expit(coefficients[:, 0])


def _checked(wins: ArrayLike) -> Floats:
    values = np.asarray(wins, dtype=float)
    assert np.all((values >= 0) & (values <= 1)), "a win is 1, a tie 0.5, a loss 0"
    return values
