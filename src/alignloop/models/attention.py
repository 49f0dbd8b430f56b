"""Causal attention over packed tokens: who looks at whom, and the products."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from alignloop.models.packing import Packing

# On a CPU, up to here all scores at once are faster than the fused kernel, whose blocks are larger.
LONGEST_WHOLE = 512


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Which tokens ask (queries), and which keys each may see.

    queries [batch, asked]: places in the list of asking tokens, padded; answers [asking tokens]:
    places in the flattened `queries`; keys [batch, longest]: places in the list of all tokens;
    bias [1 or batch, asked, longest]: 0 where a query may look, -inf elsewhere. `shared`: some keys
    stand in several rows.
    """

    queries: Tensor
    answers: Tensor
    keys: Tensor
    bias: Tensor
    shared: bool


def everyone_asks(packing: Packing) -> Looks:
    """Every token asks; one that several rows share is answered in its first."""
    longest = packing.rows.shape[1]
    places = torch.arange(longest, device=packing.rows.device)
    bias = torch.zeros(longest, longest, device=places.device)
    bias.masked_fill_(places > places.unsqueeze(1), -torch.inf)
    return Looks(
        queries=packing.rows,
        answers=packing.owners * longest + packing.positions,
        keys=packing.rows,
        bias=bias.unsqueeze(0),
        shared=packing.shared,
    )


def some_ask(packing: Packing, asking: Tensor) -> Looks:
    """Only the tokens at the places `asking` [asked], ascending, have a question."""
    owners, positions = packing.owners[asking], packing.positions[asking]
    batch, longest = packing.rows.shape
    counts = torch.bincount(owners, minlength=batch)
    slots = torch.arange(len(asking), device=asking.device) - (counts.cumsum(0) - counts)[owners]
    width = int(counts.max())
    answers = owners * width + slots
    queries = torch.zeros(batch * width, dtype=torch.long, device=asking.device)
    queries[answers] = torch.arange(len(asking), device=asking.device)
    seen = torch.full((batch * width,), longest, device=asking.device)  # of empty slots: all
    seen[answers] = positions
    places = torch.arange(longest, device=asking.device)
    bias = torch.zeros(batch * width, longest, device=asking.device)
    bias.masked_fill_(places > seen.unsqueeze(1), -torch.inf)
    return Looks(
        queries=queries.view(batch, width),
        answers=answers,
        keys=packing.rows,
        bias=bias.view(batch, width, longest),
        shared=packing.shared,
    )


def attend(q: Tensor, k: Tensor, v: Tensor, looks: Looks, scale: float) -> Tensor:
    """What each asking token reads: [asked, heads, head].

    q [asked, heads, head], k and v [tokens, key-value heads, head], rotated already.
    """
    if q.device.type == "cpu" and looks.keys.shape[1] <= LONGEST_WHOLE:
        result: Any = _Whole.apply(q, k, v, looks, scale)
        return result
    queries, keys, values = (
        x.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)
        for x, index in ((q, looks.queries), (k, looks.keys), (v, looks.keys))
    )
    plain = looks.queries is looks.keys
    mixed = scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if plain else (looks.bias == 0).unsqueeze(1),
        is_causal=plain,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, looks.answers)


class _Whole(torch.autograd.Function):
    """softmax(q k^T scale + bias) v by batched products, one per row and key-value head.

    The queries of the heads that share keys stand below each other. On a CPU these products are as
    fast as large ones, and their scores are few; autograd would copy and keep more.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, looks: Looks, scale: float) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        ask, look = _by_head(looks.queries, q.shape[1], groups), _by_head(looks.keys, k.shape[1], 1)
        queries, keys, values = (_rows(x, i) for x, i in ((q, ask), (k, look), (v, look)))
        bias = looks.bias.repeat(1, groups, 1) if groups > 1 else looks.bias
        if len(bias) > 1:
            bias = bias.repeat_interleave(k.shape[1], dim=0)
        scores = torch.baddbmm(bias.to(q.dtype), queries, keys.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1)
        answers = _answers(looks, q.shape[1], groups)
        ctx.save_for_backward(queries, keys, values, weights)
        ctx.looks, ctx.scale, ctx.look, ctx.answers, ctx.sizes = (
            looks,
            scale,
            look,
            answers,
            (q.shape, k.shape),
        )
        mixed = torch.bmm(weights, values).view(-1, q.shape[2])
        return mixed.index_select(0, answers).view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights = ctx.saved_tensors
        q_shape, k_shape = ctx.sizes
        d_mixed = torch.zeros_like(queries)  # 0 where a slot is empty or nobody took the answer
        d_mixed.view(-1, q_shape[2]).index_copy_(0, ctx.answers, grad.reshape(-1, q_shape[2]))
        d_values = torch.bmm(weights.transpose(1, 2), d_mixed)
        d_weights = torch.bmm(d_mixed, values.transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_queries = torch.bmm(d_scores, keys).mul_(ctx.scale)
        d_keys = torch.bmm(d_scores.transpose(1, 2), queries).mul_(ctx.scale)
        d_q = d_queries.view(-1, q_shape[2]).index_select(0, ctx.answers).view(q_shape)
        d_k, d_v = (_back(x, ctx.look, k_shape) for x in (d_keys, d_values))
        return d_q, d_k, d_v, None, None


def _by_head(rows: Tensor, heads: int, groups: int) -> Tensor:
    """Places [batch * heads / groups, groups * seq] in [tokens * heads] of what `rows` names."""
    numbers = torch.arange(heads, device=rows.device).view(1, heads, 1)
    return (rows.unsqueeze(1) * heads + numbers).view(len(rows) * heads // groups, -1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """[tokens, heads, head] as [batch * heads, seq, head]."""
    flat = x.reshape(-1, x.shape[2]).index_select(0, index.flatten())
    return flat.view(*index.shape, x.shape[2])


def _answers(looks: Looks, heads: int, groups: int) -> Tensor:
    """Where the answer to head h of each asking token stands: [asked * heads]."""
    width = looks.queries.shape[1]
    row, slot = looks.answers // width, looks.answers % width
    numbers = torch.arange(heads, device=row.device)
    return ((row.unsqueeze(1) * heads + numbers) * width + slot.unsqueeze(1)).flatten()


def _back(grad: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    """The gradient [batch * heads, seq, head] at the tokens that were gathered: [tokens, ...]."""
    flat = torch.zeros(shape[0] * shape[1], shape[2], dtype=grad.dtype, device=grad.device)
    return flat.index_add_(0, index.flatten(), grad.view(-1, shape[2])).view(shape)
