"""The key-value cache for decoding, allocated once, and attention of one query per row over it."""

from typing import Any

import torch
from torch import Tensor

from alignloop.fastpath.huge_pages import zeros


class Cache:
    """Keys [rows, key-value heads, head, capacity] and values [..., capacity, head] by layer.

    A step begins with `begin_step`; then each layer calls `append` and `attend`.
    """

    def __init__(self, base: Any, config: Any, *, rows: int, capacity: int) -> None:
        like = base.embed_tokens.weight
        first = base.layers[0].self_attn
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._heads, self._scale = heads, float(first.scaling)
        shape = (rows, kv_heads, capacity, first.head_dim)
        tables = zeros(like, *shape, count=2 * len(base.layers))
        self._values = tables[::2]
        # keys are stored transposed: a step reads each of the head's dimensions along the positions
        self._keys = [table.view(*shape[:2], shape[3], shape[2]) for table in tables[1::2]]
        self._all_rows = torch.arange(rows, device=like.device)
        self._all_positions = torch.arange(capacity, device=like.device)
        # `embedding_bag` with weights supports only these types on a CPU
        use_bags = like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64)
        self._bags = _Bags(rows, heads, kv_heads, first.head_dim, capacity) if use_bags else None

    def fill(self, layer: int, begin: int, keys: Tensor, values: Tensor) -> None:
        """Write prompts [prompts, seq, key-value heads, head] into the rows from `begin` on."""
        end, width = begin + len(keys), keys.shape[1]
        self._keys[layer][begin:end, :, :, :width] = keys.permute(0, 2, 3, 1)
        self._values[layer][begin:end, :, :width] = values.transpose(1, 2)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one row to another."""
        for keys, values in zip(self._keys, self._values, strict=True):
            keys[target, :, :, :length] = keys[source, :, :, :length]
            values[target, :, :length] = values[source, :, :length]

    def begin_step(self, positions: Tensor) -> None:
        """The first rows write at `positions` [count] and attend up to there."""
        shortest, longest = (int(n) for n in torch.aminmax(positions))
        self._rows, self._positions = self._all_rows[: len(positions)], positions
        self._end, self._bias = longest + 1, None
        # rows of equal length need no mask
        if shortest < longest:
            unseen = self._all_positions[: self._end] > positions.unsqueeze(1)
            bias = torch.zeros(unseen.shape, device=positions.device)
            self._bias = bias.masked_fill_(unseen, -torch.inf).unsqueeze(1)
        if self._bags is not None:
            self._bags.begin_step(len(positions), self._end)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write [count, key-value heads, head] at the positions of this step."""
        self._keys[layer][self._rows, :, :, self._positions] = keys
        self._values[layer][self._rows, :, self._positions] = values

    def attend(self, layer: int, q: Tensor) -> Tensor:
        """Attention output of each row, [count, heads * head], for q [count, heads, head]."""
        q, keys, values = q * self._scale, self._keys[layer], self._values[layer]
        if self._bags is not None:
            scores = self._bags.scores(q, keys)[..., : self._end]
        else:
            seen = keys[: len(q)].flatten(0, 1)[..., : self._end]
            scores = torch.bmm(q.view(len(seen), -1, q.shape[2]), seen)
        scores = scores.view(len(q), self._heads, -1)
        if self._bias is not None:
            scores = scores + self._bias.to(q.dtype)
        # in float32 like transformers' eager attention
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        if self._bags is not None:
            return self._bags.mixed(weights, values).view(len(q), -1)
        seen = values[: len(q)].flatten(0, 1)[:, : self._end]
        return torch.bmm(weights.view(len(seen), -1, self._end), seen).view(len(q), -1)


class _Bags:
    """The two products of one query with its cache as weighted sums of rows of a table.

    On a CPU, a vector times a matrix of a hundred rows, for each row and head, takes several times
    as long as reading the cache. `embedding_bag` is made for such sums: scores are the sum over
    the head's dimensions of q times a row of (transposed) keys, outputs the sum over positions of
    weight times a row of values.
    """

    def __init__(self, rows: int, heads: int, kv_heads: int, head: int, capacity: int) -> None:
        shared = torch.arange(heads) // (heads // kv_heads)
        blocks = (torch.arange(rows).unsqueeze(1) * kv_heads + shared).view(-1, 1)
        self._heads, self._head = heads, head
        self._dims = (blocks * head + torch.arange(head)).flatten()
        self._positions = blocks * capacity + torch.arange(capacity)
        self._bags = torch.arange(rows * heads)

    def begin_step(self, count: int, end: int) -> None:
        """This step has `count` rows and attends to `end` positions."""
        bags = count * self._heads
        self._dim_index, self._dim_bags = (
            self._dims[: bags * self._head],
            self._bags[:bags] * self._head,
        )
        self._position_index = self._positions[:bags, :end].flatten()
        self._position_bags = self._bags[:bags] * end

    def scores(self, q: Tensor, keys: Tensor) -> Tensor:
        """q [count, heads, head] times the keys, [count * heads, capacity]."""
        return _sums(keys.flatten(0, 2), self._dim_index, self._dim_bags, q)

    def mixed(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weighted sums of values, [count * heads, head], for weights [count, heads, end]."""
        return _sums(values.flatten(0, 2), self._position_index, self._position_bags, weights)


def _sums(table: Tensor, index: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights times rows of a table, for each bag of indices."""
    found = torch.embedding_bag(
        table, index, begins, False, 0, False, per_sample_weights=weights.flatten()
    )
    return found[0]
