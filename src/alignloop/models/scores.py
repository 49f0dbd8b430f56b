"""What the scalar head says: a score per sequence (reward model), a value per token (critic)."""

from typing import Any

import torch
from torch import Tensor

from alignloop.models.forward import hidden_states, shift_right
from alignloop.shapes import PerSequence, PerToken, TokenIds, TokenMask


def sequence_scores(model: Any, input_ids: TokenIds, attention_mask: TokenMask) -> PerSequence:
    """The raw score of each sequence, [batch], read at the last token that counts (line 4).

    The index comes from the mask, so padding on either side changes nothing.
    """
    hidden = hidden_states(model, input_ids, attention_mask)
    return model.score(_at_last(hidden, attention_mask)).squeeze(-1).float()


def token_values(
    critic: Any, input_ids: TokenIds, attention_mask: TokenMask
) -> tuple[PerToken, PerSequence]:
    """What the critic expects: (values [batch, seq], value after the last token [batch]).

    values[b, t] is read just before token t, from the hidden state of token t - 1.
    """
    hidden = hidden_states(critic, input_ids, attention_mask)
    readings = critic.score(hidden).squeeze(-1).float()
    return shift_right(readings), _at_last(readings, attention_mask)


def _at_last(per_token: Tensor, attention_mask: TokenMask) -> Tensor:
    seq = attention_mask.shape[1]
    last = seq - 1 - attention_mask.flip(1).int().argmax(dim=1)
    return per_token[torch.arange(len(last), device=last.device), last]
