"""The settings of each reinforcement learning algorithm: a union that `name` tells apart."""

from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from alignloop.config.section import Section


class AdaptiveKlConfig(Section):
    """The adaptive KL controller of Ziegler et al. 2019."""

    target: float = Field(default=6.0, gt=0, description="wanted KL, in nats per sequence")
    horizon: int = Field(
        default=10_000, gt=0, description="episodes over which the coefficient adapts"
    )


class AlgorithmSection(Section):
    """What every algorithm sets: all that the loop and the update read."""

    name: Any  # a literal of each algorithm's own; here, so that it stands first
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
        description="stop a batch's epochs when approximate KL per token exceeds this",
    )
    importance_cap: float | None = Field(
        default=None,
        gt=0,
        description="truncated importance sampling of the sampler's mismatch; none = off",
    )


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
        default="reward", description="what the critic starts from"
    )
    critic_warmup_steps: int = Field(
        default=0, ge=0, description="first steps that train only the critic"
    )
    bootstrap_cut_off: bool = Field(
        default=False,
        description="a response cut off by the length limit is not the end of the episode",
    )


class GrpoConfig(AlgorithmSection):
    """GRPO: no critic, a response is measured by the others to its prompt (Shao et al. 2024)."""

    name: Literal["grpo"] = "grpo"
    kl_coef: float = Field(
        default=0.0, ge=0, description="weight of the k3 KL to the reference in the loss"
    )
    kl_gradient: Literal["kl", "k3"] = Field(
        default="kl",
        description="of that term: the KL's own, by the ratio to the policy that drew (as TRL from"
        " 1.16); or that of k3 alone (Shao et al. 2024)",
    )
    group_size: int = Field(
        default=8, ge=2, le=10_000, description="responses to each prompt of a step"
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


def _ppo_unless_named(given: Any) -> Any:
    """A recipe that names no algorithm runs PPO."""
    if isinstance(given, dict):
        return {"name": "ppo", **cast("dict[str, Any]", given)}
    return given


# A new algorithm is one more class here and one file in rl/algorithms/.
Algorithm = Annotated[
    PpoConfig | GrpoConfig, Field(discriminator="name"), BeforeValidator(_ppo_unless_named)
]
