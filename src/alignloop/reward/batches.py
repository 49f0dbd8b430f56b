"""Scores of many texts, in micro-batches of similar length."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.data.tokenise import Encoded
from alignloop.models import sequence_scores


def micro_batches(texts: Sequence[Encoded], micro_batch_tokens: int) -> list[list[int]]:
    """Indices into `texts` by micro-batch."""
    return token_budget_batches([len(text.input_ids) for text in texts], micro_batch_tokens)


def scores_of(model: Any, texts: Sequence[Encoded], indices: list[int], pad_id: int) -> Tensor:
    """Raw scores [len(indices)] of some texts in one forward pass."""
    batch = pad_batch([texts[i] for i in indices], pad_id)
    return sequence_scores(model, batch["input_ids"], batch["attention_mask"])


@torch.no_grad()
def all_scores(
    model: Any, texts: Sequence[Encoded], pad_id: int, micro_batch_tokens: int
) -> Tensor:
    """Raw scores [texts] in the order of `texts`, without gradient."""
    scores = torch.zeros(len(texts))
    for indices in micro_batches(texts, micro_batch_tokens):
        scores[indices] = scores_of(model, texts, indices, pad_id)
    return scores
