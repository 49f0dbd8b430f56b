import math

import torch
from torch.testing import assert_close

from alignloop.losses import explained_variance, value_loss


def test_clipped_value_loss_by_hand():
    # checklist 16, clip range 0.2, old value 0 everywhere
    values = torch.tensor([[1.0, 1.0, 0.1]])
    returns = torch.tensor([[1.0, -1.0, 1.0]])
    out = value_loss(values, torch.zeros(1, 3), returns, clip_range=0.2)
    # clipped values 0.2, 0.2, 0.1
    # max(0, 0.64) / 2 = 0.32; max(4, 1.44) / 2 = 2; max(0.81, 0.81) / 2 = 0.405
    assert_close(out.loss, torch.tensor([[0.32, 2.0, 0.405]]))
    assert out.metrics["value_clip_fraction"].tolist() == [[1.0, 0.0, 0.0]]


def test_clip_range_none_is_half_the_squared_error():
    values, returns = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    out = value_loss(values, torch.full((1, 2), 100.0), returns, clip_range=None)
    assert out.loss.tolist() == [[2.0, 4.5]]  # 2^2 / 2, 3^2 / 2
    assert out.metrics["value_clip_fraction"].tolist() == [[0.0, 0.0]]


def test_gradient_flows_only_where_the_clip_is_not_active():
    values = torch.tensor([[1.0, 1.0]], requires_grad=True)
    out = value_loss(values, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), clip_range=0.2)
    out.loss.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 2.0]]  # clipped; value - return = 2
    assert not out.metrics["value_clip_fraction"].requires_grad


def test_explained_variance_by_hand():
    # returns 1, 2, 3 (mean 2, squares 1 + 0 + 1 = 2); values 1, 2, 2: errors 0, 0, 1 with mean 1/3
    # and squares 1/9 + 1/9 + 4/9 = 2/3; 1 - (2/3) / 2 = 2/3; the last column does not count
    returns = torch.tensor([[1.0, 2.0, 3.0, math.nan]])
    values = torch.tensor([[1.0, 2.0, 2.0, 77.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert_close(explained_variance(values, returns, mask), torch.tensor(2 / 3))


def test_explained_variance_of_perfect_constant_and_contrary_critics():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(returns, returns, mask).item() == 1.0
    assert explained_variance(torch.full((1, 3), 9.0), returns, mask).item() == 0.0
    # errors 2, 4, 6: four times the variance
    assert explained_variance(-returns, returns, mask).item() == -3.0


def test_explained_variance_of_returns_that_do_not_vary_is_nan():
    same, mask = torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(torch.tensor([[0.0, 1.0, 2.0]]), same, mask).isnan()


def test_rounding_is_not_clipping():
    """Inside the range nothing is clipped, though old + (new - old) is often not new."""
    draw = torch.Generator().manual_seed(0)
    old, new = (0.1 * torch.rand(2, 1, 4096, generator=draw)).unbind()
    returns = torch.randn(1, 4096, generator=draw)
    assert not torch.equal(old + (new - old), new)
    out = value_loss(new, old, returns, clip_range=0.2)
    assert out.metrics["value_clip_fraction"].sum() == 0
    assert torch.equal(out.loss, 0.5 * (new - returns).square())
