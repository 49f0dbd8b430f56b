"""How far the policy's answers are from the SFT model's, as measured by that model.

A judge trained on answers like the SFT model's is unreliable on others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alignloop.config import ModelConfig
from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.models import load_tokenizer, token_logprobs
from alignloop.models.initialise import load_policy_to_sample
from alignloop.rollout import Rollout
from alignloop.stats.overoptimisation import USUAL

MICRO_BATCH_TOKENS = 4096


def distances(
    models: Mapping[str, Path],
    rollouts: Mapping[str, Mapping[str, Sequence[Rollout]]],
    model_config: ModelConfig,
) -> dict[str, Any] | None:
    """Per set: mean surprise of both models' answers, and the share of the policy's outside.

        surprise = -log p_SFT(answer) / tokens,  nats per token at temperature 1

    {"prompts": {"sft": 0.31, "policy": 0.42, "outside": 0.11}}: `outside` is the share of the
    policy's answers more surprising than 95 % of the SFT model's own. None if the models have
    different vocabularies.
    """
    tokenizer = load_tokenizer(models["sft"], model_config)
    if load_tokenizer(models["policy"], model_config).get_vocab() != tokenizer.get_vocab():
        return None
    model = load_policy_to_sample(models["sft"], tokenizer, model_config)
    found: dict[str, Any] = {}
    for name in rollouts["sft"]:
        own, other = (
            surprises(model, rollouts[who][name], tokenizer.pad_token_id)
            for who in ("sft", "policy")
        )
        outside = float(np.mean(other > np.quantile(own, USUAL)))
        found[name] = {
            "sft": float(own.mean()),
            "policy": float(other.mean()),
            "outside": outside,
        }
    return found


@torch.no_grad()
def surprises(model: Any, rollouts: Sequence[Rollout], pad_id: int) -> NDArray[np.float64]:
    """-log p_model(answer) / tokens for each rollout [n], in nats per token."""
    found = np.zeros(len(rollouts))
    lengths = [len(rollout.input_ids) for rollout in rollouts]
    for rows in token_budget_batches(lengths, MICRO_BATCH_TOKENS):
        batch = pad_batch([rollouts[row] for row in rows], pad_id)
        mask = batch["response_mask"]
        ids, attention = batch["input_ids"], batch["attention_mask"]
        statistics = token_logprobs(model, ids, attention, mask, entropy=False)
        found[rows] = (-statistics.logprobs.sum(dim=1) / mask.sum(dim=1)).numpy()
    return found
