"""Lengths in tokens, counted with a tokenizer alone: no torch, and usually no transformers."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from alignloop.data.tokenizer import Tokenizer
from alignloop.errors import UserError

CountTokens = Callable[[Sequence[str]], list[int]]
BOUNDS = tuple(2**power for power in range(4, 18))  # 16, 32, ... 131072


def load_counter(folder: Path) -> CountTokens:
    """A function from texts to token counts; raises UserError if there is no tokenizer.

    Uses tokenizer.json; only other kinds of tokenizers need transformers.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return _slow_counter(folder)
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        problem = f"tokenizer.json cannot be read: {error}"
        raise UserError(problem, where=str(folder), fix="save the tokenizer again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        # fast: no offsets are needed, only counts
        found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in found]

    return count


def _slow_counter(folder: Path) -> CountTokens:
    if not folder.is_dir():
        raise UserError("no tokenizer here", where=str(folder), fix="give its directory")
    from transformers import AutoTokenizer

    try:
        tokenizer = cast(
            "Tokenizer",
            AutoTokenizer.from_pretrained(folder),  # pyright: ignore[reportUnknownMemberType]
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"no tokenizer here: {first}", where=str(folder)) from error
    return lambda texts: [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]


class Bin(TypedDict):
    """A bin of a histogram: the lengths up to a bound that are above the bin before."""

    up_to: int
    count: int


class Summary(TypedDict):
    """What `Lengths.summary` returns; of no lengths only the count and the histogram."""

    count: int
    min: NotRequired[int]
    median: NotRequired[int]
    p95: NotRequired[int]
    max: NotRequired[int]
    histogram: list[Bin]


class Lengths:
    """Many lengths in little memory, four bytes each, with quantiles and a histogram."""

    def __init__(self) -> None:
        self._values = array("L")

    def add(self, length: int) -> None:
        """Add a length."""
        self._values.append(length)

    def summary(self) -> Summary:
        """Count, min, median, 95 %, max, and a histogram with bounds 16, 32, 64, ... tokens."""
        values = sorted(self._values)
        if not values:
            return {"count": 0, "histogram": []}
        return {
            "count": len(values),
            "min": values[0],
            "median": values[len(values) // 2],
            "p95": values[min(len(values) - 1, len(values) * 95 // 100)],
            "max": values[-1],
            "histogram": _histogram(values),
        }


def _histogram(values: Sequence[int]) -> list[Bin]:
    """Counts by upper bound, from the first non-empty bin to the last."""
    ends = [bisect.bisect_left(values, bound + 1) for bound in BOUNDS]
    counts = [high - low for low, high in zip([0, *ends], ends, strict=False)]
    filled = [bin_ for bin_, count in enumerate(counts) if count]
    found: list[Bin] = (
        [
            {"up_to": BOUNDS[bin_], "count": counts[bin_]}
            for bin_ in range(filled[0], filled[-1] + 1)
        ]
        if filled
        else []
    )
    above = len(values) - ends[-1]
    return [*found, {"up_to": values[-1], "count": above}] if above else found
