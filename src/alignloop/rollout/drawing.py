"""Drawing tokens: uniform numbers that belong to a row, and what they choose of a distribution."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from alignloop.errors import UserError

# Above so many tokens, drawing sums blocks of so many before it looks into one of them.
LARGE_VOCABULARY, BLOCK = 4096, 128


def uniforms_of(seeds: Sequence[int], count: int) -> Tensor:
    """The first `count` uniform numbers in [0, 1) of each row's own stream: [rows, count], float32.

    Row i is SplitMix64 seeded by seeds[i] (Steele et al. 2014, doi:10.1145/2660193.2660195), of
    whose 64 bits the first 24 are kept. So what a row draws at its t-th token is a function of its
    seed and t alone: not of its neighbours, of how long others may get, or of the device.
    """
    u64, steps = numpy.uint64, numpy.arange(1, count + 1, dtype=numpy.uint64)
    z = numpy.array(seeds, dtype=u64).reshape(-1, 1) + steps * u64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    z = (z ^ (z >> u64(31))) >> u64(40)
    return torch.from_numpy(z.astype(numpy.float32) * numpy.float32(2**-24))


def is_stop(tokens: Tensor, stop_ids: Sequence[int]) -> Tensor:
    """True where a token is one of `stop_ids`."""
    found = tokens == stop_ids[0]
    for stop in stop_ids[1:]:
        found |= tokens == stop
    return found


def require_finite(logprobs: Tensor, model: Any) -> None:
    """Raise UserError where `draw` found no distribution: its logprobs [batch] are NaN there."""
    if bool(logprobs.isnan().any()):
        raise UserError(
            "the model's logits are no finite numbers (NaN or infinity): nothing can be drawn",
            where=str(getattr(model, "name_or_path", "") or type(model).__name__),
            fix="its weights are damaged or diverged (try an earlier checkpoint, or a lower"
            " learning_rate), or too large for model.dtype",
        )


def draw(
    logits: Tensor, uniform: Tensor, temperature: float, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One token per row by inverting the cumulative distribution at `uniform` in [0, 1).

    That is the softmax of logits / temperature, of which `top_p` below 1 keeps the likeliest tokens
    up to the one with which they reach that share (Holtzman et al. 2019, arXiv:1904.09751). At
    temperature 0 it is the likeliest token, whose probability is then 1.

    logits [batch, vocabulary]; returns token ids [batch] and their logprobs [batch] in nats, NaN in
    a row of which there is no distribution: one with NaN, with +infinity, or with -infinity alone.
    """
    logits = logits.float()
    if temperature == 0:
        largest, token = logits.max(dim=-1)
        return token, 0 * largest
    if temperature != 1:
        logits = logits / temperature
    # one softmax serves the draw and the logprob: on a CPU the exponentials are what drawing costs
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    token = _invert(probabilities, uniform.unsqueeze(-1)).clamp(max=probabilities.shape[-1] - 1)
    return token.squeeze(-1), probabilities.gather(-1, token).squeeze(-1).log()


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    """The likeliest tokens of p [batch, vocabulary] that reach `top_p` together; they sum to 1."""
    ordered, tokens = p.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(p).scatter_(-1, tokens, kept / kept.sum(-1, keepdim=True))


def _invert(p: Tensor, share: Tensor) -> Tensor:
    """The first token up to which more than `share` [batch, 1] of the probability lies: [batch, 1].

    In a large vocabulary first the block of tokens is found, then the token in it: a cumulative sum
    over all tokens takes as long as all else that drawing does, and several times that from 30,000.
    """
    vocabulary = p.shape[-1]
    if vocabulary <= LARGE_VOCABULARY:
        return _pick(p, share)[0]
    whole = vocabulary // BLOCK * BLOCK
    sums = p[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    if whole < vocabulary:
        sums = torch.cat([sums, p[:, whole:].sum(-1, keepdim=True)], dim=-1)
    block, cumulative = _pick(sums, share)
    weight, up_to = sums.gather(-1, block), cumulative.gather(-1, block)
    inner_share = (share * cumulative[:, -1:] - (up_to - weight)) / weight
    tokens = block * BLOCK + torch.arange(BLOCK, device=p.device)
    inside = p.gather(-1, tokens.clamp(max=vocabulary - 1)).masked_fill(tokens >= vocabulary, 0)
    return block * BLOCK + _pick(inside, inner_share.clamp(0, 1 - 2**-24))[0]


def _pick(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Where the cumulative sum [batch, choices] passes a share in [0, 1) of the total; that sum.

    weights [batch, choices], share [batch, 1]; the indices are [batch, 1].
    """
    cumulative = weights.cumsum(-1)
    threshold = share * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, threshold, right=True)
    return index.clamp(max=weights.shape[-1] - 1), cumulative
