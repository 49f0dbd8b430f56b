"""Causal attention over packed tokens: which query attends to which keys, and the products."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from alignloop.fastpath.packing import Packing
from alignloop.tensors import Gradients, applied, once

# On a CPU, up to this length, computing all scores at once beats the fused kernel's large blocks.
LONGEST_WHOLE = 512


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Which tokens are queries, and which keys each of them may attend to.

    queries [batch, width]: indices into the list of queries, padded; outputs [queries]: indices
    into the flattened `queries`; keys [batch, longest]: indices into the list of all tokens;
    bias [1 or batch, width, longest]: 0 if the query attends to the key, otherwise -inf. `shared`:
    some keys belong to several rows.
    """

    queries: Tensor
    outputs: Tensor
    keys: Tensor
    bias: Tensor
    shared: bool


def all_queries(packing: Packing) -> Pattern:
    """Every token is a query; a token shared by several rows is computed in the first of them."""
    longest = packing.rows.shape[1]
    columns = torch.arange(longest, device=packing.rows.device)
    bias = torch.zeros(longest, longest, device=columns.device)
    bias.masked_fill_(columns > columns.unsqueeze(1), -torch.inf)
    return Pattern(
        queries=packing.rows,
        outputs=packing.owners * longest + packing.positions,
        keys=packing.rows,
        bias=bias.unsqueeze(0),
        shared=packing.shared,
    )


def some_queries(packing: Packing, queries: Tensor) -> Pattern:
    """Only the tokens with these indices [queries], ascending, are queries."""
    owners, positions = packing.owners[queries], packing.positions[queries]
    batch, longest = packing.rows.shape
    # a query's column is its rank among the queries of its row
    numbers = torch.arange(len(queries), device=queries.device)
    counts = torch.bincount(owners, minlength=batch)
    width = int(counts.max())
    outputs = owners * width + numbers - (counts.cumsum(0) - counts)[owners]
    padded = torch.zeros(batch * width, dtype=torch.long, device=queries.device)
    padded[outputs] = numbers
    # padded queries attend to everything: a row of -inf alone would make softmax NaN
    last_seen = torch.full((batch * width,), longest, device=queries.device)
    last_seen[outputs] = positions
    columns = torch.arange(longest, device=queries.device)
    bias = torch.zeros(batch * width, longest, device=queries.device)
    bias.masked_fill_(columns > last_seen.unsqueeze(1), -torch.inf)
    return Pattern(
        queries=padded.view(batch, width),
        outputs=outputs,
        keys=packing.rows,
        bias=bias.view(batch, width, longest),
        shared=packing.shared,
    )


def attend(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float) -> Tensor:
    """Attention output of each query: [queries, heads, head].

    q [queries, heads, head], k and v [tokens, key-value heads, head]; q and k already rotated.
    """
    if q.device.type == "cpu" and pattern.keys.shape[1] <= LONGEST_WHOLE:
        return applied(_Whole, q, k, v, pattern, scale)
    queries, keys, values = (
        x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:]).transpose(1, 2)
        for x, index in ((q, pattern.queries), (k, pattern.keys), (v, pattern.keys))
    )
    # if every token is a query, `is_causal` lets the kernel skip the upper triangle, without a mask
    causal = pattern.queries is pattern.keys
    mixed = scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=None if causal else (pattern.bias == 0).unsqueeze(1),
        is_causal=causal,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, pattern.outputs)


class _Whole(torch.autograd.Function):
    """softmax(q k^T scale + bias) v by batched products, one per row and key-value head.

    The queries of heads that share keys are stacked. On a CPU these small products are as fast as
    large ones; autograd would copy and keep more.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float
    ) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        query_rows = _by_head(pattern.queries, q.shape[1], groups)
        key_rows = _by_head(pattern.keys, k.shape[1], 1)
        queries = _rows(q, query_rows)
        keys, values = _rows(k, key_rows), _rows(v, key_rows)
        bias = pattern.bias.repeat(1, groups, 1) if groups > 1 else pattern.bias
        if len(bias) > 1:
            bias = bias.repeat_interleave(k.shape[1], dim=0)
        # one call scales, multiplies and masks: the scores are written once
        scores = torch.baddbmm(bias.to(q.dtype), queries, keys.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1)
        outputs = _outputs(pattern, q.shape[1], groups)
        ctx.save_for_backward(queries, keys, values, weights)
        ctx.scale, ctx.key_rows, ctx.outputs = scale, key_rows, outputs
        ctx.sizes = q.shape, k.shape
        mixed = torch.bmm(weights, values).view(-1, q.shape[2])
        return mixed.index_select(0, outputs).view(q.shape)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        queries, keys, values, weights = ctx.saved_tensors
        q_shape, k_shape = ctx.sizes
        d_mixed = torch.zeros_like(queries)  # 0 at padding and at unused outputs
        d_mixed.view(-1, q_shape[2]).index_copy_(0, ctx.outputs, grad.reshape(-1, q_shape[2]))
        d_values = torch.bmm(weights.transpose(1, 2), d_mixed)
        d_weights = torch.bmm(d_mixed, values.transpose(1, 2))
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_queries = torch.bmm(d_scores, keys).mul_(ctx.scale)
        d_keys = torch.bmm(d_scores.transpose(1, 2), queries).mul_(ctx.scale)
        d_q = d_queries.view(-1, q_shape[2]).index_select(0, ctx.outputs).view(q_shape)
        d_k, d_v = (_back(x, ctx.key_rows, k_shape) for x in (d_keys, d_values))
        return d_q, d_k, d_v, None, None


def _by_head(rows: Tensor, heads: int, groups: int) -> Tensor:
    """Indices [batch * heads / groups, groups * seq] into [tokens * heads] for the given `rows`."""
    numbers = torch.arange(heads, device=rows.device).view(1, heads, 1)
    return (rows.unsqueeze(1) * heads + numbers).view(len(rows) * heads // groups, -1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """[tokens, heads, head] as [batch * heads, seq, head]."""
    flat = x.reshape(-1, x.shape[2]).index_select(0, index.flatten())
    return flat.view(*index.shape, x.shape[2])


def _outputs(pattern: Pattern, heads: int, groups: int) -> Tensor:
    """Index of the output of head h of each query: [queries * heads]."""
    width = pattern.queries.shape[1]
    row, slot = pattern.outputs // width, pattern.outputs % width
    numbers = torch.arange(heads, device=row.device)
    return ((row.unsqueeze(1) * heads + numbers) * width + slot.unsqueeze(1)).flatten()


def _back(grad: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    """Scatter the gradient [batch * heads, seq, head] back to the tokens: [tokens, ...]."""
    flat = torch.zeros(shape[0] * shape[1], shape[2], dtype=grad.dtype, device=grad.device)
    # add, not copy: padding repeats a row's last token, and shared tokens occur in several rows
    return flat.index_add_(0, index.flatten(), grad.view(-1, shape[2])).view(shape)
