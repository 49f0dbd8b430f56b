"""Outputs of the scalar head: a score per sequence (reward model), a value per token (critic)."""

import torch
from torch import Tensor

from alignloop.models.forward import states_at
from alignloop.protocols import ScoreModel
from alignloop.shapes import PerSequence, PerToken, TokenIds, TokenMask


def sequence_scores(
    model: ScoreModel, input_ids: TokenIds, attention_mask: TokenMask, *, unread: int | None = None
) -> PerSequence:
    """The raw score of each sequence, [batch], at its last token (docs/algorithms.md#ppo-4).

    The index comes from the mask, so padding on either side changes nothing. `unread` is a token
    that another library's model skips at the end, as transformers does with the PAD of config.json,
    even if that is EOS. If there is no other token the first one is read.
    """
    hidden = last_states(model, input_ids, attention_mask, unread=unread)
    return model.score(hidden).squeeze(-1).float().to(input_ids.device)


def last_states(
    model: ScoreModel, input_ids: TokenIds, attention_mask: TokenMask, *, unread: int | None = None
) -> Tensor:
    """The hidden state [batch, hidden] that a sequence's score is read from."""
    read = attention_mask if unread is None else attention_mask & (input_ids != unread)
    # a text of PAD alone is read at its first position, as in transformers
    nothing = ~read.any(dim=1, keepdim=True)
    read = read | (nothing & _last(attention_mask.flip(1)).flip(1))
    return states_at(model, input_ids, attention_mask, _last(read))


def token_values(
    critic: ScoreModel,
    input_ids: TokenIds,
    attention_mask: TokenMask,
    response_mask: TokenMask | None = None,
) -> tuple[PerToken, PerSequence]:
    """The critic's values: (values [batch, seq], value after the last token [batch]).

    values[b, t] is the value just before token t, from the hidden state of token t - 1; with a mask
    only at response tokens. It is 0 elsewhere, and at a first token.
    """
    last = _last(attention_mask)
    valued = attention_mask if response_mask is None else response_mask
    # one forward pass gives both the values and the bootstrap after the last token
    before = torch.roll(valued, -1, dims=1)
    before[:, -1] = False
    query_mask = before | last
    hidden = states_at(critic, input_ids, attention_mask, query_mask)
    found = critic.score(hidden).squeeze(-1).float().to(query_mask.device)
    readings = torch.zeros(query_mask.shape, device=found.device).masked_scatter(query_mask, found)
    values = torch.where(before, readings, 0.0).roll(1, dims=1)
    return values, readings[last]


def _last(attention_mask: TokenMask) -> TokenMask:
    """True at the last token of each sequence."""
    after = attention_mask.flip(1).cumsum(dim=1).flip(1)
    return attention_mask & (after == 1)
