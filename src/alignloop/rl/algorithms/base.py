"""What an algorithm is: what to credit, and what to minimise."""

from collections.abc import Callable
from dataclasses import dataclass

from alignloop.losses import TokenLosses
from alignloop.rl.experience import Experience, ScoredRollouts
from alignloop.shapes import PerToken


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Who gets how much for it: `rewards`, `advantages` and `returns`, each [batch, seq]."""

    rewards: PerToken
    advantages: PerToken
    returns: PerToken


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A frozen record of functions; `credit` takes the present KL coefficient.

    `policy_loss(logprobs, experience)` and `value_loss(values, experience)` are per token,
    unreduced.
    """

    name: str
    credit: Callable[[ScoredRollouts, float], Credit]
    policy_loss: Callable[[PerToken, Experience], TokenLosses]
    value_loss: Callable[[PerToken, Experience], TokenLosses]
    rollouts_per_prompt: int
    needs_critic: bool
    needs_reference: bool
