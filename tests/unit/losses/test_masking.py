import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from alignloop.losses import masked_mean, masked_var, reduce_tokens, whiten

NAN, INF = math.nan, math.inf

# two sequences with 1 and 3 tokens that count; garbage where nothing counts
LOSS = torch.tensor([[NAN, 8.0, INF, -INF], [1.0, 2.0, 3.0, NAN]])
MASK = torch.tensor([[False, True, False, False], [True, True, True, False]])


def test_over_tokens_is_the_mean_of_all_tokens():
    # (8 + 1 + 2 + 3) / 4 tokens
    assert reduce_tokens(LOSS, MASK).item() == 3.5


def test_over_sequences_is_the_mean_of_the_means():
    # (8 / 1 + (1 + 2 + 3) / 3) / 2 sequences
    assert reduce_tokens(LOSS, MASK, over="sequences").item() == 5.0


def test_count_given_by_the_caller_is_the_divisor():
    assert reduce_tokens(LOSS, MASK, count=7).item() == 2.0  # 14 / 7
    assert reduce_tokens(LOSS, MASK, count=torch.tensor(7)).item() == 2.0
    assert reduce_tokens(LOSS, MASK, over="sequences", count=5).item() == 2.0  # (8 + 2) / 5


def test_sequences_without_a_token_are_not_counted():
    loss = torch.tensor([[4.0, 6.0], [NAN, NAN]])
    mask = torch.tensor([[True, True], [False, False]])
    assert reduce_tokens(loss, mask, over="sequences").item() == 5.0


@pytest.mark.parametrize("over", ["tokens", "sequences"])
def test_no_token_at_all_is_zero_and_not_nan(over):
    assert reduce_tokens(LOSS, torch.zeros_like(MASK), over=over).item() == 0.0


@pytest.mark.parametrize("over", ["tokens", "sequences"])
def test_nan_outside_the_mask_does_not_leak_into_the_gradient(over):
    loss = LOSS.clone().requires_grad_()
    reduce_tokens(loss, MASK, over=over).backward()
    share = {"tokens": (1 / 4, 1 / 4), "sequences": (1 / 2, 1 / 6)}[over]
    expected = torch.tensor([[0, share[0], 0, 0], [share[1], share[1], share[1], 0]])
    assert_close(loss.grad, expected)


def test_sums_of_bfloat16_are_made_in_float32():
    # 257 is not a bfloat16: a sum of ones kept in that type would stop at 256
    ones = torch.ones(1, 257, dtype=torch.bfloat16)
    mask = torch.ones(1, 257, dtype=torch.bool)
    assert reduce_tokens(ones, mask, count=1).item() == 257.0


def test_misfits_are_refused():
    with pytest.raises(AssertionError):
        reduce_tokens(LOSS, MASK[:, :3])
    with pytest.raises(AssertionError):
        reduce_tokens(LOSS, MASK, count=0)
    with pytest.raises(KeyError):
        reduce_tokens(LOSS, MASK, over="sequence")  # type: ignore[arg-type]


@st.composite
def ragged_batches(draw):
    """Values and mask [rows, 5], at least one True entry, and a cut of the rows in two."""
    rows = draw(st.integers(2, 6))
    number = st.floats(-10, 10, allow_nan=False)
    values = draw(st.lists(st.lists(number, min_size=5, max_size=5), min_size=rows, max_size=rows))
    lengths = draw(st.lists(st.integers(0, 5), min_size=rows, max_size=rows).filter(any))
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    return torch.tensor(values, dtype=torch.float64), mask, draw(st.integers(1, rows - 1))


def _gradient(parameter, values, mask, cuts, over, count):
    """Gradient of one step accumulated over the micro-batches that `cuts` names."""
    weight = torch.tensor(parameter, dtype=torch.float64, requires_grad=True)
    for rows in cuts:
        loss = torch.sin(weight * values[rows])
        reduce_tokens(loss, mask[rows], over=over, count=count).backward()
    assert weight.grad is not None
    return weight.grad


@settings(deadline=None, max_examples=60)
@given(ragged_batches(), st.sampled_from(["tokens", "sequences"]))
def test_cutting_into_micro_batches_does_not_change_the_gradient(batch, over):
    values, mask, cut = batch
    count = int(mask.sum() if over == "tokens" else mask.any(dim=1).sum())
    whole = _gradient(0.7, values, mask, [slice(None)], over, None)
    parts = _gradient(0.7, values, mask, [slice(0, cut), slice(cut, None)], over, count)
    assert_close(parts, whole)


def test_the_mean_of_micro_batch_means_is_the_mistake_that_count_avoids():
    # checklist 23: rows with 1 and 3 tokens; (8 + 2) / 2 = 5 is not 14 / 4 = 3.5
    rows = [slice(0, 1), slice(1, 2)]
    wrong = sum(reduce_tokens(LOSS[r], MASK[r]).item() for r in rows) / 2
    right = sum(reduce_tokens(LOSS[r], MASK[r], count=4).item() for r in rows)
    assert (wrong, right) == (5.0, 3.5)


def test_masked_mean_and_variance_by_hand():
    # 8, 1, 2, 3: mean 14 / 4; deviations 4.5, -2.5, -1.5, -0.5; squares 20.25+6.25+2.25+0.25 = 29
    assert masked_mean(LOSS, MASK).item() == 3.5
    assert_close(masked_var(LOSS, MASK), torch.tensor(29 / 3))
    assert masked_var(LOSS, MASK, unbiased=False).item() == 7.25


def test_moments_of_nothing_are_nan():
    nothing, one = torch.zeros_like(MASK), torch.zeros_like(MASK)
    one[0, 1] = True
    assert masked_mean(LOSS, nothing).isnan()
    assert masked_var(LOSS, one).isnan()
    assert masked_var(LOSS, one, unbiased=False).item() == 0.0


def test_whiten_by_hand():
    # 1, 3 count: mean 2, variance 1, so they become -1 and 1; 99 does not count
    values = torch.tensor([[1.0, 99.0], [3.0, NAN]])
    mask = torch.tensor([[True, False], [True, False]])
    assert_close(whiten(values, mask), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_whiten_without_shift_keeps_the_mean():
    # checklist 15: 2, 6: mean 4, standard deviation 2, so 4 - 1 and 4 + 1
    values, mask = torch.tensor([[2.0, 6.0]]), torch.tensor([[True, True]])
    assert_close(whiten(values, mask, shift_mean=False), torch.tensor([[3.0, 5.0]]))


def test_whiten_of_a_single_token_is_zero():
    one = torch.tensor([[True, False]])
    assert whiten(torch.tensor([[5.0, 7.0]]), one).tolist() == [[0.0, 0.0]]


@settings(deadline=None, max_examples=60)
@given(ragged_batches())
def test_whitened_tokens_have_mean_zero_and_variance_one(batch):
    # checklist 14: masked (NaN elsewhere changes nothing), and centred by default
    values, mask, _ = batch
    values = values + 3 * torch.arange(values.numel()).reshape(values.shape) ** 2
    mask = mask | (torch.arange(5) < 2)  # two tokens per row, so that there is a spread
    dirty = torch.where(mask, values, NAN)
    white = whiten(dirty, mask)[mask]
    spread = values[mask].var(unbiased=False)
    kept = whiten(dirty, mask, shift_mean=False)[mask]
    assert_close(white.mean(), torch.zeros_like(spread), atol=1e-9, rtol=0)
    assert_close(white.var(unbiased=False), spread / (spread + 1e-8))
    assert_close(kept.mean(), values[mask].mean())
    assert_close(kept.var(unbiased=False), spread / (spread + 1e-8))
