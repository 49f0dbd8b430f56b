"""One step of decoding as a compiled function; products are called from it as they stand.

torch.compile makes one kernel of what stands between two products: norms, rotary embedding,
attention over the cache. The numbers of rows and of places are dynamic, so that it is compiled once
per shape of model. A product is an operator that the compiler does not look into: weights packed
for the machine, adapters and quantised layers need no rules of their own, and a weight that was
trained is no new function.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from alignloop.rollout.memory import zeros
from alignloop.rollout.products import Project

BLOCK = 16  # places whose keys stand side by side: 64 bytes in float32

# What the operator below calls, by slot: those of the decoder that is in a step. A graph knows
# numbers and tensors alone, and its code outlives every decoder.
_at_hand: Sequence[Project] = ()
_seconds = 0.0

torch.library.define("alignloop::product", "(Tensor x, int slot, int width) -> Tensor")


@torch.library.impl("alignloop::product", "CompositeExplicitAutograd")
def _product(x: Tensor, slot: int, width: int) -> Tensor:
    return _at_hand[slot](x)


@torch.library.register_fake("alignloop::product")
def _product_shape(x: Tensor, slot: int, width: int) -> Tensor:
    return x.new_empty(x.shape[0], width)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a compiled step depends on: everything else may change from call to call."""

    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    gated: int  # twice the intermediate size; 0 where the MLP is called as a whole
    eps: float
    scale: float


@dataclass(frozen=True, kw_only=True)
class Norms:
    """The weights of one layer's RMSNorms; those of queries and keys in Qwen3 alone."""

    input: Tensor
    mlp: Tensor
    q: Tensor | None
    k: Tensor | None


