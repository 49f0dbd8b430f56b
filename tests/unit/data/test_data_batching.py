"""Padding and the choice of batches."""

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.data.batching import length_grouped_batches, pad_batch, token_budget_batches

LENGTHS = st.lists(st.integers(1, 50), max_size=300)


@dataclass(frozen=True)
class Span:
    input_ids: tuple[int, ...]
    response_mask: tuple[bool, ...]


SPANS = [Span((5, 0, 7), (False, True, True)), Span((8,), (True,))]


@pytest.mark.parametrize(
    ("side", "ids", "attention", "response"),
    [
        ("right", [[5, 0, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]], [[0, 1, 1], [1, 0, 0]]),
        ("left", [[5, 0, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]], [[0, 1, 1], [0, 0, 1]]),
    ],
)
def test_pad_batch_keeps_real_tokens_that_are_equal_to_the_pad(
    side: Literal["right", "left"],
    ids: list[list[int]],
    attention: list[list[int]],
    response: list[list[int]],
) -> None:
    batch = pad_batch(SPANS, pad_id=0, side=side)
    assert batch["input_ids"].dtype == torch.long
    assert batch["input_ids"].tolist() == ids
    assert batch["attention_mask"].dtype == batch["response_mask"].dtype == torch.bool
    assert batch["attention_mask"].int().tolist() == attention
    assert batch["response_mask"].int().tolist() == response


def test_pad_batch_refuses_nothing_and_masks_that_do_not_fit() -> None:
    with pytest.raises(AssertionError, match="at least one"):
        pad_batch([], pad_id=0)
    with pytest.raises(AssertionError, match="one mask entry per token"):
        pad_batch([Span((1, 2), (True,))], pad_id=0)


@settings(deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_length_grouped_batches_hold_every_index_once(
    lengths: list[int], batch_size: int, seed: int
) -> None:
    batches = length_grouped_batches(lengths, batch_size, seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(len(batch) <= batch_size for batch in batches)


def test_length_grouped_batches_depend_on_seed_and_epoch_only() -> None:
    lengths = [number % 17 + 1 for number in range(500)]
    first = length_grouped_batches(lengths, 4, seed=3, epoch=0)
    assert length_grouped_batches(lengths, 4, seed=3, epoch=0) == first
    assert length_grouped_batches(lengths, 4, seed=3, epoch=1) != first
    assert length_grouped_batches(lengths, 4, seed=4, epoch=0) != first


def test_length_grouped_batches_are_alike_inside_and_shuffled_outside() -> None:
    # 128 lengths fill one mega-batch of 32 batches of 4, so each batch is four neighbours.
    batches = length_grouped_batches(list(range(128)), 4, seed=0)
    assert sorted(batches) == [list(range(start, start + 4)) for start in range(0, 128, 4)]
    assert batches != sorted(batches)


@settings(deadline=None)
@given(lengths=LENGTHS, max_tokens=st.integers(1, 200))
def test_token_budget_batches_stay_within_the_budget(lengths: list[int], max_tokens: int) -> None:
    batches = token_budget_batches(lengths, max_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= max_tokens or len(batch) == 1


def test_token_budget_batches_by_hand() -> None:
    # Longest first: 9 is over the budget of 8 and stands alone; 4 takes 4 (2 * 4 = 8);
    # 3 takes 2 (2 * 3 = 6), and a third row would make 9; 1 is left over.
    assert token_budget_batches([1, 4, 9, 2, 4, 3], max_tokens=8) == [[2], [1, 4], [5, 3], [0]]
    assert token_budget_batches([], max_tokens=8) == []


def test_groups_stay_neighbours_by_hand() -> None:
    """The group with the longest comes first, inside it the longest; 20 padded tokens fit."""
    lengths, groups = [5, 9, 4, 8, 6], ["a", "b", "a", "b", "a"]
    assert token_budget_batches(lengths, 20, groups) == [[1, 3], [4, 0, 2]]
    lengths = [5, 7, 10, 8, 6]
    assert token_budget_batches(lengths, 20, groups) == [[2, 4], [0, 3], [1]]
    assert token_budget_batches(lengths, 20) == [[2, 3], [1, 4], [0]]
