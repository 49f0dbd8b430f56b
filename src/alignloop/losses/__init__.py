"""Pure functions: advantages, losses, and their reduction to a scalar.

Per-token losses and metrics leave here unreduced; `reduce_tokens` is the only way to a scalar.
"""

from alignloop.losses.advantages import (
    gae,
    group_advantages,
    last_true_index,
    missing_eos,
    shaped_rewards,
)
from alignloop.losses.kl import AdaptiveKl, KlEstimator, kl_estimate, kl_penalty
from alignloop.losses.masking import Over, masked_mean, masked_var, reduce_tokens, whiten
from alignloop.losses.policy import TokenLosses, ppo_policy_loss
from alignloop.losses.preference import centring_loss, dpo_loss, ranking_loss
from alignloop.losses.value import explained_variance, value_loss

__all__ = [
    "AdaptiveKl",
    "KlEstimator",
    "Over",
    "TokenLosses",
    "centring_loss",
    "dpo_loss",
    "explained_variance",
    "gae",
    "group_advantages",
    "kl_estimate",
    "kl_penalty",
    "last_true_index",
    "masked_mean",
    "masked_var",
    "missing_eos",
    "ppo_policy_loss",
    "ranking_loss",
    "reduce_tokens",
    "shaped_rewards",
    "value_loss",
    "whiten",
]
