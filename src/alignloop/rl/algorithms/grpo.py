"""GRPO: the other responses to a prompt take the critic's place, and KL is a term of the loss."""

import torch

from alignloop.config import GrpoConfig
from alignloop.losses import (
    TokenLosses,
    group_advantages,
    kl_estimate,
    kl_penalty,
    last_true_index,
    ppo_policy_loss,
)
from alignloop.rl.algorithms.base import Algorithm, Credit
from alignloop.rl.experience import Experience, ScoredRollouts
from alignloop.shapes import PerToken


def grpo(config: GrpoConfig) -> Algorithm:
    """Shao et al. 2024 (arXiv:2402.03300), outcome supervision."""

    def credit(scored: ScoredRollouts, _kl_coef: float) -> Credit:
        mask, zero = scored.response_mask, torch.zeros(scored.response_mask.shape)
        advantages = group_advantages(
            scored.scores, config.group_size, scale_by_std=config.scale_by_std
        )
        last = last_true_index(mask).unsqueeze(1)
        return Credit(
            rewards=zero.scatter(1, last, scored.scores.unsqueeze(1)),
            advantages=torch.where(mask, advantages.unsqueeze(1), zero),
        )

    def policy_loss(logprobs: PerToken, experience: Experience) -> TokenLosses:
        assert experience.old_logprobs is not None
        losses = ppo_policy_loss(
            logprobs,
            experience.old_logprobs,
            experience.advantages,
            clip_range=config.clip_range,
            clip_range_high=config.clip_range_high,
        )
        loss, metrics = losses.loss * experience.token_weights, losses.metrics
        if config.kl_coef > 0:
            assert experience.ref_logprobs is not None
            reference = experience.ref_logprobs
            if config.kl_gradient == "k3":
                kl = kl_estimate(logprobs, reference, "k3")
            else:
                kl = kl_penalty(logprobs, experience.old_logprobs, reference)
            loss, metrics = loss + config.kl_coef * kl, {**metrics, "kl_penalty": kl.detach()}
        return TokenLosses(loss=loss, metrics=metrics)

    moves_within_a_step = config.num_epochs > 1 or config.num_minibatches > 1
    return Algorithm(
        name="grpo",
        credit=credit,
        policy_loss=policy_loss,
        critic=None,
        loss_over=config.loss_over,
        rollouts_per_prompt=config.group_size,
        needs_reference=config.kl_coef > 0,
        needs_old_logprobs=moves_within_a_step or config.importance_cap is not None,
        charged_kl=None,
        adaptive_kl=None,
    )
