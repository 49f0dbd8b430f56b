import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from alignloop.losses import AdaptiveKl, kl_estimate, kl_penalty, reduce_tokens

P = torch.tensor([0.5, 0.5], dtype=torch.float64)
Q = torch.tensor([0.25, 0.75], dtype=torch.float64)
# KL(p || q) = 0.5 log 2 + 0.5 log(2/3) = 0.5 log(4/3)
KL_PQ = 0.5 * math.log(4 / 3)


def test_estimators_by_hand():
    # d = log 2 - 0: k1 = log 2, k2 = (log 2)^2 / 2, k3 = 1/2 - 1 + log 2
    logprobs, ref = torch.tensor([[math.log(2.0)]]), torch.tensor([[0.0]])
    assert_close(kl_estimate(logprobs, ref), torch.tensor([[0.6931472]]))
    assert_close(kl_estimate(logprobs, ref, "k2"), torch.tensor([[0.2402265]]))
    assert_close(kl_estimate(logprobs, ref, "k3"), torch.tensor([[0.1931472]]))


def test_the_sign_of_k1_says_who_is_surer():
    assert_close(
        kl_estimate(torch.tensor([[-3.0]]), torch.tensor([[-1.0]])), torch.tensor([[-2.0]])
    )


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator):
    # every outcome once, weighted with its probability: the expectation without sampling
    expectation = (P * kl_estimate(P.log(), Q.log(), estimator)).sum()
    assert_close(expectation, torch.tensor(KL_PQ, dtype=torch.float64))


def test_k2_is_biased():
    # 0.5 (log 2)^2 / 2 + 0.5 (log(2/3))^2 / 2 = 0.161213, while KL = 0.143841
    expectation = (P * kl_estimate(P.log(), Q.log(), "k2")).sum()
    assert_close(expectation.item(), 0.25 * (math.log(2) ** 2 + math.log(2 / 3) ** 2))
    assert expectation.item() > KL_PQ + 0.01


