"""Log-probabilities of targets: the numbers of the plain computation, in chunks or not."""

import math

import pytest
import torch
from torch import Tensor, nn

from alignloop.fastpath import fused_logprobs
from alignloop.fastpath.fused_logprobs import target_logprobs

TOKENS, HIDDEN, VOCABULARY = 23, 8, 31


def inputs(bias: bool = False) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """Hidden states, head, targets, and an arbitrary gradient of the log-probabilities."""
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(TOKENS, HIDDEN, generator=generator).requires_grad_()
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    return hidden, head, targets, torch.randn(TOKENS, generator=generator)


def test_two_tokens_by_hand() -> None:
    """Logits (0, ln 3) give p = (1/4, 3/4); their gradient is the one-hot minus p."""
    head = nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[0.0], [math.log(3)]])
    hidden = torch.ones(1, 1, requires_grad=True)
    logprob, entropy = target_logprobs(hidden, head, torch.tensor([0]), 1.0)
    assert logprob.item() == pytest.approx(math.log(1 / 4))
    assert entropy.item() == pytest.approx(math.log(4) - 3 / 4 * math.log(3))
    logprob.sum().backward()
    assert head.weight.grad is not None and hidden.grad is not None
    torch.testing.assert_close(head.weight.grad, torch.tensor([[3 / 4], [-3 / 4]]))
    torch.testing.assert_close(hidden.grad, torch.tensor([[-3 / 4 * math.log(3)]]))


@pytest.mark.parametrize("chunk", [1, 5, 23, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_the_plain_computation(
    chunk: int, temperature: float, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fused_logprobs.CHUNK_LOGITS, "cpu", chunk * VOCABULARY)
    hidden, head, targets, upstream = inputs(bias)
    logprobs, entropy = target_logprobs(hidden, head, targets, temperature)
    found = torch.autograd.grad((logprobs * upstream).sum(), [hidden, *head.parameters()])
    full = torch.log_softmax(head(hidden) / temperature, -1)
    chosen = full.gather(-1, targets[:, None]).squeeze(-1)
    expected = torch.autograd.grad((chosen * upstream).sum(), [hidden, *head.parameters()])
    torch.testing.assert_close(logprobs, chosen)
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not entropy.requires_grad


def test_without_entropy_the_logprobs_are_the_same() -> None:
    hidden, head, targets, _ = inputs()
    with_it, entropy = target_logprobs(hidden, head, targets, 0.7)
    without, nothing = target_logprobs(hidden, head, targets, 0.7, entropy=False)
    assert torch.equal(with_it, without)
    assert bool((entropy > 0).all()) and not bool(nothing.any())


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, targets, upstream = inputs()
    head.requires_grad_(False)
    logprobs, _ = target_logprobs(hidden, head, targets, 1.0)
    (logprobs * upstream).sum().backward()
    assert hidden.grad is not None and head.weight.grad is None


def test_no_more_logits_than_a_chunk_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    widest = 0
    plain = fused_logprobs.linear

    def counting(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        nonlocal widest
        logits = plain(hidden, weight, bias)
        widest = max(widest, logits.numel())
        return logits

    monkeypatch.setitem(fused_logprobs.CHUNK_LOGITS, "cpu", 4 * VOCABULARY)
    monkeypatch.setattr(fused_logprobs, "linear", counting)
    hidden, head, targets, upstream = inputs()
    logprobs, _ = target_logprobs(hidden, head, targets, 1.0)
    (logprobs * upstream).sum().backward()
    assert widest == 4 * VOCABULARY


def test_no_tokens_at_all() -> None:
    hidden, head, targets, _ = inputs()
    logprobs, entropy = target_logprobs(hidden[:0], head, targets[:0], 1.0)
    assert logprobs.tolist() == entropy.tolist() == []
    logprobs.sum().backward()
    assert head.weight.grad is not None and not head.weight.grad.any()
