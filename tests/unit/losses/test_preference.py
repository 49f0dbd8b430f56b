import math

import torch
from torch.testing import assert_close

from alignloop.losses import centring_loss, dpo_loss, ranking_loss

LOG3 = math.log(3.0)


def test_ranking_loss_by_hand():
    # sigmoid(log 3) = 3/4: -log(3/4) = 0.2876821; and the other way -log(1/4) = 1.3862944
    loss = ranking_loss(torch.tensor([LOG3, 0.0, 1.0]), torch.tensor([0.0, LOG3, 1.0]))
    assert_close(loss, torch.tensor([0.2876821, 1.3862944, math.log(2.0)]))


def test_soft_labels_by_hand():
    # p = 0.5: (0.2876821 + 1.3862944) / 2; p = 0.75: 0.75 * 0.2876821 + 0.25 * 1.3862944
    chosen, rejected = torch.tensor([LOG3, LOG3]), torch.zeros(2)
    loss = ranking_loss(chosen, rejected, preference=torch.tensor([0.5, 0.75]))
    assert_close(loss, torch.tensor([0.8369882, 0.5623352]))


def test_a_tie_pulls_equal_scores_nowhere_and_unequal_ones_together():
    chosen = torch.tensor([1.0, LOG3], requires_grad=True)
    rejected = torch.tensor([1.0, 0.0])
    ranking_loss(chosen, rejected, preference=torch.tensor([0.5, 0.5])).sum().backward()
    assert_close(chosen.grad, torch.tensor([0.0, 0.25]))  # sigmoid(d) - p = 0.75 - 0.5


def test_margin_by_hand():
    # d = 1 + log 3 - 0 - 1 = log 3
    loss = ranking_loss(torch.tensor([1 + LOG3]), torch.zeros(1), margin=torch.ones(1))
    assert_close(loss, torch.tensor([0.2876821]))


def test_far_below_minus_hundred_stays_finite_in_float32():
    # checklist 28: the textbook formula is infinite where ours is the difference itself
    difference = torch.tensor([-110.0, -1e4])
    assert torch.log(torch.sigmoid(difference)).isinf().all()
    chosen = difference.clone().requires_grad_()
    loss = ranking_loss(chosen, torch.zeros(2))
    assert loss.tolist() == [110.0, 10000.0]
    loss.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.tolist() == [-1.0, -1.0]


def test_far_above_hundred_stays_finite_in_float32():
    assert ranking_loss(torch.tensor([110.0, 1e4]), torch.zeros(2)).tolist() == [0.0, 0.0]


def test_dpo_far_below_minus_hundred_stays_finite_in_float32():
    zero = torch.zeros(1)
    assert dpo_loss(torch.tensor([-3000.0]), zero, zero, zero, beta=0.1).tolist() == [300.0]


def test_centring_loss_by_hand():
    # (3 - 1)^2, (2 + 3)^2, (1 - 1)^2
    loss = centring_loss(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([-1.0, 3.0, -1.0]))
    assert loss.tolist() == [4.0, 25.0, 0.0]


def _dpo(**settings):
    # chosen gained -1 - (-2) = 1 nat over the reference, rejected lost 2 log 3 - 1 nats
    chosen, rejected = torch.tensor([-1.0]), torch.tensor([-4.0 - (2 * LOG3 - 1)])
    return dpo_loss(chosen, rejected, torch.tensor([-2.0]), torch.tensor([-4.0]), **settings)


def test_dpo_loss_by_hand():
    # h = 0.5 * (1 + 2 log 3 - 1) = log 3; -log sigmoid(log 3) = -log(3/4)
    assert_close(_dpo(beta=0.5), torch.tensor([0.2876821]))


def test_dpo_label_smoothing_by_hand():
    # 0.9 * 0.2876821 + 0.1 * 1.3862944
    assert_close(_dpo(beta=0.5, label_smoothing=0.1), torch.tensor([0.3975433]))


def test_dpo_of_a_tie_by_hand():
    # (0.2876821 + 1.3862944) / 2, smoothed or not; p = 0.9 * 0.75 + 0.1 * 0.25 = 0.7
    tie = torch.tensor([0.5])
    assert_close(_dpo(beta=0.5, preference=tie), torch.tensor([0.8369882]))
    assert_close(_dpo(beta=0.5, preference=tie, label_smoothing=0.1), torch.tensor([0.8369882]))
    soft = _dpo(beta=0.5, preference=torch.tensor([0.75]), label_smoothing=0.1)
    assert_close(soft, torch.tensor([0.7 * 0.2876821 + 0.3 * 1.3862944]))


def test_dpo_of_the_reference_itself_is_log_two():
    chosen, rejected = torch.tensor([-3.0]), torch.tensor([-9.0])
    assert_close(
        dpo_loss(chosen, rejected, chosen, rejected, beta=0.1), torch.tensor([math.log(2.0)])
    )
