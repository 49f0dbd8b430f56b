import math

import pytest
import torch
from torch.testing import assert_close

from alignloop.losses import reduce_tokens, token_cross_entropy


def test_cross_entropy_by_hand():
    # softmax(0, log 2, 0) = 1/4, 1/2, 1/4: -log(1/2) and -log(1/4); a uniform row: log 3
    row = [0.0, math.log(2.0), 0.0]
    logits = torch.tensor([[row, row, [5.0, 5.0, 5.0]]])
    loss = token_cross_entropy(logits, torch.tensor([[1, 0, 2]]))
    assert_close(loss, torch.tensor([[math.log(2.0), math.log(4.0), math.log(3.0)]]))


def test_large_logits_keep_their_digits():
    # log(1 + exp(-1)) = 0.3132617, wherever the logits stand
    logits = torch.tensor([[[100_000.0, 99_999.0]]])
    assert_close(token_cross_entropy(logits, torch.tensor([[0]])), torch.tensor([[0.3132617]]))


def test_bfloat16_logits_are_widened_first():
    logits = torch.tensor([[[1.0, 0.0]]], dtype=torch.bfloat16)
    loss = token_cross_entropy(logits, torch.tensor([[0]]))
    assert_close(loss, torch.tensor([[0.3132617]]))  # 8 bits would give 0.3125


def test_the_gradient_is_softmax_minus_one_hot_and_zero_outside_of_the_mask():
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    loss = token_cross_entropy(logits, torch.tensor([[1, 0]]))
    reduce_tokens(loss, torch.tensor([[True, False]])).backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[[0.5, -0.5], [0.0, 0.0]]]


def test_there_is_no_ignored_id():
    with pytest.raises(RuntimeError, match="out of bounds"):
        token_cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[-100]]))
