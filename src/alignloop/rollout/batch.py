"""A batch of rollouts as all models read it: padded and split into micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from alignloop.data.batching import pad_batch, token_budget_batches
from alignloop.rollout.decode import Rollout
from alignloop.shapes import TokenIds, TokenMask
from alignloop.tensors import integers


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """A padded batch of rollouts with its split into micro-batches."""

    rollouts: Sequence[Rollout]
    input_ids: TokenIds
    attention_mask: TokenMask
    response_mask: TokenMask
    micro_batches: list[list[int]]

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], pad_id: int, micro_batch_tokens: int) -> Self:
        """Pad on the right and split."""
        batch = pad_batch(rollouts, pad_id)
        rows = range(len(rollouts))
        return cls(
            rollouts=rollouts,
            micro_batches=split_rows(**batch, rows=rows, micro_batch_tokens=micro_batch_tokens),
            **batch,
        )

    @property
    def finished(self) -> torch.Tensor:
        """Which responses ended with EOS, [batch]."""
        return torch.tensor([rollout.finish_reason == "eos" for rollout in self.rollouts])

    def take(self, rows: list[int]) -> tuple[TokenIds, TokenMask, TokenMask]:
        """Ids, attention mask and response mask of some rows, cut to their longest sequence."""
        length = int(self.attention_mask[rows].sum(dim=1).max())
        masks = (self.input_ids, self.attention_mask, self.response_mask)
        ids, attention, response = (x[rows, :length] for x in masks)
        return ids, attention, response


def split_rows(
    input_ids: TokenIds,
    attention_mask: TokenMask,
    response_mask: TokenMask,
    rows: Sequence[int],
    micro_batch_tokens: int,
) -> list[list[int]]:
    """Micro-batches of similar length within a budget of padded tokens, equal prompts together."""
    lengths = integers(attention_mask.sum(dim=1))
    starts = integers(response_mask.int().argmax(dim=1))
    # equal prompts side by side: the fast path computes a common prefix once
    prompts = [tuple(integers(input_ids[row, : starts[row]])) for row in rows]
    micro_batches = token_budget_batches(
        [lengths[row] for row in rows], micro_batch_tokens, prompts
    )
    return [[rows[i] for i in micro_batch] for micro_batch in micro_batches]
