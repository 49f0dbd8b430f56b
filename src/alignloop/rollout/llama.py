"""Fast decoding for the Llama family: the weights of a transformers model.

Against `generate`: the cache is allocated once, a sequence that ends gives its row to another one,
equal prompts are read once, and no module that only shapes arguments runs between the products.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from transformers.activations import SiLUActivation

from alignloop.models.packing import pack
from alignloop.models.trunk import is_supported, rms_norm, rotate, signed, trunk_states

__all__ = ["LlamaDecoder", "is_supported"]

Project = Callable[[Tensor], Tensor]


class LlamaDecoder:
    """Next-token logits of up to `rows` sequences, each with its own length.

    The sequences stand in rows 0 to `count` - 1 of a cache of `capacity` tokens, allocated once:
    keys and values [layer][rows, key-value heads, capacity, head]. To be called without gradient,
    and not across a change of the weights: those that are read together are copied side by side.
    """

    def __init__(self, model: Any, *, rows: int, capacity: int) -> None:
        self.count = 0
        self._model, self._trunk = model, model.base_model
        self._head = model.get_output_embeddings()
        self._layers = [_Layer(layer) for layer in self._trunk.layers]
        config, first = model.config, self._trunk.layers[0].self_attn
        self._head_dim: int = first.head_dim
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        embedding = self._trunk.embed_tokens.weight
        shape = (rows, self._kv_heads, capacity, self._head_dim)
        self._keys = [embedding.new_zeros(shape) for _ in self._layers]
        self._values = [embedding.new_zeros(shape) for _ in self._layers]
        self._lengths = torch.zeros(rows, dtype=torch.long, device=embedding.device)
        self._places = torch.arange(capacity, device=embedding.device)
        cos, sin = self._trunk.rotary_emb(embedding, self._places.unsqueeze(0))
        self._cos, self._sin = cos[0].unsqueeze(1), signed(sin[0]).unsqueeze(1)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts into the next free rows; logits after each: [prompts, vocabulary].

        Equal prompts are computed once, and what stands behind a prompt in the cache is overwritten
        by the response before anybody looks at it.
        """
        unique = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        device = self._places.device
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
            for cache, new in ((self._keys[layer], keys), (self._values[layer], values)):
                found = new.index_select(0, rows.flatten()).unflatten(0, rows.shape)
                cache[begin:end, :, :width] = found.transpose(1, 2)

        last, order = torch.unique(packing.rows[:, -1], return_inverse=True)
        hidden = trunk_states(self._model, packing, last, keep)
        self._lengths[begin:end] = lengths[source]
        self.count = end
        return self._head(hidden).index_select(0, order[source])

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row, [count]; logits after it: [count, vocabulary]."""
        places = self._lengths[: self.count]
        looks = _Looks(self._places, places, self._kv_heads)
        cos, sin = self._cos.index_select(0, places), self._sin.index_select(0, places)
        x = self._trunk.embed_tokens(tokens)
        for layer, keys, values in zip(self._layers, self._keys, self._values, strict=True):
            heads = layer.qkv(rms_norm(x, layer.input_norm)).view(len(x), -1, self._head_dim)
            turned = layer.turned(heads, self._heads, self._kv_heads, cos, sin)
            looks.write(keys, turned[:, self._heads :])
            looks.write(values, heads[:, self._heads + self._kv_heads :])
            mixed = looks.attend(turned[:, : self._heads], keys, values, layer.scaling)
            x = x + layer.out(mixed)
            x = x + layer.mlp(rms_norm(x, layer.mlp_norm))
        self._lengths[: self.count] += 1
        return self._head(rms_norm(x, self._trunk.norm))

    def drop(self, row: int) -> None:
        """Give up a row: the last one takes its place."""
        self.count -= 1
        if row != self.count:
            length = int(self._lengths[self.count])
            for cache in (*self._keys, *self._values):
                cache[row, :, :length] = cache[self.count, :, :length]
            self._lengths[row] = length


class _Looks:
    """Where the rows write and what they see at one step, the same in every layer."""

    def __init__(self, all_places: Tensor, places: Tensor, kv_heads: int) -> None:
        shortest, longest = (int(n) for n in torch.aminmax(places))
        self._count, self._end, self._kv_heads = len(places), longest + 1, kv_heads
        self._rows = None
        self._bias = torch.zeros(1, 1, 1, device=places.device)
        if shortest < longest:
            self._rows, self._places = all_places[: len(places)], places
            if len(places) > len(all_places):  # more rows than places in a row
                self._rows = torch.arange(len(places), device=places.device)
            unseen = all_places[: self._end] > places.unsqueeze(1)
            bias = torch.zeros(unseen.shape, device=places.device).masked_fill_(unseen, -torch.inf)
            self._bias = bias.repeat_interleave(kv_heads, dim=0).unsqueeze(1)

    def write(self, cache: Tensor, new: Tensor) -> None:
        """Put [rows, key-value heads, head] into the cache."""
        if self._rows is None:
            cache[: self._count, :, self._end - 1] = new
        else:
            cache[self._rows, :, self._places] = new

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """What each row's heads read, [rows, heads * head], from q [rows, heads, head].

        Two products per row and key-value head: for one query, several times faster on a CPU
        than the fused kernel, and nothing worth fusing on a GPU.
        """
        queries = q.reshape(self._count * self._kv_heads, -1, q.shape[2])
        seen = (x[: self._count].flatten(0, 1)[:, : self._end] for x in (keys, values))
        keys, values = seen
        bias = self._bias.to(q.dtype)
        scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        return torch.bmm(weights, values).view(self._count, -1)


class _Layer:
    """One layer's weights as functions: matrices that read the same input stand side by side.

    A linear layer that is not a plain one (an adapter, a quantised one, one with a hook) is called.
    """

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm, self.mlp_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.scaling: float = attention.scaling
        self.qkv = _side_by_side(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out: Project = attention.o_proj
        self.mlp: Project = mlp
        self._q_norm = getattr(attention, "q_norm", None)
        self._k_norm = getattr(attention, "k_norm", None)
        if isinstance(mlp.act_fn, nn.SiLU | SiLUActivation) and not mlp._forward_hooks:
            gate_up, down = _side_by_side(mlp.gate_proj, mlp.up_proj), mlp.down_proj

            def gated(x: Tensor) -> Tensor:
                gate, up = gate_up(x).chunk(2, dim=-1)
                return down(silu(gate).mul_(up))

            self.mlp = gated

    def turned(self, heads: Tensor, q: int, k: int, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries and keys with their positions, [rows, q + k heads, head]."""
        asked = heads[:, : q + k]
        if self._q_norm is not None:
            normed = (
                rms_norm(heads[:, :q], self._q_norm),
                rms_norm(heads[:, q : q + k], self._k_norm),
            )
            asked = torch.cat(normed, dim=1)
        return rotate(asked, cos, sin)


def _side_by_side(*modules: Any) -> Project:
    """One product for several linear layers that read the same."""
    plain = all(
        type(m) is nn.Linear and not (m._forward_hooks or m._forward_pre_hooks) for m in modules
    )
    if not plain or len({m.bias is None for m in modules}) > 1:
        return lambda x: torch.cat([module(x) for module in modules], dim=-1)
    weight = torch.cat([module.weight for module in modules])
    bias = None if modules[0].bias is None else torch.cat([module.bias for module in modules])
    return lambda x: linear(x, weight, bias)
