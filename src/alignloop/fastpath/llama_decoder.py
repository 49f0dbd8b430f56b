"""Fast decoding for the Llama family, from the weights of a transformers model.

Against `generate`: the cache is allocated once, a sequence that ends gives its row to another one,
equal prompts are read once, and no module that only shapes arguments runs between the products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu
from transformers.activations import SiLUActivation

from alignloop.fastpath.cache import Cache
from alignloop.fastpath.llama_forward import forward_packed, rotate, signed
from alignloop.fastpath.packed_linear import Project, side_by_side
from alignloop.fastpath.packing import pack
from alignloop.protocols import Policy


class LlamaDecoder:
    """Next-token logits of up to `rows` sequences, each with its own length.

    The sequences occupy rows 0 to `count` - 1 of a cache of `capacity` tokens, allocated once. To
    be called without gradient, and not across a change of the weights: the steps read copies.
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
        self._cos, self._sin = cos[0].unsqueeze(1), signed(sin[0]).unsqueeze(1)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts into the next free rows; logits after each: [prompts, vocabulary].

        Equal prompts are computed once, and what the cache holds behind a prompt is overwritten by
        the response before a query sees it.
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
            self._cache.fill(layer, begin, *(x.unflatten(0, rows.shape) for x in found))

        last, order = torch.unique(packing.rows[:, -1], return_inverse=True)
        hidden = forward_packed(self._model, packing, last, keep)
        self._lengths[begin:end] = lengths[source]
        self.count = end
        return self._head(hidden).index_select(0, order[source])

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row, [count]; logits after it: [count, vocabulary]."""
        positions = self._lengths[: self.count]
        self._cache.begin_step(positions)
        cos, sin = (table.index_select(0, positions) for table in (self._cos, self._sin))
        x = self._base.embed_tokens(tokens)
        for number, layer in enumerate(self._layers):
            q, k, v = layer.heads(_normed(x, layer.input_norm), cos, sin)
            self._cache.append(number, k, v)
            x = x + layer.out(self._cache.attend(number, q))
            x = x + layer.mlp(_normed(x, layer.mlp_norm))
        positions += 1
        return self._step_head(_normed(x, self._base.norm))

    def drop(self, row: int) -> None:
        """Give up a row: the last one takes its place."""
        self.count -= 1
        if row != self.count:
            self._cache.move(self.count, row, int(self._lengths[self.count]))
            self._lengths[row] = self._lengths[self.count]


def _normed(x: Tensor, module: Any) -> Tensor:
    return rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


def _gated_mlp(mlp: Any, rows: int) -> Project:
    """down(silu(gate) * up) with gate and up in one product; another activation's MLP is called."""
    if not isinstance(mlp.act_fn, nn.SiLU | SiLUActivation) or mlp._forward_hooks:
        return mlp
    gate_up = side_by_side(rows, mlp.gate_proj, mlp.up_proj)
    down = side_by_side(rows, mlp.down_proj)

    def call(x: Tensor) -> Tensor:
        gate, up = gate_up(x).chunk(2, dim=-1)
        return down(silu(gate).mul_(up))

    return call


class _Layer:
    """One layer's weights as functions: matrices that read the same input are one product."""

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
        """Queries, keys and values [rows, heads, head] of normed states, the first two rotated."""
        q, k = self._num_heads, self._num_kv_heads
        heads = self.qkv(x).view(len(x), -1, self._head_dim)
        turned = heads[:, : q + k]
        if self._q_norm is not None:
            normed = _normed(heads[:, :q], self._q_norm), _normed(turned[:, q:], self._k_norm)
            turned = torch.cat(normed, dim=1)
        turned = rotate(turned, cos, sin)
        return turned[:, :q], turned[:, q:], heads[:, -k:]
