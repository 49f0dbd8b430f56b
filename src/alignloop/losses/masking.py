"""Sums, means and variances over the entries where a mask is True.

Always `torch.where`, never `values * mask`: NaN times zero is NaN, and padding may hold anything.
"""

from typing import Literal

import torch
from torch import Tensor

from alignloop.shapes import PerToken, Scalar, TokenMask

Over = Literal["tokens", "sequences"]

_EPSILON = 1e-8  # under the root in `whiten`: the value of the 2019 code


def reduce_tokens(
    per_token: PerToken,
    mask: TokenMask,
    *,
    over: Over = "tokens",
    count: int | Tensor | None = None,
) -> Scalar:
    """Reduce per-token losses or metrics to a scalar.

    tokens:    sum_{b,t in mask} x[b,t] / count
    sequences: sum_b mean_{t in mask[b]} x[b,t] / count

    Pass the `count` of the whole step (all micro-batches, all ranks) and add the results: then
    splitting the step differently does not change the gradient. By default it is the number of True
    entries (tokens), or of rows with at least one (sequences), in this tensor; a batch without
    True entries gives 0.

    Gradients at masked-out entries of `per_token` are exactly zero, but a function before it
    whose slope there is infinite still turns them into NaN: keep padding finite upstream.

    Shapes: `per_token`, `mask` [batch, seq]; result []. Unit: that of `per_token`.
    """
    assert per_token.shape == mask.shape, (per_token.shape, mask.shape)
    assert count is None or count > 0, count
    total, found = _SUMS[over](_keep(per_token, mask), mask)
    # clamp: a micro-batch without response tokens contributes 0, not NaN
    return total / (found.clamp(min=1) if count is None else count)


def masked_mean(values: PerToken, mask: TokenMask) -> Scalar:
    """Mean of the True entries of the whole batch; NaN if there are none.

    Shapes: [batch, seq] twice; result [].
    """
    return _keep(values, mask).sum() / mask.sum()


def masked_var(values: PerToken, mask: TokenMask, *, unbiased: bool = True) -> Scalar:
    """Variance of the True entries of the whole batch: sum (x - mean)^2 / (n - 1), or / n.

    NaN if the divisor is zero. Shapes: [batch, seq] twice; result [].
    """
    wide = _keep(values, mask)
    centred = _keep(wide - masked_mean(wide, mask), mask)
    return centred.square().sum() / (mask.sum() - int(unbiased))


def whiten(values: PerToken, mask: TokenMask, *, shift_mean: bool = True) -> PerToken:
    """Scale the True entries of the whole batch to variance 1 and, by default, to mean 0.

    (x - mean) / sqrt(var + 1e-8), and + mean with `shift_mean=False` (for rewards: their sign
    has a meaning). The variance divides by n, so that a single entry gives 0 and not NaN.
    Masked-out entries become 0. To whiten over ranks, gather the values first.

    Shapes: [batch, seq] twice; result [batch, seq].
    Source: `whiten` in openai/lm-human-preferences (Ziegler et al. 2019).
    """
    wide = _keep(values, mask)
    mean = masked_mean(wide, mask)
    variance = masked_var(wide, mask, unbiased=False)
    white = (wide - mean) * torch.rsqrt(variance + _EPSILON)
    return _keep(white if shift_mean else white + mean, mask)


def _keep(values: Tensor, mask: Tensor) -> Tensor:
    # bfloat16 has 8 significant bits: a sum over a few hundred tokens would stop growing
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return torch.where(mask, wide, torch.zeros_like(wide))


def _over_tokens(kept: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return kept.sum(), mask.sum()


def _over_sequences(kept: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    lengths = mask.sum(dim=1)
    return (kept.sum(dim=1) / lengths.clamp(min=1)).sum(), (lengths > 0).sum()


_SUMS = {"tokens": _over_tokens, "sequences": _over_sequences}
