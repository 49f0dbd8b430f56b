import math

import torch
from torch.testing import assert_close

from alignloop.losses import ppo_policy_loss

LOG2 = math.log(2.0)


def test_four_corners_by_hand():
    # ratios 2, 2, 1/2, 1/2 with advantages +1, -1, +1, -1 and clip range 0.2
    logprobs = torch.tensor([[LOG2, LOG2, -LOG2, -LOG2]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    out = ppo_policy_loss(logprobs, torch.zeros(1, 4), advantages, clip_range=0.2)
    # -min(2, 1.2) = -1.2; -min(-2, -1.2) = 2; -min(0.5, 0.8) = -0.5; -min(-0.5, -0.8) = 0.8
    assert_close(out.loss, torch.tensor([[-1.2, 2.0, -0.5, 0.8]]))
    assert_close(out.metrics["ratio"], torch.tensor([[2.0, 2.0, 0.5, 0.5]]))
    assert out.metrics["clip_fraction"].tolist() == [[1.0, 0.0, 0.0, 1.0]]
    # k3 of KL(old || new): ratio - 1 - log ratio = 1 - log 2, and -1/2 + log 2
    kl = [1 - LOG2, 1 - LOG2, LOG2 - 0.5, LOG2 - 0.5]
    assert_close(out.metrics["approx_kl"], torch.tensor([kl]))


def test_clip_range_high_moves_the_upper_bound_alone():
    logprobs = torch.tensor([[LOG2, -LOG2]])
    out = ppo_policy_loss(
        logprobs,
        torch.zeros(1, 2),
        torch.tensor([[1.0, -1.0]]),
        clip_range=0.2,
        clip_range_high=0.3,
    )
    assert_close(out.loss, torch.tensor([[-1.3, 0.8]]))  # -(1 + 0.3), -(1 - 0.2) * -1


def test_clipping_takes_the_gradient_away():
    logprobs = torch.tensor([[LOG2, LOG2, -LOG2, -LOG2]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    ppo_policy_loss(logprobs, torch.zeros(1, 4), advantages, clip_range=0.2).loss.sum().backward()
    # d(-ratio * A) / d logprob = -ratio * A where not clipped
    assert_close(logprobs.grad, torch.tensor([[0.0, 2.0, -0.5, 0.0]]))


def test_first_update_is_the_plain_policy_gradient():
    # checklist 26: the same logprobs give ratio exactly 1, KL exactly 0, no clipping
    old = -torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) * 20
    logprobs = old.clone().requires_grad_()
    advantages = torch.arange(-10.0, 11.0).reshape(3, 7)
    out = ppo_policy_loss(logprobs, old, advantages, clip_range=0.2)
    assert torch.equal(out.metrics["ratio"], torch.ones(3, 7))
    assert torch.equal(out.metrics["approx_kl"], torch.zeros(3, 7))
    assert torch.equal(out.metrics["clip_fraction"], torch.zeros(3, 7))
    out.loss.sum().backward()
    assert torch.equal(logprobs.grad, -advantages)  # REINFORCE: -A * d logprob


def test_metrics_carry_no_gradient():
    logprobs = torch.zeros(1, 2, requires_grad=True)
    out = ppo_policy_loss(logprobs, torch.zeros(1, 2), torch.ones(1, 2), clip_range=0.2)
    assert out.loss.requires_grad
    assert [name for name, metric in out.metrics.items() if metric.requires_grad] == []
    assert set(out.metrics) == {"ratio", "clip_fraction", "approx_kl"}
