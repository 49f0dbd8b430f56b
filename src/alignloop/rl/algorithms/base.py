"""What defines an algorithm: credit assignment and losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal

import torch

from alignloop.losses import KlEstimator, Over, TokenLosses, kl_estimate, reduce_tokens
from alignloop.rl.experience import (
    Credit,
    Credited,
    Experience,
    Scored,
    ScoredRollouts,
    WithBoth,
    WithOldLogprobs,
)
from alignloop.shapes import PerToken

State = Mapping[str, float]  # an algorithm's numbers from step to step; saved with the run


@dataclass(frozen=True, kw_only=True)
class WeightedCredit(Credit):
    """With `token_weights` [batch, seq] that correct sampler mismatch; 1 = no correction."""

    token_weights: PerToken


@dataclass(frozen=True, kw_only=True)
class CriticPlan(Generic[Scored, Credited]):
    """How the critic is trained; `loss(values, experience)` is per token, unreduced."""

    starts_from: Literal["reward", "policy"]
    warmup_steps: int
    loss: Callable[[PerToken, Experience[Scored, Credited]], TokenLosses]


@dataclass(frozen=True, kw_only=True)
class Algorithm(Generic[Scored, Credited]):
    """A frozen record of functions; `reads` and the settings' `needs` name their inputs.

    `credit(scored, state)` runs before the update, `after(state, metrics, episodes)` returns the
    next step's state, `metrics(scored, credit, state)` the algorithm's own metrics.
    `policy_loss(logprobs, experience)` is per token, unreduced; `loss_over` says whether its mean
    is over the step's tokens, or over each response and then over responses.
    """

    name: str
    reads: type[Scored]
    credit: Callable[[Scored, State], Credited]
    policy_loss: Callable[[PerToken, Experience[Scored, Credited]], TokenLosses]
    critic: CriticPlan[Scored, Credited] | None = None
    loss_over: Over = "tokens"
    start: State = field(default_factory=dict[str, float])
    after: Callable[[State, Mapping[str, float], int], State] = lambda state, _metrics, _n: state
    metrics: Callable[[Scored, Credited, State], dict[str, float]] = lambda _s, _c, _state: {}


def old_logprobs(logprobs: PerToken, scored: ScoredRollouts) -> PerToken:
    """Logprobs from before the update; in a single pass they equal the update's own."""
    return scored.old_logprobs if isinstance(scored, WithOldLogprobs) else logprobs.detach()


def importance_weights(scored: ScoredRollouts, cap: float | None) -> PerToken:
    """Truncated importance sampling: min(p_trainer / p_sampler, cap); 1 without a cap.

    See docs/algorithms.md#ppo-22.
    """
    if cap is None:
        return torch.ones_like(scored.rollout_logprobs)
    assert isinstance(scored, WithOldLogprobs), "a cap needs the trainer's logprobs"
    ratio = torch.exp(scored.old_logprobs - scored.rollout_logprobs)
    # capped from above only: small weights are harmless, large ones explode the variance
    return torch.where(scored.response_mask, ratio.clamp(max=cap), 1.0)


def charged_kl(scored: WithBoth, kl_coef: float, estimator: KlEstimator) -> dict[str, float]:
    """The KL coefficient, and the KL penalty in the mean reward."""
    kl = kl_estimate(scored.old_logprobs, scored.ref_logprobs, estimator)
    charged = float(reduce_tokens(kl, scored.response_mask, count=len(scored.scores)))
    return {"kl_reward": -kl_coef * charged, "kl_coef": kl_coef}
