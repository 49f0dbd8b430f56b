"""The one place where hidden states are computed: position ids, masks, and no more than needed."""

from typing import Any

import torch
from torch import Tensor

from alignloop.shapes import TokenIds, TokenMask


def hidden_states(model: Any, input_ids: TokenIds, attention_mask: TokenMask) -> Tensor:
    """The trunk's last hidden states, [batch, seq, hidden].

    Position ids are the cumulative sum of the mask, so padding on the left shifts nothing (line 5).
    Without padding on the left a causal model needs no mask: what stands on the right is not seen.
    """
    left_padded = not bool(attention_mask[:, 0].all())
    positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    output = model.base_model(
        input_ids=input_ids,
        attention_mask=attention_mask.long() if left_padded else None,
        position_ids=positions,
        use_cache=False,
    )
    return output.last_hidden_state


def shift_right(values: Tensor) -> Tensor:
    """Entry t becomes what was computed just before token t; entry 0 has no past and is 0."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)
