"""Sequences without padding, and with common prefixes stored once.

A padded batch [batch, seq] becomes one list of tokens. In a causal model a prefix does not depend
on what follows, so neighbouring rows with a common prefix share its tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from alignloop.shapes import TokenIds, TokenMask
from alignloop.tensors import integers


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Tokens in one list, and the index into it of each token of the batch.

    tokens, positions, owners [tokens]: the id, the position in its sequence, and the (first) row
    that holds it; rows [batch, longest]: indices into the list, the last one repeated after a
    row's end; lengths [batch]; shared: whether any token belongs to several rows.
    """

    tokens: Tensor
    positions: Tensor
    owners: Tensor
    rows: Tensor
    lengths: Tensor
    shared: bool

    def at(self, mask: TokenMask, attention_mask: TokenMask) -> Tensor:
        """Indices into the list of the tokens where `mask` [batch, seq] is True, in its order."""
        where = mask.nonzero()
        positions = attention_mask.cumsum(dim=1)[mask] - 1
        return self.rows[where[:, 0], positions]


def pack(input_ids: TokenIds, attention_mask: TokenMask) -> Packing:
    """Pack the unmasked tokens row by row; padding may be on either side."""
    lengths = attention_mask.sum(dim=1)
    longest = int(lengths.max())
    columns = torch.arange(longest, device=input_ids.device)
    real = columns < lengths.unsqueeze(1)
    ids = input_ids[:, :longest]
    if not torch.equal(attention_mask[:, :longest], real):
        ids = torch.zeros_like(real, dtype=input_ids.dtype)
        ids = ids.masked_scatter(real, input_ids[attention_mask])
    common = _common_beginnings(ids, lengths)
    stored = real if common is None else real & (columns >= common.unsqueeze(1))
    numbers = (stored.flatten().cumsum(0) - 1).view_as(stored)
    clamped = torch.minimum(columns.expand_as(stored), lengths.unsqueeze(1) - 1)
    rows = numbers.gather(1, clamped)
    if common is not None:
        rows = _with_beginnings(rows, common)
    owners, positions = stored.nonzero(as_tuple=True)
    return Packing(
        tokens=ids[stored],
        positions=positions,
        owners=owners,
        rows=rows,
        lengths=lengths,
        shared=common is not None,
    )


def _with_beginnings(rows: Tensor, common: Tensor) -> Tensor:
    """Point the shared prefix of each row at the tokens of the first row of its group."""
    first = 0
    for row, length in enumerate(integers(common)):
        if length:
            rows[row, :length] = rows[first, :length]
        else:
            first = row
    return rows


def _common_beginnings(ids: Tensor, lengths: Tensor) -> Tensor | None:
    """How many leading tokens each row shares with the first row of its group; None if none do.

    A group is a run of neighbours and shares their shortest common prefix; a row joins only if that
    saves more tokens than the shorter prefix costs. The last token of a row is never shared.
    """
    if len(ids) < 2:
        return None
    # each row keeps at least one own token, so that it has a query to compute
    own = torch.minimum(lengths[1:], lengths[:-1]) - 1
    alike = (ids[1:] == ids[:-1]).cumprod(dim=1).sum(dim=1)
    found, group, saved = [0] * len(ids), [0], 0
    for row, length in enumerate(integers(torch.minimum(alike, own)), start=1):
        # a new row may shorten the group's prefix: join only if (rows - 1) * prefix grows
        shared = min(length, saved // (len(group) - 1)) if len(group) > 1 else length
        if shared * len(group) > saved:
            group, saved = [*group, row], shared * len(group)
            for member in group[1:]:
                found[member] = shared
        else:
            group, saved = [row], 0
    return torch.tensor(found, device=ids.device) if any(found) else None
