"""RLOO: the baseline is the mean of the other responses to a prompt; KL is in the reward."""

import torch

from alignloop.config.algorithms import RlooConfig
from alignloop.losses import TokenLosses, group_advantages, ppo_policy_loss, shaped_rewards
from alignloop.rl.algorithms.base import (
    Algorithm,
    State,
    WeightedCredit,
    charged_kl,
    importance_weights,
)
from alignloop.rl.experience import Experience, WithBoth
from alignloop.shapes import PerToken


def rloo(config: RlooConfig) -> Algorithm[WithBoth, WeightedCredit]:
    """REINFORCE leave-one-out over k responses to a prompt; one advantage for all tokens of each,

        R[i] = score[i] - kl_coef * (sum over its tokens of log p - log ref)
        A[i] = R[i] - mean of the other R[j] = k / (k - 1) * (R[i] - mean of all R[j])

    In the first pass, where the ratio is 1, the clipped loss has REINFORCE's gradient.
    Source: Ahmadian et al. 2024 (arXiv:2402.14740), equation 8; Kool et al. 2019.
    """
    # the mean over all includes the response itself; k / (k - 1) turns it into leave-one-out
    share = config.group_size / (config.group_size - 1)

    def credit(scored: WithBoth, state: State) -> WeightedCredit:
        mask = scored.response_mask
        rewards = shaped_rewards(
            scored.scores,
            scored.old_logprobs,
            scored.ref_logprobs,
            mask,
            kl_coef=state["kl_coef"],
        )
        totals = rewards.sum(dim=1)
        advantages = share * group_advantages(totals, config.group_size, scale_by_std=False)
        return WeightedCredit(
            rewards=rewards,
            advantages=torch.where(mask, advantages.unsqueeze(1), 0.0),
            token_weights=importance_weights(scored, config.importance_cap),
        )

    def policy_loss(logprobs: PerToken, seen: Experience[WithBoth, WeightedCredit]) -> TokenLosses:
        losses = ppo_policy_loss(
            logprobs, seen.scored.old_logprobs, seen.credit.advantages, clip_range=config.clip_range
        )
        return TokenLosses(loss=losses.loss * seen.credit.token_weights, metrics=losses.metrics)

    return Algorithm(
        name="rloo",
        reads=WithBoth,
        credit=credit,
        policy_loss=policy_loss,
        start={"kl_coef": config.kl_coef},
        metrics=lambda scored, _, state: charged_kl(scored, state["kl_coef"], "k1"),
    )
