"""The one place where hidden states are computed: position ids, masks, and no more than needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from alignloop.models.packing import pack
from alignloop.models.roles import enter
from alignloop.models.trunk import is_supported, trunk_states
from alignloop.shapes import TokenIds, TokenMask


def hidden_states(model: Any, input_ids: TokenIds, attention_mask: TokenMask) -> Tensor:
    """The trunk's last hidden states, [batch, seq, hidden], by transformers' own forward pass.

    Position ids are the cumulative sum of the mask, so padding on the left shifts nothing
    (docs/algorithms.md#ppo-5).
    Without padding on the left a causal model needs no mask: what stands on the right is not seen.
    """
    left_padded = not bool(attention_mask[:, 0].all())
    positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    with checkpointing(model):
        output = model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask.long() if left_padded else None,
            position_ids=positions,
            use_cache=False,
        )
    return output.last_hidden_state


@contextmanager
def checkpointing(model: Any) -> Iterator[None]:
    """Layers that checkpoint do it where a gradient is wanted, and nowhere else.

    They do it in training mode alone, where they would refuse the sampler's cache. Dropout is 0.
    """
    wanted = torch.is_grad_enabled() and checkpoints(model)
    layers = list(_layers(model)) if wanted else []
    for layer in layers:
        layer.training = True  # of the layer alone: `train()` would go down into its parts
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def checkpoints(model: Any) -> bool:
    """Whether the layers were told to checkpoint; all of them are, or none."""
    first = next(_layers(model), None)
    return first is not None and first.gradient_checkpointing


def _layers(model: Any) -> Iterator[GradientCheckpointingLayer]:
    return (m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))


def states_at(
    model: Any, input_ids: TokenIds, attention_mask: TokenMask, wanted: TokenMask
) -> Tensor:
    """The last hidden states where `wanted` [batch, seq] is True, [wanted, hidden], in its order.

    Models of the Llama family read no padding, equal beginnings of neighbours once, and in their
    last layer only what is wanted (decision 0013); others go through transformers, and so do those
    with checkpointing, with gradient and without, so that both read the same numbers. The batch
    may stand on another device than the model, where the result is.
    """
    input_ids, attention_mask, wanted = (
        x.to(model.device) for x in (input_ids, attention_mask, wanted)
    )
    enter(model)
    ours = is_supported(model) and not checkpoints(model)
    if not ours or not bool(wanted.any()):
        return hidden_states(model, input_ids, attention_mask)[wanted]
    packing = pack(input_ids, attention_mask)
    places, order = torch.unique(packing.at(wanted, attention_mask), return_inverse=True)
    return trunk_states(model, packing, places).index_select(0, order)
