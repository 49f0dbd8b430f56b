"""Scores of many texts, in micro-batches of similar length."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.data.tokenise import Encoded
from alignloop.models import sequence_scores
from alignloop.run.progress import Say, now_and_then


def micro_batches(texts: Sequence[Encoded], micro_batch_tokens: int) -> list[list[int]]:
    """Indices into `texts`, per micro-batch."""
    return token_budget_batches([len(text.input_ids) for text in texts], micro_batch_tokens)


def scores_of(model: Any, texts: Sequence[Encoded], indices: Sequence[int], pad_id: int) -> Tensor:
    """Raw scores [len(indices)] of some texts in one forward pass."""
    batch = pad_batch([texts[i] for i in indices], pad_id)
    return sequence_scores(model, batch["input_ids"], batch["attention_mask"])


_heard_by: ContextVar[Say | None] = ContextVar("heard_by", default=None)


@contextmanager
def heard_by(say: Say) -> Generator[None]:
    """Report the progress of `all_scores` to `say` within the context, however deep the call."""
    token = _heard_by.set(say)
    try:
        yield
    finally:
        _heard_by.reset(token)


@torch.no_grad()
def all_scores(
    model: Any, texts: Sequence[Encoded], pad_id: int, micro_batch_tokens: int
) -> Tensor:
    """Raw scores [texts] in the order of `texts`, without gradient."""
    scores = torch.zeros(len(texts))
    batches = micro_batches(texts, micro_batch_tokens)
    words = "{done} of {total} texts scored"
    for indices in now_and_then(batches, _heard_by.get(), words, sizes=map(len, batches)):
        scores[indices] = scores_of(model, texts, indices, pad_id)
    return scores
