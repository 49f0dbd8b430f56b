"""The only place that computes hidden states: position ids, masks, and no more than needed."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from alignloop import fastpath
from alignloop.models.shared_base import activate
from alignloop.protocols import Backbone
from alignloop.shapes import TokenIds, TokenMask


def hidden_states(model: Backbone, input_ids: TokenIds, attention_mask: TokenMask) -> Tensor:
    """Last hidden states, [batch, seq, hidden], by transformers' forward pass.

    Position ids are the cumulative sum of the mask, so padding on the left shifts nothing
    (docs/algorithms.md#ppo-5).
    Without left padding a causal model needs no mask: it never attends to the right.
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
def checkpointing(model: Backbone) -> Generator[None]:
    """Checkpoint layers within the context if a gradient is needed.

    Layers checkpoint only in training mode, in which they refuse a KV cache: so the sampler must
    run in evaluation mode. Dropout is 0 either way.
    """
    needed = torch.is_grad_enabled() and checkpoints(model)
    layers = list(_layers(model)) if needed else []
    for layer in layers:
        layer.training = True  # this module only: `train()` would recurse into its submodules
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def checkpoints(model: Backbone) -> bool:
    """Whether the layers are set to checkpoint; all of them are, or none."""
    first = next(_layers(model), None)
    return first is not None and first.gradient_checkpointing


def _layers(model: Backbone) -> Iterator[GradientCheckpointingLayer]:
    return (m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))


def states_at(
    model: Backbone, input_ids: TokenIds, attention_mask: TokenMask, query_mask: TokenMask
) -> Tensor:
    """Last hidden states where `query_mask` [batch, seq] is True, [queries, hidden], in order.

    Models of the Llama family take the fast path, others go through transformers. So do models
    with checkpointing, even without gradients, so that both passes give the same numbers. The batch
    may be on another device; the result is on the model's.
    """
    input_ids, attention_mask, query_mask = (
        x.to(model.device) for x in (input_ids, attention_mask, query_mask)
    )
    activate(model)
    fast = fastpath.supports(model) and not checkpoints(model)
    if not fast or not bool(query_mask.any()):
        return hidden_states(model, input_ids, attention_mask)[query_mask]
    return fastpath.forward(model, input_ids, attention_mask, query_mask)
