"""What an algorithm is: what to credit, and what to minimise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from alignloop.config import AdaptiveKlConfig
from alignloop.losses import KlEstimator, Over, TokenLosses
from alignloop.rl.experience import Experience, ScoredRollouts
from alignloop.shapes import PerToken


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Who gets how much for it, each [batch, seq]; `returns` are what a critic learns."""

    rewards: PerToken
    advantages: PerToken
    returns: PerToken | None = None


@dataclass(frozen=True, kw_only=True)
class CriticPlan:
    """The critic beside the policy; `loss(values, experience)` is per token, unreduced."""

    starts_from: Literal["reward", "policy"]
    warmup_steps: int
    loss: Callable[[PerToken, Experience], TokenLosses]


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A frozen record of functions and needs; `credit` takes the present KL coefficient.

    `policy_loss(logprobs, experience)` is per token, unreduced; its mean is taken over the step's
    tokens, or `loss_over` each response and then over responses. Without `needs_old_logprobs` a
    step's first pass over a batch is its only one, so that its own logprobs are the old ones.
    """

    name: str
    credit: Callable[[ScoredRollouts, float], Credit]
    policy_loss: Callable[[PerToken, Experience], TokenLosses]
    critic: CriticPlan | None
    loss_over: Over
    rollouts_per_prompt: int
    needs_reference: bool
    needs_old_logprobs: bool
    charged_kl: KlEstimator | None  # in the rewards; None: KL is part of the loss, or nowhere
    adaptive_kl: AdaptiveKlConfig | None
