"""Fast decoding for the Llama family, from the weights of a transformers model.

Unlike `generate`: the cache is allocated once, a finished sequence frees its row for another,
equal prompts are read once, and no module that only reshapes arguments runs between the products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu
from transformers.activations import SiLUActivation

from alignloop.fastpath.cache import Cache
from alignloop.fastpath.llama_forward import forward_packed, rotate, signed
from alignloop.fastpath.packed_linear import Project, has_hooks, side_by_side
from alignloop.fastpath.packing import pack
from alignloop.protocols import Policy
from alignloop.tensors import distinct


class LlamaDecoder:
    """Next-token logits of up to `rows` sequences, each with its own length.

    The sequences occupy rows 0 to `count` - 1 of a cache of `capacity` tokens, allocated once.
    Call without gradients, and make a new one after the weights change: the steps read copies.
    """

    def __init__(self, model: Policy, *, rows: int, capacity: int) -> None:
        self.count = 0
        base: Any = model.base_model
        self._model, self._base = model, base
        self._head = model.get_output_embeddings()
        self._step_head = side_by_side(rows, self._head)
        self._layers = [_Layer(layer, rows) for layer in base.layers]
        self._cache = Cache(base, model.config, rows=rows, capacity=capacity)
        embedding = base.embed_tokens.weight
        self._lengths = torch.zeros(rows, dtype=torch.long, device=embedding.device)
        positions = torch.arange(capacity, device=embedding.device)
        cos, sin = base.rotary_emb(embedding, positions.unsqueeze(0))
        # angles of all positions at once: a step only indexes them
        self._cos, self._sin = cos[0].unsqueeze(1), signed(sin[0]).unsqueeze(1)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts into the next free rows; returns next-token logits [prompts, vocabulary].

        Equal prompts are computed once. What the cache holds after a prompt is overwritten by the
        response before any query attends to it.
        """
        unique = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        device = self._lengths.device
        lengths = torch.tensor([len(prompt) for prompt in unique], device=device)
        width = max(len(prompt) for prompt in unique)
        padded = [[*prompt, *[0] * (width - len(prompt))] for prompt in unique]
        index = {prompt: i for i, prompt in enumerate(unique)}
        source = torch.tensor([index[tuple(p)] for p in prompts], device=device)
        begin, end = self.count, self.count + len(prompts)
        mask = torch.arange(width, device=device) < lengths.unsqueeze(1)
        packing = pack(torch.tensor(padded, device=device), mask)
        rows = packing.rows[source]

        def keep(layer: int, keys: Tensor, values: Tensor) -> None:
            found = (x.index_select(0, rows.flatten()) for x in (keys, values))
            self._cache.fill(layer, begin, *(x.view(*rows.shape, *x.shape[1:]) for x in found))

        # packing may share a whole prompt between rows, and the last layer wants ascending indices
        last, order = distinct(packing.rows[:, -1])
        hidden = forward_packed(self._model, packing, last, keep)
        self._lengths[begin:end] = lengths[source]
        self.count = end
        return self._head(hidden).index_select(0, order[source])

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row, [count]; returns next-token logits [count, vocabulary]."""
        positions = self._lengths[: self.count]
        self._cache.begin_step(positions)
        cos, sin = (table.index_select(0, positions) for table in (self._cos, self._sin))
        x = self._base.embed_tokens(tokens)
        for number, layer in enumerate(self._layers):
            q, k, v = layer.heads(_normed(x, layer.input_norm), cos, sin)
            self._cache.append(number, k, v)
            x = x + layer.out(self._cache.attend(number, q))
            x = x + layer.mlp(_normed(x, layer.mlp_norm))
        positions += 1  # a view: advances `_lengths`
        return self._step_head(_normed(x, self._base.norm))

    def drop(self, row: int) -> None:
        """Free a row: the last one moves into its place."""
        self.count -= 1
        if row != self.count:
            self._cache.move(self.count, row, int(self._lengths[self.count]))
            self._lengths[row] = self._lengths[self.count]


def _normed(x: Tensor, module: Any) -> Tensor:
    return rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def _gated_mlp(mlp: Any, rows: int) -> Project:
    """down(silu(gate) * up) with gate and up in one product; other MLPs are called as modules."""
    # hooks would be skipped by calling the projections directly
    if not isinstance(mlp.act_fn, nn.SiLU | SiLUActivation) or has_hooks(mlp):
        return mlp
    gate_up = side_by_side(rows, mlp.gate_proj, mlp.up_proj)
    down = side_by_side(rows, mlp.down_proj)

    def call(x: Tensor) -> Tensor:
        gate, up = gate_up(x).chunk(2, dim=-1)
        return down(silu(gate).mul_(up))

    return call


class _Layer:
    """One layer's weights as functions: matrices with the same input become one product."""

    def __init__(self, layer: Any, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm, self.mlp_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = side_by_side(rows, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = side_by_side(rows, attention.o_proj)
        self._q_norm = getattr(attention, "q_norm", None)
        self._k_norm = getattr(attention, "k_norm", None)
        self._head_dim: int = attention.head_dim
        self._num_heads = attention.config.num_attention_heads
        self._num_kv_heads = attention.config.num_key_value_heads
        self.mlp = _gated_mlp(mlp, rows)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both rotated) and values [rows, heads, head] of normed states."""
        q, k = self._num_heads, self._num_kv_heads
        heads = self.qkv(x).view(len(x), -1, self._head_dim)
        rotated = heads[:, : q + k]  # queries and keys in one rotation
        if self._q_norm is not None:
            normed = _normed(heads[:, :q], self._q_norm), _normed(rotated[:, q:], self._k_norm)
            rotated = torch.cat(normed, dim=1)
        rotated = rotate(rotated, cos, sin)
        return rotated[:, :q], rotated[:, q:], heads[:, -k:]
