"""Forward pass of the Llama family over packed tokens, with a transformers model's weights.

Linear layers, embedding and MLP are called as modules, so adapters and biases in them work;
norms, rotary embedding and attention are computed here.
"""

import re
from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

from alignloop.fastpath.attention import all_queries, attend, some_queries
from alignloop.fastpath.packed_linear import has_hooks
from alignloop.fastpath.packing import Packing, pack
from alignloop.protocols import Backbone
from alignloop.shapes import TokenIds, TokenMask
from alignloop.tensors import LINALG, Gradients, applied, distinct, once

# Families with exactly this layer: RMSNorm, rotary grouped-query attention, gated MLP.
FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}
# Rotary embeddings whose angles do not depend on the length of the sequence.
STATIC_ROPE = {"default", "linear", "llama3", "yarn"}

SeeKeys = Callable[[int, Tensor, Tensor], None]


def supports(model: Backbone) -> bool:
    """Whether this package computes the same as the model's own forward pass.

    False if a module that is bypassed does not run the family's own `forward`, has a hook (FSDP
    gathers weights in one), or does something else in training: dropout, checkpointing.
    """
    config: Any = model.config
    base: Any = model.base_model
    rope: dict[str, object] = getattr(config, "rope_parameters", None) or {}
    family = FAMILIES.get(config.model_type)
    if (
        family is None
        or rope.get("rope_type", "default") not in STATIC_ROPE
        or getattr(config, "sliding_window", None) is not None
        or getattr(config, "_attn_implementation", "sdpa") not in ("sdpa", "eager")
        or not _forward_name(base).endswith(f".{family}Model.forward")
    ):
        return False
    passed_over = [base, base.norm]
    for layer in base.layers:
        attention = layer.self_attn
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        passed_over += [layer, attention, layer.input_layernorm, layer.post_attention_layernorm]
        passed_over += [norm for norm in norms if norm is not None]
    return all(_is_plain(module, family) for module in passed_over)


def _forward_name(module: nn.Module) -> str:
    """Qualified name of the `forward` a module runs: "transformers.models...LlamaMLP.forward".

    FSDP2's `fully_shard` and others swap in a subclass that changes no arithmetic; a subclass with
    its own `forward`, or a `forward` set on the instance, is detected.
    """
    if "forward" in vars(module):
        return ""
    function = unwrap(type(module).forward)
    return f"{function.__module__}.{function.__qualname__}"


def _is_plain(module: Any, family: str) -> bool:
    """The family's own `forward`, without hooks, dropout or checkpointing."""
    return (
        re.match(rf"transformers\.models\.\w+\.\w+\.{family}", _forward_name(module)) is not None
        and not (has_hooks(module) or module._backward_hooks)
        and not (module.training and getattr(module, "attention_dropout", 0.0))
        and not (module.training and getattr(module, "gradient_checkpointing", False))
    )


def forward(
    model: Backbone,
    input_ids: TokenIds,
    attention_mask: TokenMask,
    query_mask: TokenMask,
) -> Tensor:
    """Last hidden states, normed, where `query_mask` is True, in its order: [queries, hidden].

    Padding is skipped, common prefixes of neighbouring rows are computed once, and the last layer
    is computed for the queries only (decision 0013). All on the model's device; at least one query.
    """
    packing = pack(input_ids, attention_mask)
    indices = packing.at(query_mask, attention_mask)
    queries, order = distinct(indices)
    return forward_packed(model, packing, queries).index_select(0, order)


def forward_packed(
    model: Backbone,
    packing: Packing,
    queries: Tensor | None = None,
    see_keys: SeeKeys | None = None,
) -> Tensor:
    """Last hidden states, normed, of all packed tokens, or of the indices [queries].

    `queries` is ascending, without repeats: the last layer is computed for them only.
    `see_keys(layer, keys, values)` receives those of every token, [tokens, key-value heads, head].
    """
    base: Any = model.base_model
    x: Tensor = base.embed_tokens(packing.tokens)
    cos, sin = _rotary(base, x, packing.positions)
    pattern = all_queries(packing)
    for number, layer in enumerate(base.layers):
        # earlier layers need every token: later keys and values depend on them
        chosen = queries if number == len(base.layers) - 1 else None
        if chosen is not None:
            pattern = some_queries(packing, chosen)
        attention, normed = layer.self_attn, rms_norm(x, layer.input_layernorm)
        k = _heads(attention.k_proj(normed), attention, getattr(attention, "k_norm", None))
        v = _heads(attention.v_proj(normed), attention, None)
        k = rotate(k, cos, sin)
        if see_keys is not None:
            see_keys(number, k, v)
        if chosen is not None:
            x, normed = x.index_select(0, chosen), normed.index_select(0, chosen)
            cos, sin = cos.index_select(0, chosen), sin.index_select(0, chosen)
        q = _heads(attention.q_proj(normed), attention, getattr(attention, "q_norm", None))
        mixed = attend(rotate(q, cos, sin), k, v, pattern, attention.scaling)
        x = x + attention.o_proj(mixed.flatten(1))
        x = x + layer.mlp(rms_norm(x, layer.post_attention_layernorm))
    return rms_norm(x, base.norm)


def _heads(projected: Tensor, attention: Any, norm: Any) -> Tensor:
    """[tokens, heads * head] as [tokens, heads, head], normed (Qwen3)."""
    heads = projected.view(len(projected), -1, attention.head_dim)
    return heads if norm is None else rms_norm(heads, norm)


def _rotary(base: Any, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [tokens, 1, head]; the sine carries the sign of `rotate_half`."""
    # computed per position, not per token: positions repeat in every row
    table = torch.arange(int(positions.max()) + 1, device=x.device).unsqueeze(0)
    cos, sin = base.rotary_emb(x, table)
    cos, sin = (t.index_select(0, positions).unsqueeze(1) for t in (cos[0], signed(sin[0])))
    return cos, sin


def signed(sin: Tensor) -> Tensor:
    """[..., head] with the first half negated: rotate_half(x) * sin = roll(x) * signed(sin)."""
    half = sin.shape[-1] // 2
    return torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [tokens, heads, head] by angles [tokens, 1, head]; the sine is signed."""
    if not torch.is_grad_enabled():
        return _turned(heads, cos, sin)
    return applied(_Rotate, heads, cos, sin)


def rms_norm(x: Tensor, module: Any) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps) over the last dimension, in float32 inside."""
    if not torch.is_grad_enabled():
        return module.weight * (x * _inverse_rms(x, module.variance_epsilon)).to(x.dtype)
    return applied(_RmsNorm, x, module.weight, module.variance_epsilon)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension (keepdim), at least in float32."""
    wide = torch.promote_types(x.dtype, torch.float32)
    # vector_norm accumulates in `wide` without writing a float32 copy of x
    norm = LINALG.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, -sin), None, None  # the angle backwards


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return weight * (x * inverse).to(x.dtype)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> Gradients:
        """With y = x * inverse: dx = inverse * (w g - y mean(w g y)), dw = sum of g y."""
        x, weight, inverse = ctx.saved_tensors
        y, grad_wide = x.float() * inverse, grad.float()
        product = grad_wide * y
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = product.flatten(0, -2).sum(0).to(weight.dtype)
        mean = torch.mv(product.flatten(0, -2), weight.float()).div_(-x.shape[-1])
        d_x = torch.addcmul(grad_wide * weight, y, mean.view(inverse.shape)).mul_(inverse)
        return d_x.to(x.dtype), d_weight, None