class BlockCache:
    """Keys [rows, key-value heads, blocks, head, BLOCK] by layer, values [..., places, head].

    So scores are sums of whole vectors of places that lie behind one another in memory. There are
    more rows and blocks than needed: a slice that may be the whole would be compiled twice.
    """

    def __init__(self, like: Tensor, layers: int, shape: tuple[int, int, int, int]) -> None:
        rows, kv_heads, capacity, head = shape
        blocks = capacity // BLOCK + 3
        tables = zeros(like, rows + 2, kv_heads, blocks * BLOCK, head, count=2 * layers)
        self.values = tables[::2]
        self.keys = [t.view(rows + 2, kv_heads, blocks, head, BLOCK) for t in tables[1::2]]
        for table in (*self.keys, *self.values):
            _varies(table, 0, 2)

    def fill(self, layer: int, begin: int, keys: Tensor, values: Tensor) -> None:
        """Put prompts' [prompts, seq, key-value heads, head] into the rows from `begin` on."""
        end, width = begin + len(keys), keys.shape[1]
        self.values[layer][begin:end, :, :width] = values.transpose(1, 2)
        keys = pad(keys, (0, 0, 0, 0, 0, -width % BLOCK)).unflatten(1, (-1, BLOCK))
        self.keys[layer][begin:end, :, : keys.shape[1]] = keys.permute(0, 3, 1, 4, 2)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row's first tokens to another row."""
        for keys, values in zip(self.keys, self.values, strict=True):
            values[target, :, :length] = values[source, :, :length]
            blocks = -(-length // BLOCK)
            keys[target, :, :blocks] = keys[source, :, :blocks]


class CompiledStep:
    """Calls the compiled step of a shape, with one decoder's products and tables."""

    def __init__(
        self,
        shape: Shape,
        products: Sequence[Project],
        norms: Sequence[Norms],
        last_norm: Tensor,
        angles: tuple[Tensor, Tensor],
        *,
        rows: int,
    ) -> None:
        size = (rows, shape.kv_heads, len(angles[0]), shape.head_dim)
        self.cache = BlockCache(last_norm, len(norms), size)
        self._run, self._products = _compiled(shape), products
        self._norms = [(n.input, n.mlp, n.q, n.k) for n in norms]
        self._last_norm, self._angles = last_norm, angles
        self._asked = last_norm.new_zeros(rows + 2, shape.heads, shape.head_dim)
        _varies(self._asked, 0)
        blocks = torch.arange(self.cache.keys[0].shape[2], device=last_norm.device)
        self._all_places = blocks.unsqueeze(1) * BLOCK + torch.arange(BLOCK, device=blocks.device)

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """The last hidden states, normed, of embedded tokens [count, hidden] at `places` [count].

        Keys and values are written to the first rows of the cache.
        """
        global _at_hand, _seconds
        count = len(x)
        if count == 1:  # a size of 1 would be compiled once more: the row twice, into a free one
            x, places = x.expand(2, -1).contiguous(), torch.cat([places, places])
        seen = self._all_places[: max(2, int(places.max()) // BLOCK + 1)]
        cos, sin = (table.index_select(0, places) for table in self._angles)
        for varying in (x, places, seen, cos, sin):
            _varies(varying, 0)
        _at_hand, began, graphs = self._products, time.perf_counter(), _num_graphs()
        tables = (
            (cos, sin),
            self._asked,
            self.cache.keys,
            self.cache.values,
            self._norms,
            self._last_norm,
        )
        try:
            found = self._run(x, places, seen, *tables)
        finally:
            _at_hand = ()  # or the last decoder's weights would live on
        if _num_graphs() > graphs:
            _seconds += time.perf_counter() - began
        return found[:count]


def take_compile_seconds() -> float:
    """The seconds spent compiling since somebody last asked, the first run of a step included."""
    global _seconds
    taken, _seconds = _seconds, 0.0
    return taken


@functools.cache
def _compiled(shape: Shape) -> Any:
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, 64)  # one function for all models
    return torch.compile(functools.partial(_step, shape), fullgraph=True, dynamic=False)


def _varies(table: Tensor, *dims: int) -> None:
    torch._dynamo.maybe_mark_dynamic(table, list(dims))


def _num_graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _step(
    shape: Shape,
    x: Tensor,
    places: Tensor,
    seen: Tensor,
    angles: tuple[Tensor, Tensor],
    asked: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    norms: Sequence[tuple[Tensor, Tensor, Tensor | None, Tensor | None]],
    last_norm: Tensor,
) -> Tensor:
    """x [rows, hidden], places [rows], seen [blocks that anybody may see, BLOCK]: their places.

    angles are cosine and sine [rows, 1, head]; `asked` [rows + 2, heads, head] is room for queries.
    """
    rows, blocks, product = x.shape[0], seen.shape[0], torch.ops.alignloop.product
    q_end, k_end = shape.heads, shape.heads + shape.kv_heads
    cos, sin = angles
    numbers, visible = torch.arange(rows, device=x.device), seen <= places.view(-1, 1, 1)
    per_layer = 4 if shape.gated else 3
    for layer, (input_norm, mlp_norm, q_norm, k_norm) in enumerate(norms):
        slot = layer * per_layer
        width = (k_end + shape.kv_heads) * shape.head_dim
        heads = product(_normed(x, input_norm, shape.eps), slot, width)
        heads = heads.view(rows, -1, shape.head_dim)
        q, k = heads[:, :q_end], heads[:, q_end:k_end]
        if q_norm is not None and k_norm is not None:
            q, k = _normed(q, q_norm, shape.eps), _normed(k, k_norm, shape.eps)
        q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        keys[layer][numbers, :, places // BLOCK, :, places % BLOCK] = k
        values[layer][numbers, :, places] = heads[:, k_end:]
        asked[numbers] = q * shape.scale  # computed once, not again for each place that it looks at
        q = asked[:rows].view(rows, shape.kv_heads, -1, 1, shape.head_dim, 1)
        scores = (q * keys[layer][:rows, :, None, :blocks]).sum(4).float()
        scores = torch.where(visible[:, None, None], scores, -torch.inf).flatten(3)
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        totals = weights.sum(-1, keepdim=True)
        weights = weights.to(x.dtype).unsqueeze(-1)
        mixed = (weights * values[layer][:rows, :, None, : blocks * BLOCK]).sum(3) / totals
        x = x + product(mixed.to(x.dtype).reshape(rows, -1), slot + 1, shape.hidden)
        normed = _normed(x, mlp_norm, shape.eps)
        if shape.gated:
            gate, up = product(normed, slot + 2, shape.gated).chunk(2, dim=-1)
            x = x + product(silu(gate) * up, slot + 3, shape.hidden)
        else:
            x = x + product(normed, slot + 2, shape.hidden)
    return _normed(x, last_norm, shape.eps)


def _normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding; the sign of `rotate_half` stands in the sine."""
    half = heads.shape[-1] // 2
    return heads * cos + torch.cat([heads[..., half:], heads[..., :half]], dim=-1) * sin