def _gradient_as_a_loss(estimator):
    """Expected gradient of the estimate used as a loss on sampled tokens (no score function)."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (P * kl_estimate(torch.log_softmax(logits, 0), Q.log(), estimator)).sum().backward()
    return logits.grad


def test_only_k2_has_the_gradient_of_the_kl_as_a_loss():
    # checklist 9. dKL/dlogit_i = p_i (d_i - KL) with d = (log 2, log 2/3)
    true = P * (P.log() - Q.log() - KL_PQ)
    assert_close(_gradient_as_a_loss("k2"), true)
    assert_close(_gradient_as_a_loss("k1"), torch.zeros_like(true))  # pure noise
    # k3: sum_j p_j (1 - q_j/p_j) (delta_ij - p_i) = p_i - q_i = (0.25, -0.25)
    assert_close(_gradient_as_a_loss("k3"), P - Q)


def test_the_penalty_has_the_gradient_of_the_kl():
    """Tokens of the old policy P, all outcomes once: on policy the gradient is that of the KL."""
    logits = P.log().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    (P * kl_penalty(logprobs, P.log(), Q.log())).sum().backward()
    assert_close(logits.grad, P * (P.log() - Q.log() - KL_PQ))


def test_the_penalty_has_the_gradient_of_the_kl_off_policy_too():
    """Drawn from Q and weighted by the ratio, it is still KL(P || R) and its gradient."""
    reference = torch.tensor([0.9, 0.1], dtype=torch.float64)
    logits = P.log().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    penalty = (Q * kl_penalty(logprobs, Q.log(), reference.log())).sum()
    penalty.backward()
    difference = P.log() - reference.log()
    kl = (P * difference).sum()
    assert_close(penalty.detach(), kl)
    assert_close(logits.grad, P * (difference - kl))


def test_the_penalty_by_hand():
    """d = 1/2, ratio 1: the slope is d; k3 alone has 1 - exp(-1/2) = 0.393469. Ratio 2: twice d."""
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    slopes = {}
    for name, loss in (
        ("kl", kl_penalty(logprobs, torch.tensor([[-1.0]]), torch.tensor([[-1.5]]))),
        (
            "twice",
            kl_penalty(logprobs, torch.tensor([[-1.0 - math.log(2)]]), torch.tensor([[-1.5]])),
        ),
        ("k3", kl_estimate(logprobs, torch.tensor([[-1.5]]), "k3")),
    ):
        (slopes[name],) = torch.autograd.grad(loss.sum(), logprobs)
    assert slopes["kl"].item() == pytest.approx(0.5)
    assert slopes["twice"].item() == pytest.approx(1.0)
    assert slopes["k3"].item() == pytest.approx(0.393469, abs=1e-6)


def test_the_penalty_is_that_of_trl():
    """GRPO of TRL 1.16: (exp(ref - p) - (ref - p) - 1) * exp(p - old), with its gradient."""
    generator = torch.Generator().manual_seed(0)
    logprobs, old, ref = (-3 * torch.rand(4, 7, generator=generator) for _ in range(3))
    logprobs.requires_grad_()
    gap = ref - logprobs
    theirs = (torch.exp(gap) - gap - 1) * torch.exp(logprobs - old)
    ours = kl_penalty(logprobs, old, ref)
    assert_close(ours, theirs, rtol=0, atol=1e-5)
    (one,), (other,) = (torch.autograd.grad(x.sum(), logprobs) for x in (ours, theirs))
    assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_k3_keeps_its_digits_for_models_that_nearly_agree():
    # d = 3e-4: d^2/2 - d^3/6 = 4.49955e-08. In float32 the terms that cancel have steps of 2^-35
    # (3e-11), those of exp(-d) - 1 steps of 2^-24 (6e-8), which is more than the result itself
    near = kl_estimate(torch.tensor([[3e-4]]), torch.tensor([[0.0]]), "k3").item()
    assert near == pytest.approx(4.49955e-08, abs=2**-35)


def test_equal_models_have_exactly_no_kl():
    same = torch.tensor([[-1.7, -0.3]])
    for estimator in ("k1", "k2", "k3"):
        assert kl_estimate(same, same, estimator).tolist() == [[0.0, 0.0]]


def test_an_unknown_estimator_is_refused():
    with pytest.raises(KeyError):
        kl_estimate(torch.zeros(1, 1), torch.zeros(1, 1), "k4")  # type: ignore[arg-type]


def test_adaptive_coefficient_by_hand():
    start = AdaptiveKl(coef=0.1, target=6.0, horizon=10_000)
    # error 6.6 / 6 - 1 = 0.1: coef 0.1 * (1 + 0.1 * 500 / 10000)
    assert start.updated(6.6, 500).coef == pytest.approx(0.1005)
    # error 60 / 6 - 1 = 9, clipped to 0.2; error -1 clipped to -0.2
    assert start.updated(60.0, 500).coef == pytest.approx(0.101)
    assert start.updated(0.0, 500).coef == pytest.approx(0.099)
    assert start.updated(6.0, 500) == start


def test_the_controller_is_a_value():
    start = AdaptiveKl(coef=0.1, target=6.0)
    start.updated(60.0, 500)
    assert start.coef == 0.1
    with pytest.raises(dataclasses.FrozenInstanceError):
        start.coef = 1.0  # type: ignore[misc]


def test_the_target_is_per_sequence_and_not_per_token():
    # checklist 10: two responses of ten tokens, 0.6 nats each: 6 nats per sequence, on target
    kl = torch.full((2, 10), 0.6, dtype=torch.float64)
    mask = torch.ones(2, 10, dtype=torch.bool)
    per_sequence = reduce_tokens(kl, mask, count=2).item()
    per_token = reduce_tokens(kl, mask).item()
    controller = AdaptiveKl(coef=0.1, target=6.0)
    assert controller.updated(per_sequence, 500).coef == pytest.approx(0.1)
    # the mistake: 0.6 reads as far below the target, and the coefficient falls at full speed
    assert controller.updated(per_token, 500).coef == pytest.approx(0.099)
