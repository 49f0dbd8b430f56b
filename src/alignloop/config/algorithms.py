"""The settings of each reinforcement learning algorithm: a union, discriminated by `name`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from alignloop.config.section import Section, named_unless


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an algorithm requires: which models are loaded, how many responses per prompt.

    Without `old_logprobs` the first pass over a batch is the only one, so its own logprobs are the
    old ones.
    """

    reference: bool = False
    critic: bool = False
    old_logprobs: bool = False
    rollouts_per_prompt: int = 1


class AdaptiveKlConfig(Section):
    """The adaptive KL controller of Ziegler et al. 2019."""

    target: float = Field(default=6.0, gt=0, description="target KL, in nats per sequence")
    horizon: int = Field(
        default=10_000, gt=0, description="episodes over which the coefficient adapts"
    )


class AlgorithmSection(Section):
    """The settings of every algorithm: those that the loop and the update read."""

    name: Any  # each algorithm has its own literal; declared here to come first in the tables
    num_epochs: int = Field(
        default=1, ge=1, le=10_000, description="passes over each batch of rollouts"
    )
    num_minibatches: int = Field(
        default=1, ge=1, le=1_000_000, description="optimiser steps per pass"
    )
    clip_range: float = Field(
        default=0.2, gt=0, lt=1, description="ratio clipping of the policy loss"
    )
    kl_coef: float = Field(ge=0)
    target_kl: float | None = Field(
        default=None,
        gt=0,
        description="end a batch's epochs when approximate KL per token exceeds this",
    )
    importance_cap: float | None = Field(
        default=None,
        gt=0,
        description="truncated importance sampling against sampler mismatch; none = off",
    )

    @property
    def needs(self) -> Needs:
        """The requirements; known without torch, so that `alignloop plan` can ask."""
        raise NotImplementedError


class PpoConfig(AlgorithmSection):
    """PPO with a learned critic and a KL penalty per token (Schulman et al. 2017; N+ details)."""

    name: Literal["ppo"] = "ppo"
    num_epochs: int = Field(
        default=4, ge=1, le=10_000, description="passes over each batch of rollouts"
    )
    kl_coef: float = Field(default=0.1, ge=0, description="price of one nat of KL per sequence")
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    adaptive_kl: AdaptiveKlConfig | None = Field(
        default=None, description="adapt kl_coef to a target"
    )
    clip_range_value: float | None = Field(
        default=0.2, gt=0, description="value clipping; none = off"
    )
    gamma: float = Field(default=1.0, gt=0, le=1, description="discount")
    lam: float = Field(default=0.95, ge=0, le=1, description="lambda of GAE")
    whiten_advantages: bool = Field(
        default=True, description="mean 0, variance 1 over response tokens"
    )
    whiten_rewards: bool = Field(
        default=False, description="scale rewards to variance 1, mean kept"
    )
    clip_score: float | None = Field(
        default=None, gt=0, description="clip scores to +- this; none = off"
    )
    critic_init: Literal["reward", "policy"] = Field(
        default="reward", description="where the critic's weights come from"
    )
    critic_warmup_steps: int = Field(
        default=0, ge=0, description="first steps that train only the critic"
    )
    bootstrap_cut_off: bool = Field(
        default=False,
        description="do not treat a response cut off by the length limit as the end of the episode",
    )

    @property
    def needs(self) -> Needs:
        """Everything: the KL is charged in the reward, and the critic learns."""
        return Needs(reference=True, critic=True, old_logprobs=True)


class GrpoConfig(AlgorithmSection):
    """GRPO: no critic; a response is compared with the others to its prompt (Shao et al. 2024)."""

    name: Literal["grpo"] = "grpo"
    kl_coef: float = Field(
        default=0.0, ge=0, description="weight of the k3 KL to the reference in the loss"
    )
    kl_gradient: Literal["kl", "k3"] = Field(
        default="kl",
        description="gradient of that term: the KL's own, through the ratio to the sampling policy"
        " (as TRL from 1.16), or that of k3 alone (Shao et al. 2024)",
    )
    group_size: int = Field(
        default=8, ge=2, le=10_000, description="responses per prompt in a step"
    )
    scale_by_std: bool = Field(
        default=True, description="divide by the group's standard deviation; false = Dr. GRPO"
    )
    clip_range_high: float | None = Field(
        default=None, gt=0, description="upper clip range (DAPO); none = clip_range"
    )
    loss_over: Literal["sequences", "tokens"] = Field(
        default="sequences",
        description="mean over each response, then over responses; or over all tokens of a step",
    )

    @property
    def needs(self) -> Needs:
        """A reference only for its KL; in a single update its own logprobs are the old ones."""
        moves_within_a_step = self.num_epochs > 1 or self.num_minibatches > 1
        return Needs(
            reference=self.kl_coef > 0,
            old_logprobs=moves_within_a_step or self.importance_cap is not None,
            rollouts_per_prompt=self.group_size,
        )


class RlooConfig(AlgorithmSection):
    """RLOO: a response is compared with the mean of the others, no critic (Ahmadian 2024)."""

    name: Literal["rloo"] = "rloo"
    kl_coef: float = Field(default=0.1, ge=0, description="price of one nat of KL per sequence")
    group_size: int = Field(
        default=4, ge=2, le=10_000, description="responses per prompt in a step"
    )

    @property
    def needs(self) -> Needs:
        """The charged KL takes both logprobs."""
        return Needs(reference=True, old_logprobs=True, rollouts_per_prompt=self.group_size)


# A new algorithm is one more class here and one file in rl/algorithms/ with its function.
Algorithm = Annotated[
    PpoConfig | GrpoConfig | RlooConfig, Field(discriminator="name"), named_unless("ppo")
]
