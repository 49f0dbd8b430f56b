"""Batches: padding sequences, and choosing which ones share a batch."""

import random
from collections.abc import Hashable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

MEGA_BATCH = 32  # batches sorted by length together: enough to save padding, still random


class TokenSpan(Protocol):
    """Anything with tokens and a mask over them, such as `Encoded` and `Rollout`."""

    @property
    def input_ids(self) -> Sequence[int]:
        """The tokens, [seq]."""
        ...

    @property
    def response_mask(self) -> Sequence[bool]:
        """True on the tokens of the response, [seq]."""
        ...


def pad_batch(
    sequences: Sequence[TokenSpan], pad_id: int, side: Literal["right", "left"] = "right"
) -> dict[str, Tensor]:
    """Pad to the longest: input_ids [batch, seq] int64, attention_mask and response_mask bool.

    Both masks are True for what counts and come from lengths and spans, never from comparing tokens
    with `pad_id`: a real token may be equal to it.
    """
    assert sequences, "a batch needs at least one sequence"
    longest = max(len(sequence.input_ids) for sequence in sequences)
    input_ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    response_mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        length = len(sequence.input_ids)
        assert length == len(sequence.response_mask), "one mask entry per token"
        start = 0 if side == "right" else longest - length
        input_ids[row, start : start + length] = torch.tensor(sequence.input_ids, dtype=torch.long)
        attention_mask[row, start : start + length] = True
        response_mask[row, start : start + length] = torch.tensor(
            sequence.response_mask, dtype=torch.bool
        )
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "response_mask": response_mask,
    }


def length_grouped_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int = 0
) -> list[list[int]]:
    """One epoch of index batches of similar length, in random order; every index exactly once.

    Shuffle, cut into mega-batches of 32 batches, sort each by length, cut into batches, shuffle the
    batches. The result depends on (lengths, batch_size, seed, epoch) only. The last batch of the
    last mega-batch may be smaller.
    """
    assert batch_size > 0, "a batch holds at least one index"
    # an own generator: the order must not depend on other draws
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    for mega in _chunks(order, MEGA_BATCH * batch_size):
        batches += _chunks(sorted(mega, key=lambda index: lengths[index]), batch_size)
    rng.shuffle(batches)
    return batches


def token_budget_batches(
    lengths: Sequence[int], max_tokens: int, groups: Sequence[Hashable] | None = None
) -> list[list[int]]:
    """Batches, longest first, whose padded size rows * longest stays within `max_tokens`.

    Every index exactly once; a sequence longer than the budget gets its own batch. Longest first,
    so that a batch too large for the memory fails at once and not at the end. Indices with equal
    `groups` stay neighbours, so that shared parts can be computed once: the group with the longest
    sequence comes first.
    """
    assert max_tokens > 0, "the budget holds at least one token"
    keys = range(len(lengths)) if groups is None else groups
    longest: dict[Hashable, tuple[int, int]] = {}
    for index, key in enumerate(keys):
        longest[key] = max(longest.get(key, (0, -index)), (lengths[index], -index))
    # the index breaks ties, so equal lengths give the same batches everywhere
    order = sorted(
        range(len(lengths)),
        key=lambda i: (-longest[keys[i]][0], -longest[keys[i]][1], -lengths[i]),
    )
    batches: list[list[int]] = []
    widest = 0
    for index in order:
        widest = max(widest, lengths[index])
        if batches and (len(batches[-1]) + 1) * widest <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
            widest = lengths[index]
    return batches


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
