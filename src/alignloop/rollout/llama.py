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

from alignloop.models.packing import pack
from alignloop.models.trunk import is_supported, rotate, signed, trunk_states
from alignloop.rollout.cache import Cache
from alignloop.rollout.compiled import CompiledStep, Norms, Shape
from alignloop.rollout.products import Project, side_by_side

__all__ = ["LlamaDecoder", "is_supported"]


class LlamaDecoder:
    """Next-token logits of up to `rows` sequences, each with its own length.

    The sequences stand in rows 0 to `count` - 1 of a cache of `capacity` tokens, allocated once.
    To be called without gradient, and not across a change of the weights: the steps read copies.
    With `compiled`, what stands between the products of a step is one function (`compiled.py`).
    """

    def __init__(self, model: Any, *, rows: int, capacity: int, compiled: bool = False) -> None:
        self.count = 0
        self._model, self._trunk = model, model.base_model
        self._head = model.get_output_embeddings()
        self._step_head = side_by_side(rows, self._head)
        layers = [_Layer(layer, rows) for layer in self._trunk.layers]
        embedding = self._trunk.embed_tokens.weight
        self._lengths = torch.zeros(rows, dtype=torch.long, device=embedding.device)
        self._places = torch.arange(capacity, device=embedding.device)
        cos, sin = self._trunk.rotary_emb(embedding, self._places.unsqueeze(0))
        angles = cos[0].unsqueeze(1), signed(sin[0]).unsqueeze(1)
        if compiled:
            self._layers = _compiled(self._trunk, model.config, layers, angles, rows)
        else:
            cache = Cache(self._trunk, model.config, rows=rows, capacity=capacity)
            self._layers = _LayerByLayer(self._trunk, model.config, layers, angles, cache)
        self._cache = self._layers.cache

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
            found = (x.index_select(0, rows.flatten()) for x in (keys, values))
            self._cache.fill(layer, begin, *(x.unflatten(0, rows.shape) for x in found))

        last, order = torch.unique(packing.rows[:, -1], return_inverse=True)
        hidden = trunk_states(self._model, packing, last, keep)
        self._lengths[begin:end] = lengths[source]
        self.count = end
        return self._head(hidden).index_select(0, order[source])

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row, [count]; logits after it: [count, vocabulary]."""
        hidden = self._layers(self._trunk.embed_tokens(tokens), self._lengths[: self.count])
        self._lengths[: self.count] += 1
        return self._step_head(hidden)

    def drop(self, row: int) -> None:
        """Give up a row: the last one takes its place."""
        self.count -= 1
        if row != self.count:
            self._cache.move(self.count, row, int(self._lengths[self.count]))
            self._lengths[row] = self._lengths[self.count]


class _LayerByLayer:
    """A step as it stands here, operator by operator."""

    def __init__(
        self,
        trunk: Any,
        config: Any,
        layers: Sequence["_Layer"],
        angles: tuple[Tensor, Tensor],
        cache: Cache,
    ) -> None:
        self.cache, self._layers, self._norm = cache, layers, trunk.norm
        self._head_dim: int = trunk.layers[0].self_attn.head_dim
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._cos, self._sin = angles

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        self.cache.look(places)
        cos, sin = self._cos.index_select(0, places), self._sin.index_select(0, places)
        for number, layer in enumerate(self._layers):
            heads = layer.qkv(_normed(x, layer.input_norm)).view(len(x), -1, self._head_dim)
            turned = layer.turned(heads, self._heads, self._kv_heads, cos, sin)
            q, k, v = (
                turned[:, : self._heads],
                turned[:, self._heads :],
                heads[:, -self._kv_heads :],
            )
            self.cache.append(number, k, v)
            x = x + layer.out(self.cache.attend(number, q))
            x = x + layer.mlp(_normed(x, layer.mlp_norm))
        return _normed(x, self._norm)


def _compiled(
    trunk: Any,
    config: Any,
    layers: Sequence["_Layer"],
    angles: tuple[Tensor, Tensor],
    rows: int,
) -> CompiledStep:
    """The same as one function between the products."""
    attention, hidden = trunk.layers[0].self_attn, trunk.embed_tokens.weight.shape[1]
    shape = Shape(
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=attention.head_dim,
        hidden=hidden,
        gated=2 * config.intermediate_size if layers[0].gate_up is not None else 0,
        eps=trunk.norm.variance_epsilon,
        scale=float(attention.scaling),
    )
    return CompiledStep(
        shape,
        [product for layer in layers for product in layer.products()],
        [layer.norms() for layer in layers],
        trunk.norm.weight,
        angles,
        rows=rows,
    )


def _normed(x: Tensor, module: Any) -> Tensor:
    return rms_norm(x, x.shape[-1:], module.weight, module.variance_epsilon)


class _Layer:
    """One layer's weights as functions: matrices that read the same input stand side by side."""

    def __init__(self, layer: Any, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm, self.mlp_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = side_by_side(rows, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = side_by_side(rows, attention.o_proj)
        self._q_norm = getattr(attention, "q_norm", None)
        self._k_norm = getattr(attention, "k_norm", None)
        self.gate_up: Project | None = None
        self.mlp: Project = mlp
        if isinstance(mlp.act_fn, nn.SiLU | SiLUActivation) and not mlp._forward_hooks:
            self.gate_up = side_by_side(rows, mlp.gate_proj, mlp.up_proj)
            self.down = side_by_side(rows, mlp.down_proj)
            self.mlp = self._gated

    def _gated(self, x: Tensor) -> Tensor:
        assert self.gate_up is not None
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(silu(gate).mul_(up))

    def products(self) -> list[Project]:
        """What a compiled step calls, in the order in which it does."""
        mlp = [self.mlp] if self.gate_up is None else [self.gate_up, self.down]
        return [self.qkv, self.out, *mlp]

    def norms(self) -> Norms:
        """The weights of this layer's norms."""
        of_heads = (None if m is None else m.weight for m in (self._q_norm, self._k_norm))
        q, k = of_heads
        return Norms(input=self.input_norm.weight, mlp=self.mlp_norm.weight, q=q, k=k)

    def turned(self, heads: Tensor, q: int, k: int, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries and keys with their positions, [rows, q + k heads, head]."""
        asked = heads[:, : q + k]
        if self._q_norm is not None:
            normed = (
                _normed(heads[:, :q], self._q_norm),
                _normed(heads[:, q : q + k], self._k_norm),
            )
            asked = torch.cat(normed, dim=1)
        return rotate(asked, cos, sin)
