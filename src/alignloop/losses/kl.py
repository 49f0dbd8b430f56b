"""How far the policy has moved from the reference, and the penalty for it."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from alignloop.shapes import PerToken

KlEstimator = Literal["k1", "k2", "k3"]

_MAX_ERROR = 0.2  # Ziegler et al. 2019: bounds how far one observation moves the coefficient


def kl_estimate(
    logprobs: PerToken, ref_logprobs: PerToken, estimator: KlEstimator = "k1"
) -> PerToken:
    """Estimate KL(policy || reference) at each token, for tokens drawn from the policy.

    With d = logprobs - ref_logprobs:
    k1 = d                 unbiased, may be negative
    k2 = d^2 / 2           biased, never negative; as a loss its gradient is that of the KL
    k3 = exp(-d) - 1 + d   unbiased, never negative; as a loss its gradient is NOT that of the KL,
                           see `kl_penalty`

    Shapes: [batch, seq] twice; result [batch, seq]. Unit: nats.
    Source: Schulman, "Approximating KL Divergence" (2020); gradients: arXiv:2510.01555.
    """
    return _ESTIMATORS[estimator](logprobs - ref_logprobs)


def kl_penalty(logprobs: PerToken, old_logprobs: PerToken, ref_logprobs: PerToken) -> PerToken:
    """k3 as a term of a loss whose gradient is that of KL(policy || reference).

    penalty = ratio * k3, with ratio = exp(logprobs - old_logprobs), which is differentiated too

    Its derivative by logprobs is ratio * (logprobs - ref_logprobs): the tokens were drawn from the
    old policy, and with that importance weight this is an unbiased gradient of the KL. k3 alone
    has 1 - exp(-d), even if the ratio is 1.

    Shapes: [batch, seq] everywhere. Unit: nats.
    Source: DeepSeek-V3.2 (arXiv:2512.02556), section 3.1; so in TRL's GRPO from 1.16.
    """
    # not k1: its gradient has the extra term `ratio`, which has mean 0 and only adds variance
    return torch.exp(logprobs - old_logprobs) * kl_estimate(logprobs, ref_logprobs, "k3")


@dataclass(frozen=True, kw_only=True)
class AdaptiveKl:
    """A KL coefficient that follows a target: `AdaptiveKl(coef=0.1, target=6.0)`.

    `target` is in nats per sequence: the sum of k1 over the response tokens, averaged over the
    sequences. `horizon` is the number of episodes within which a steady error takes effect.
    """

    coef: float
    target: float
    horizon: float = 10_000

    def __post_init__(self) -> None:
        assert self.coef >= 0 and self.target > 0 and self.horizon > 0, self

    def updated(self, observed_kl: float, num_episodes: int) -> "AdaptiveKl":
        """The controller after `num_episodes` sequences with this mean KL per sequence.

        error = clip(observed_kl / target - 1, -0.2, 0.2)
        coef' = coef * (1 + error * num_episodes / horizon)

        Unit of `observed_kl`: nats per sequence. A mean per token would be too small by a factor
        of the response length. Source: Ziegler et al. 2019 (arXiv:1909.08593), section 2.2.
        """
        error = min(max(observed_kl / self.target - 1, -_MAX_ERROR), _MAX_ERROR)
        return replace(self, coef=self.coef * (1 + error * num_episodes / self.horizon))


def _k1(difference: Tensor) -> Tensor:
    return difference


def _k2(difference: Tensor) -> Tensor:
    return difference.square() / 2


def _k3(difference: Tensor) -> Tensor:
    # expm1, because exp(-d) - 1 loses all its digits if the two models nearly agree
    return torch.expm1(-difference) + difference


_ESTIMATORS = {"k1": _k1, "k2": _k2, "k3": _k3}
