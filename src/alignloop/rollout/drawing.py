"""Drawing tokens: uniform numbers per row, and the tokens they select from a distribution."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from alignloop.errors import UserError

# Above this vocabulary size, draw a block of tokens first and then a token in it (see `_invert`).
LARGE_VOCABULARY, BLOCK = 4096, 128


def uniforms_of(seeds: Sequence[int], count: int) -> Tensor:
    """The first `count` uniform numbers in [0, 1) of each row's stream: [rows, count], float32.

    Row i is SplitMix64 seeded with seeds[i] (Steele et al. 2014, doi:10.1145/2660193.2660195); the
    top 24 of its 64 bits are kept. So token t of a row depends on its seed and t alone: not on
    other rows, the length limit or the device.
    """
    u64, steps = numpy.uint64, numpy.arange(1, count + 1, dtype=numpy.uint64)
    z = numpy.array(seeds, dtype=u64).reshape(-1, 1) + steps * u64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    # 24 bits are what a float32 in [0, 1) holds exactly: 1.0 can never come out
    z = (z ^ (z >> u64(31))) >> u64(40)
    return torch.as_tensor(z.astype(numpy.float32) * numpy.float32(2**-24))


def is_stop(tokens: Tensor, stop_ids: Sequence[int]) -> Tensor:
    """True where a token is one of `stop_ids`."""
    found = tokens == stop_ids[0]
    for stop in stop_ids[1:]:
        found |= tokens == stop
    return found


def require_finite(logprobs: Tensor, model: Any) -> None:
    """Raise UserError if any of the logprobs [batch] that `draw` returned is NaN."""
    if bool(logprobs.isnan().any()):
        raise UserError(
            "the model's logits are not finite (NaN or infinity), so no token can be drawn",
            where=str(getattr(model, "name_or_path", "") or type(model).__name__),
            fix="its weights are damaged or diverged (try an earlier checkpoint, or a lower"
            " learning_rate), or too large for model.dtype",
        )


def draw(
    logits: Tensor, uniform: Tensor, temperature: float, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One token per row by inverting the cumulative distribution at `uniform` in [0, 1).

    The distribution is softmax(logits / temperature); `top_p` below 1 keeps the likeliest tokens up
    to and including the one that reaches that share (Holtzman et al. 2019, arXiv:1904.09751).
    Temperature 0 takes the likeliest token, with probability 1.

    logits [batch, vocabulary]; returns token ids [batch] and their logprobs [batch] in nats, NaN if
    a row has no distribution: if it contains NaN or +infinity, or only -infinity.
    """
    logits = logits.float()
    if temperature == 0:
        largest, token = logits.max(dim=-1)
        return token, 0 * largest  # 0, but NaN if the logits are not finite
    if temperature != 1:
        logits = logits / temperature
    # one softmax for the draw and the logprob: on a CPU, drawing costs its exponentials
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    token = _invert(probabilities, uniform.unsqueeze(-1)).clamp(max=probabilities.shape[-1] - 1)
    return token.squeeze(-1), probabilities.gather(-1, token).squeeze(-1).log()


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest tokens of p [batch, vocabulary] that reach `top_p`, rescaled to sum 1."""
    # stable, so that ties are cut alike on every device
    ordered, tokens = p.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    nucleus = torch.where(before < top_p, ordered, 0.0)
    return torch.zeros_like(p).scatter_(-1, tokens, nucleus / nucleus.sum(-1, keepdim=True))


def _invert(p: Tensor, share: Tensor) -> Tensor:
    """First token where the cumulative probability exceeds `share` [batch, 1]: [batch, 1].

    A large vocabulary is searched in two steps, block then token: a cumulative sum over all tokens
    takes as long as the rest of drawing, and several times as long from 30,000 tokens.
    """
    vocabulary = p.shape[-1]
    if vocabulary <= LARGE_VOCABULARY:
        return _pick(p, share)[0]
    whole = vocabulary // BLOCK * BLOCK
    sums = p[:, :whole].view(len(p), whole // BLOCK, BLOCK).sum(-1)
    if whole < vocabulary:
        sums = torch.cat([sums, p[:, whole:].sum(-1, keepdim=True)], dim=-1)
    block, cumulative = _pick(sums, share)
    weight, up_to = sums.gather(-1, block), cumulative.gather(-1, block)
    inner_share = (share * cumulative[:, -1:] - (up_to - weight)) / weight
    tokens = block * BLOCK + torch.arange(BLOCK, device=p.device)
    inside = p.gather(-1, tokens.clamp(max=vocabulary - 1)).masked_fill(tokens >= vocabulary, 0)
    # rounding may push the share to 1, which would select a token after the block
    return block * BLOCK + _pick(inside, inner_share.clamp(0, 1 - 2**-24))[0]


def _pick(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Index where the cumulative sum passes a share in [0, 1) of the total, and that sum.

    weights and the sum [batch, choices], share and index [batch, 1].
    """
    cumulative = weights.cumsum(-1)
    threshold = share * cumulative[:, -1:]
    # right=True: a share of 0 must skip leading tokens of probability 0
    index = torch.searchsorted(cumulative, threshold, right=True)
    return index.clamp(max=weights.shape[-1] - 1), cumulative
