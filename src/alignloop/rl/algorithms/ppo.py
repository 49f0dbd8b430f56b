"""PPO with a learned critic: KL-shaped rewards, GAE, clipped policy and value losses."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from alignloop.config import PpoConfig
from alignloop.losses import (
    AdaptiveKl,
    TokenLosses,
    explained_variance,
    gae,
    masked_mean,
    ppo_policy_loss,
    shaped_rewards,
    value_loss,
    whiten,
)
from alignloop.rl.algorithms.base import (
    Algorithm,
    CriticPlan,
    State,
    WeightedCredit,
    charged_kl,
    importance_weights,
)
from alignloop.rl.experience import Experience, WithBoth, WithValues
from alignloop.shapes import PerToken


@dataclass(frozen=True, kw_only=True)
class PpoRollouts(WithBoth, WithValues):
    """Rollouts with the numbers of policy, reference and critic."""


@dataclass(frozen=True, kw_only=True)
class PpoCredit(WeightedCredit):
    """With `returns` [batch, seq], the critic's targets."""

    returns: PerToken


Seen = Experience[PpoRollouts, PpoCredit]


def ppo(config: PpoConfig) -> Algorithm[PpoRollouts, PpoCredit]:
    """Schulman et al. 2017 (arXiv:1707.06347), as for language models in Ziegler et al. 2019."""

    def credit(scored: PpoRollouts, state: State) -> PpoCredit:
        scores = scored.scores
        if config.clip_score is not None:
            scores = scores.clamp(-config.clip_score, config.clip_score)
        mask = scored.response_mask
        rewards = shaped_rewards(
            scores,
            scored.old_logprobs,
            scored.ref_logprobs,
            mask,
            kl_coef=state["kl_coef"],
            estimator=config.kl_estimator,
        )
        # without shifting the mean: the sign of a reward has a meaning
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        # an answer that ended has no future; one cut off by the length limit would have gone on
        cut_off = torch.where(scored.finished, 0.0, scored.final_values)
        advantages, returns = gae(
            rewards,
            scored.values,
            mask,
            gamma=config.gamma,
            lam=config.lam,
            bootstrap=cut_off if config.bootstrap_cut_off else None,
        )
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        # after GAE, so that whitening does not see the weights
        weights = importance_weights(scored, config.importance_cap)
        return PpoCredit(
            rewards=rewards, advantages=advantages, returns=returns, token_weights=weights
        )

    def policy_loss(logprobs: PerToken, seen: Seen) -> TokenLosses:
        losses = ppo_policy_loss(
            logprobs, seen.scored.old_logprobs, seen.credit.advantages, clip_range=config.clip_range
        )
        return TokenLosses(loss=losses.loss * seen.credit.token_weights, metrics=losses.metrics)

    def critic_loss(values: PerToken, seen: Seen) -> TokenLosses:
        old_values, returns = seen.scored.values, seen.credit.returns
        return value_loss(values, old_values, returns, clip_range=config.clip_range_value)

    def after(state: State, metrics: Mapping[str, float], episodes: int) -> State:
        adaptive = config.adaptive_kl
        if adaptive is None:
            return state
        controller = AdaptiveKl(
            coef=state["kl_coef"], target=adaptive.target, horizon=adaptive.horizon
        )
        return {"kl_coef": controller.updated(metrics["kl"], episodes).coef}

    return Algorithm(
        name="ppo",
        reads=PpoRollouts,
        credit=credit,
        policy_loss=policy_loss,
        critic=CriticPlan(
            starts_from=config.critic_init,
            warmup_steps=config.critic_warmup_steps,
            loss=critic_loss,
        ),
        start={"kl_coef": config.kl_coef},
        after=after,
        metrics=lambda scored, credit, state: (
            charged_kl(scored, state["kl_coef"], config.kl_estimator)
            | critic_metrics(scored, credit)
        ),
    )


def critic_metrics(scored: PpoRollouts, credit: PpoCredit) -> dict[str, float]:
    """The critic's mean value, and the share of the returns' variance that it predicts."""
    mask = scored.response_mask
    explained = explained_variance(scored.values, credit.returns, mask)
    mean = masked_mean(scored.values, mask)
    return {"explained_variance": float(explained), "value": float(mean)}
