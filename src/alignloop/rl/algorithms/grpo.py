"""GRPO: the other responses to a prompt replace the critic, and KL is a term of the loss."""

from typing import Any

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
from alignloop.rl.algorithms.base import (
    Algorithm,
    State,
    WeightedCredit,
    importance_weights,
    old_logprobs,
)
from alignloop.rl.experience import (
    Experience,
    ScoredRollouts,
    WithBoth,
    WithOldLogprobs,
    WithReference,
)
from alignloop.shapes import PerToken

# By (old logprobs needed, reference needed).
READS: dict[tuple[bool, bool], type[Any]] = {
    (False, False): ScoredRollouts,
    (True, False): WithOldLogprobs,
    (False, True): WithReference,
    (True, True): WithBoth,
}


def grpo(config: GrpoConfig) -> Algorithm[Any, WeightedCredit]:
    """Shao et al. 2024 (arXiv:2402.03300), outcome supervision."""

    def credit(scored: ScoredRollouts, _: State) -> WeightedCredit:
        mask, zero = scored.response_mask, torch.zeros(scored.response_mask.shape)
        advantages = group_advantages(
            scored.scores, config.group_size, scale_by_std=config.scale_by_std
        )
        # only for the "reward" curve: GRPO's KL is in the loss, so the reward is the bare score
        last = last_true_index(mask).unsqueeze(1)
        return WeightedCredit(
            rewards=zero.scatter(1, last, scored.scores.unsqueeze(1)),
            advantages=torch.where(mask, advantages.unsqueeze(1), zero),
            token_weights=importance_weights(scored, config.importance_cap),
        )

    def clipped(
        logprobs: PerToken, seen: Experience[ScoredRollouts, WeightedCredit]
    ) -> TokenLosses:
        losses = ppo_policy_loss(
            logprobs,
            old_logprobs(logprobs, seen.scored),
            seen.credit.advantages,
            clip_range=config.clip_range,
            clip_range_high=config.clip_range_high,
        )
        return TokenLosses(loss=losses.loss * seen.credit.token_weights, metrics=losses.metrics)

    def with_kl(logprobs: PerToken, seen: Experience[WithReference, WeightedCredit]) -> TokenLosses:
        losses, reference = clipped(logprobs, seen), seen.scored.ref_logprobs
        if config.kl_gradient == "k3":
            kl = kl_estimate(logprobs, reference, "k3")
        else:
            # k3's gradient alone is not that of the KL (`losses.kl_penalty`)
            kl = kl_penalty(logprobs, old_logprobs(logprobs, seen.scored), reference)
        return TokenLosses(
            loss=losses.loss + config.kl_coef * kl,
            metrics={**losses.metrics, "kl_penalty": kl.detach()},
        )

    needs = config.needs
    return Algorithm(
        name="grpo",
        reads=READS[needs.old_logprobs, needs.reference],
        credit=credit,
        policy_loss=with_kl if config.kl_coef > 0 else clipped,
        loss_over=config.loss_over,
        metrics=lambda _scored, _credit, _state: {"kl_coef": config.kl_coef},
    )
