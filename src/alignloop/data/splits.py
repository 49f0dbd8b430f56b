"""Splits by prompt: no prompt is on both sides, so an evaluation cannot measure memory."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from alignloop.errors import UserError
from alignloop.records import (
    AttributeScores,
    Comparison,
    Demonstration,
    PreferencePair,
    Prompt,
    Sample,
)

AboutPrompt = TypeVar(
    "AboutPrompt", Prompt, Demonstration, Comparison, PreferencePair, AttributeScores, Sample
)


def split_by_prompt(
    records: Iterable[AboutPrompt], shares: Mapping[str, float], seed: int
) -> dict[str, list[AboutPrompt]]:
    """Share the records out by a hash of (seed, prompt text), keeping their order.

    With u = hash / 2^64 in [0, 1), a prompt goes to the first split whose cumulative share exceeds
    u. The split of a prompt depends on nothing but its text and the seed, so adding records moves
    none. Sizes match the shares on average; in a small set a small share may be empty.

    Raises UserError unless the shares are positive numbers with the sum 1.
    """
    rule = SplitByPrompt(shares, seed)
    splits: dict[str, list[AboutPrompt]] = {name: [] for name in rule.names}
    for record in records:
        splits[rule.of(record if isinstance(record, Prompt) else record.prompt)].append(record)
    return splits


def hold_out(
    records: Sequence[AboutPrompt], share: float, seed: int, *, section: str
) -> tuple[list[AboutPrompt], list[AboutPrompt]]:
    """Records to train on, and those of a share of the prompts held out; none if the share is 0.

    Raises UserError, naming `section`.held_out_share, if none is left to train on.
    """
    if not share:
        return list(records), []
    parts = split_by_prompt(records, {"test": share, "train": 1 - share}, seed)
    if not parts["train"]:
        raise UserError(
            f"{len(records)} records leave none to train on after the held-out share",
            where=f"{section}.held_out_share",
            fix=f"give more of them, or set {section}.held_out_share to 0",
        )
    return parts["train"], parts["test"]


class SplitByPrompt:
    """Assigns a split to each prompt: for streams, and the same across files and runs."""

    # No run has a negative seed. With the same seed, a run that splits one of these files again
    # would hash its prompts to the same places, and most of its parts would be empty.
    def __init__(self, shares: Mapping[str, float], seed: int = -1) -> None:
        _check_shares(shares)
        self.names = list(shares)
        self._bounds = list(zip(shares, accumulate(shares.values()), strict=True))
        self._seed = seed

    def of(self, prompt: Prompt) -> str:
        """The name of the prompt's split."""
        fraction = _hash_fraction(prompt, self._seed)
        # The last split takes the rest: rounding may leave the cumulative sum just under 1.
        return next((name for name, bound in self._bounds if fraction < bound), self.names[-1])


def _check_shares(shares: Mapping[str, float]) -> None:
    valid = shares and all(share > 0 for share in shares.values())
    if not valid or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise UserError(
            f"shares must be positive with the sum 1, got {dict(shares)}",
            where="shares",
            fix='use for example {"train": 0.9, "validation": 0.1}',
        )


def _hash_fraction(prompt: Prompt, seed: int) -> float:
    """A number in [0, 1) from the conversation; a system message does not make a new question."""
    turns = [[turn.role, turn.content] for turn in prompt.messages if turn.role != "system"]
    text = json.dumps([seed, turns], ensure_ascii=False)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact, and never rounded to 1
