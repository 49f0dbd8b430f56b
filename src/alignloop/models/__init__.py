"""Models: loading and checking them, log-probabilities, scores, values, saving."""

from alignloop.models.loading import (
    context_of,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_critic,
    new_reward_model,
)
from alignloop.models.logprobs import TokenStatistics, token_logprobs
from alignloop.models.saving import RewardScale, read_reward_scale, save_model
from alignloop.models.scores import sequence_scores, token_values

__all__ = [
    "RewardScale",
    "TokenStatistics",
    "context_of",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "new_critic",
    "new_reward_model",
    "read_reward_scale",
    "save_model",
    "sequence_scores",
    "token_logprobs",
    "token_values",
]
