"""The critic: its loss, and how much of the returns it explains."""

import torch

from alignloop.losses.masking import masked_var
from alignloop.losses.policy import TokenLosses
from alignloop.shapes import PerToken, Scalar, TokenMask


def value_loss(
    values: PerToken,
    old_values: PerToken,
    returns: PerToken,
    *,
    clip_range: float | None,
) -> TokenLosses:
    """Squared error of the critic, pessimistic about steps that leave the clip range.

    clipped = clip(values, old_values - clip_range, old_values + clip_range)
    loss = 0.5 * max((values - returns)^2, (clipped - returns)^2)

    `clip_range=None` turns clipping off. Metric: `value_clip_fraction`, 1 if clipping changed the
    loss.

    Shapes: [batch, seq] everywhere. Units: `clip_range` is in units of the value.
    Source: openai/baselines ppo2; detail 9 of "The 37 Implementation Details of PPO" (2022).
    """
    plain = (values - returns).square()
    if clip_range is None:
        return _with_clip_fraction(plain, torch.zeros_like(plain))
    # not old + clip(values - old): its rounding would count values inside the range as clipped
    clipped = values.clamp(old_values - clip_range, old_values + clip_range)
    square = (clipped - returns).square()
    return _with_clip_fraction(torch.maximum(plain, square), (square > plain).to(plain.dtype))


def explained_variance(values: PerToken, returns: PerToken, mask: TokenMask) -> Scalar:
    """Share of the variance of the returns that the critic predicts.

    1 - var(returns - values) / var(returns): 1 is perfect, 0 is as good as a constant, below 0
    is worse than a constant. NaN if the returns do not vary.

    Shapes: [batch, seq] three times; result [].
    """
    total = masked_var(returns, mask, unbiased=False)
    unexplained = masked_var(returns - values, mask, unbiased=False)
    # biased variances: the correction would cancel
    return torch.where(total > 0, 1 - unexplained / total, torch.nan)


def _with_clip_fraction(squared_error: PerToken, clipped: PerToken) -> TokenLosses:
    metrics = {"value_clip_fraction": clipped.detach()}
    return TokenLosses(loss=0.5 * squared_error, metrics=metrics)
