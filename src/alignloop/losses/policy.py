"""The clipped policy loss of PPO."""

from dataclasses import dataclass

import torch

from alignloop.losses.kl import kl_estimate
from alignloop.shapes import PerToken


@dataclass(frozen=True, kw_only=True)
class TokenLosses:
    """A loss per token and metrics per token, all unreduced: `TokenLosses(loss=x, metrics={})`.

    Metrics carry no gradient. `reduce_tokens` turns both into scalars.
    """

    loss: PerToken
    metrics: dict[str, PerToken]


def ppo_policy_loss(
    logprobs: PerToken,
    old_logprobs: PerToken,
    advantages: PerToken,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
) -> TokenLosses:
    """The worse of the unclipped and the clipped objective, at each token.

    ratio = exp(logprobs - old_logprobs)
    loss = -min(ratio * A, clip(ratio, 1 - clip_range, 1 + clip_range_high) * A)

    `clip_range_high` is `clip_range` unless given (DAPO's "clip higher", arXiv:2503.14476).
    Metrics: `ratio`; `clip_fraction`, 1 if clipping changed the loss and so removed the gradient;
    `approx_kl`, the k3 estimate of KL(old || new) in nats.

    Shapes: [batch, seq] everywhere. Source: Schulman et al. 2017 (arXiv:1707.06347), equation 7.
    """
    high = clip_range if clip_range_high is None else clip_range_high
    ratio = torch.exp(logprobs - old_logprobs)
    plain = -ratio * advantages
    clipped = -ratio.clamp(1 - clip_range, 1 + high) * advantages
    return TokenLosses(
        loss=torch.maximum(plain, clipped),
        metrics={
            "ratio": ratio.detach(),
            # only if clipping takes effect: out of range against the advantage the gradient remains
            "clip_fraction": (clipped > plain).to(ratio.dtype),
            # the tokens were drawn from the old policy, so it is the first argument
            "approx_kl": kl_estimate(old_logprobs, logprobs, "k3").detach(),
        },
    )
