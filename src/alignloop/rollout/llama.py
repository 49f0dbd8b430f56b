"""Fast decoding for the Llama family: the weights of a transformers model, read in place.

Against `generate`: the cache is allocated once, a sequence that ends gives its row to another one,
equal prompts are read once, and no module that only shapes arguments runs between the products.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention

# Families with exactly this layer: RMSNorm, rotary grouped-query attention, gated MLP.
FAMILIES = {"llama", "qwen2", "qwen3", "mistral"}
# Rotary embeddings whose angles do not depend on how long the sequence has become.
STATIC_ROPE = {"default", "linear", "llama3", "yarn"}

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def is_supported(model: Any) -> bool:
    """Whether `LlamaDecoder` computes what this model's own forward pass computes."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and rope.get("rope_type", "default") in STATIC_ROPE
        and getattr(config, "sliding_window", None) is None
    )


class LlamaDecoder:
    """Next-token logits of up to `rows` sequences, each with its own length.

    The sequences stand in rows 0 to `count` - 1 of a cache of `capacity` tokens, allocated once:
    keys and values [layer][rows, key-value heads, capacity, head]. To be called without gradient.
    """

    def __init__(self, model: Any, *, rows: int, capacity: int) -> None:
        self.count = 0
        self._trunk = model.get_decoder()
        self._head = model.get_output_embeddings()
        config, device = model.config, model.device
        self._head_dim = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        embedding = self._trunk.embed_tokens.weight
        shape = (rows, config.num_key_value_heads, capacity, self._head_dim)
        layers = range(config.num_hidden_layers)
        self._keys = [embedding.new_zeros(shape) for _ in layers]
        self._values = [embedding.new_zeros(shape) for _ in layers]
        self._lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self._places = torch.arange(capacity, device=device)
        cos, sin = self._trunk.rotary_emb(embedding, self._places.unsqueeze(0))
        half = self._head_dim // 2
        self._cos = cos[0]  # [capacity, head]
        # rotate_half(x) is x rolled by half a head with its first half negated: the sign goes here
        self._sin = torch.cat([-sin[0][:, :half], sin[0][:, half:]], dim=-1)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read prompts into the next free rows; logits after each: [prompts, vocabulary].

        Prompts are padded on the right, where a causal model does not look, and the padding's keys
        are overwritten by the response. Equal prompts are computed once.
        """
        unique = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        lengths = torch.tensor([len(prompt) for prompt in unique], device=self._places.device)
        width = max(len(prompt) for prompt in unique)
        padded = [[*prompt, *[0] * (width - len(prompt))] for prompt in unique]
        tokens = torch.tensor(padded, device=self._places.device)
        index = {prompt: i for i, prompt in enumerate(unique)}
        source = torch.tensor([index[tuple(p)] for p in prompts], device=tokens.device)
        begin, end = self.count, self.count + len(prompts)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._keys[layer][begin:end, :, :width] = k[source]
            self._values[layer][begin:end, :, :width] = v[source]
            return scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=self._scaling(layer), enable_gqa=True
            )

        hidden = self._forward(tokens, self._cos[:width], self._sin[:width], attend)
        last = hidden[torch.arange(len(unique), device=tokens.device), lengths - 1]
        self._lengths[begin:end] = lengths[source]
        self.count = end
        return self._head(last)[source]

    def step(self, tokens: Tensor) -> Tensor:
        """Append a token to every row, [count]; logits after it: [count, vocabulary]."""
        count = self.count
        places = self._lengths[:count]
        shortest, longest = int(places.min()), int(places.max())
        rows = self._places.new_tensor(range(count)) if shortest < longest else None
        mask = None
        if rows is not None:
            mask = (self._places[: longest + 1] <= places.unsqueeze(-1))[:, None, None]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self._keys[layer], self._values[layer]
            if rows is None:
                keys[:count, :, longest], values[:count, :, longest] = k[:, :, 0], v[:, :, 0]
            else:
                keys[rows, :, places], values[rows, :, places] = k[:, :, 0], v[:, :, 0]
            return scaled_dot_product_attention(
                q,
                keys[:count, :, : longest + 1],
                values[:count, :, : longest + 1],
                attn_mask=mask,
                scale=self._scaling(layer),
                enable_gqa=True,
            )

        cos, sin = self._cos[places][:, None, None], self._sin[places][:, None, None]
        hidden = self._forward(tokens.unsqueeze(-1), cos, sin, attend)
        self._lengths[:count] += 1
        return self._head(hidden[:, 0])

    def drop(self, row: int) -> None:
        """Give up a row: the last one takes its place."""
        self.count -= 1
        length = int(self._lengths[self.count])
        if row != self.count:
            for cache in (*self._keys, *self._values):
                cache[row, :, :length] = cache[self.count, :, :length]
            self._lengths[row] = length

    def _scaling(self, layer: int) -> float:
        return self._trunk.layers[layer].self_attn.scaling

    def _forward(self, tokens: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """Hidden states [sequences, tokens, hidden], normed; `attend` keeps the cache."""
        x = self._trunk.embed_tokens(tokens)
        for index, layer in enumerate(self._trunk.layers):
            attention = layer.self_attn
            normed = _norm(layer.input_layernorm, x)
            q = self._heads(attention.q_proj(normed), getattr(attention, "q_norm", None))
            k = self._heads(attention.k_proj(normed), getattr(attention, "k_norm", None))
            v = self._heads(attention.v_proj(normed), None)
            mixed = attend(index, self._rotate(q, cos, sin), self._rotate(k, cos, sin), v)
            x = x + attention.o_proj(mixed.transpose(1, 2).flatten(2))
            x = x + layer.mlp(_norm(layer.post_attention_layernorm, x))
        return _norm(self._trunk.norm, x)

    def _heads(self, projected: Tensor, norm: Any) -> Tensor:
        """[sequences, tokens, heads * head] as [sequences, heads, tokens, head], normed (Qwen3)."""
        heads = projected.unflatten(-1, (-1, self._head_dim))
        return (heads if norm is None else _norm(norm, heads)).transpose(1, 2)

    def _rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.addcmul(heads * cos, heads.roll(self._head_dim // 2, dims=-1), sin)


def _norm(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)
