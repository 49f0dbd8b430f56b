"""Log-probabilities of given tokens from hidden states, without all logits at once."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from alignloop.tensors import Gradients, applied_pair, once

# Logits held at a time. Larger chunks are no faster and cost memory (32 MiB and 512 MiB here).
CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**27}


def target_logprobs(
    hidden: Tensor, head: Any, targets: Tensor, temperature: float, *, entropy: bool = True
) -> tuple[Tensor, Tensor]:
    """(log p(target), entropy), both [tokens] in nats and float32; entropy has no gradient.

    With `entropy=False`, which saves a pass over all logits, the entropy is 0.

        log p = log_softmax((hidden W^T + b) / temperature)

    Shapes: hidden [tokens, hidden], targets [tokens]; `head` is a linear layer to the vocabulary.
    Fusing log-softmax, gather and entropy reads each logit half as often as three functions do.
    If the logits need several chunks, backward computes them again.
    """
    return applied_pair(
        _TargetLogprobs, hidden, head.weight, head.bias, targets, temperature, entropy
    )


class _TargetLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        wants_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        size = max(1, CHUNK_LOGITS.get(hidden.device.type, 2**23) // weight.shape[0])
        logprobs: list[Tensor] = []
        entropies: list[Tensor] = []
        probabilities = None
        for begin in range(0, max(1, len(hidden)), size):  # no tokens: one empty chunk
            part = slice(begin, begin + size)
            logits = _logits(hidden[part], weight, bias, temperature)
            # in place: a copy of the logits is the largest tensor of the step
            logits -= logits.amax(dim=-1, keepdim=True)
            probabilities = logits.exp()
            total = probabilities.sum(dim=-1)
            logprobs.append(logits.gather(-1, targets[part, None]).squeeze(-1) - total.log())
            probabilities /= total.unsqueeze(-1)
            if wants_entropy:
                # bmm reads both once; an elementwise product would write a third tensor
                mean = torch.bmm(probabilities.unsqueeze(1), logits.unsqueeze(2)).flatten()
                entropies.append(total.log() - mean)
            else:
                entropies.append(torch.zeros_like(total))
        # keep a single chunk's probabilities; recompute several, which would need too much memory
        ctx.save_for_backward(
            hidden, weight, bias, targets, probabilities if len(logprobs) == 1 else None
        )
        ctx.size, ctx.temperature = size, temperature
        entropy = torch.cat(entropies)
        # the entropy is a metric: differentiating it would keep another tensor of logits' size
        ctx.mark_non_differentiable(entropy)
        return torch.cat(logprobs), entropy

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Gradients:
        """d log p(t) / d logit v = (1 at v = t, else 0) - p(v), over the temperature."""
        hidden, weight, bias, targets, probabilities = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad = grad / ctx.temperature
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        d_bias = torch.zeros_like(bias) if wants_bias else None
        for begin in range(0, len(hidden), ctx.size):
            part = slice(begin, begin + ctx.size)
            p = probabilities
            if p is None:
                p = torch.softmax(_logits(hidden[part], weight, bias, ctx.temperature), dim=-1)
            d_logits = p * -grad[part, None]
            d_logits.scatter_add_(-1, targets[part, None], grad[part, None])
            d_logits = d_logits.to(hidden.dtype)
            if d_hidden is not None:
                torch.mm(d_logits, weight, out=d_hidden[part])
            if d_weight is not None:
                d_weight.addmm_(d_logits.T, hidden[part])
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        return d_hidden, d_weight, d_bias, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = linear(hidden, weight, bias).float()
    return logits if temperature == 1 else logits / temperature
