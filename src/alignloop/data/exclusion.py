"""Held-out prompts, which are excluded from training together with their near duplicates."""

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from alignloop.data.formats.made import AboutPrompt, prompt_of
from alignloop.data.formats.reading import stream_prompts
from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.records import Prompt

if TYPE_CHECKING:
    from datasketch import MinHash

logger = logging.getLogger(__name__)

NEAR_DUPLICATE = 0.8  # share of common trigrams that makes two prompts near duplicates
# 128 hashes find 99.5 % at any usual threshold and cost 0.5 kB per prompt
NUM_PERMUTATIONS = 128
RECALL = 0.995  # of the pairs at the threshold; higher above it
SHINGLE = 3  # characters rather than words: suits languages without spaces too

Item = TypeVar("Item", bound=AboutPrompt | Refusal | str)


class HeldOut:
    """Prompts that must not be trained on.

    Texts are compared without case, punctuation, spaces and system messages. Two are near
    duplicates if their sets of trigrams overlap by `threshold` (Jaccard) or more; MinHash finds the
    candidates (Broder 1997; see `bands`), and the exact sets decide.
    """

    def __init__(self, prompts: Iterable[Prompt], threshold: float = NEAR_DUPLICATE) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._texts: dict[str, str] = {}
        self._index = MinHashLSH(num_perm=NUM_PERMUTATIONS, params=bands(threshold))
        for text in dict.fromkeys(_normalise(prompt) for prompt in prompts):
            key = str(len(self._texts))
            self._texts[key] = text
            self._index.insert(key, _minhash(_shingles(text)), check_duplication=False)
        self._exact = set(self._texts.values())

    @classmethod
    def of(cls, files: Sequence[str | Path], threshold: float = NEAR_DUPLICATE) -> "HeldOut":
        """The prompts of files of any format; raises UserError for a refused row."""
        return cls(_prompts_of(files), threshold)

    def finds(self, prompt: Prompt) -> Literal["exact", "near", ""]:
        """Whether the prompt is held out, exactly or as a near duplicate."""
        text = _normalise(prompt)
        if text in self._exact:
            return "exact"
        return "near" if next(self._near(text), None) is not None else ""

    def matches(self, prompt: Prompt) -> set[str]:
        """The texts of the held-out prompts that equal or nearly equal the prompt."""
        text = _normalise(prompt)
        near = {self._texts[key] for key in self._near(text)}
        return near | ({text} & self._exact)

    def count(self, prompts: Iterable[Prompt], texts: set[str]) -> int:
        """How many of the prompts are among the texts that `matches` returned."""
        return sum(_normalise(prompt) in texts for prompt in prompts)

    def _near(self, text: str) -> Iterator[str]:
        shingles = _shingles(text)
        for key in map(str, self._index.query(_minhash(shingles))):
            other = _shingles(self._texts[key])
            if len(shingles & other) >= self._threshold * len(shingles | other):
                yield key

    def without(self, records: Iterable[Item], counts: Counter[str]) -> Iterator[Item]:
        """The records whose prompts are not held out; `counts` counts "exact" and "near" ones."""
        for record in records:
            found = "" if isinstance(record, Refusal | str) else self.finds(prompt_of(record))
            if found:
                counts[found] += 1
            else:
                yield record


def bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes find a pair at the threshold with probability 99.5 %.

    1 - (1 - threshold^rows)^bands >= 0.995, bands = 128 // rows, with the most rows that satisfy
    it: more rows give fewer false candidates for the exact comparison to reject. One row if none
    does (thresholds below 0.04); at least two bands, the fewest that MinHashLSH accepts. Source:
    Leskovec, Rajaraman and Ullman 2020, sec. 3.4.
    """
    found = 1
    for rows in range(1, NUM_PERMUTATIONS // 2 + 1):
        if (1 - threshold**rows) ** (NUM_PERMUTATIONS // rows) <= 1 - RECALL:
            found = rows
    return NUM_PERMUTATIONS // found, found


def leave_out(
    records: Sequence[Item], files: Sequence[str], threshold: float, where: str
) -> list[Item]:
    """Records without held-out prompts; logs how many. Raises UserError if none is left."""
    if not files:
        return list(records)
    counts: Counter[str] = Counter()
    kept = list(HeldOut.of(files, threshold).without(records, counts))
    if counts:
        numbers = (where, counts["exact"] + counts["near"], len(records), counts["near"])
        logger.warning("%s: left out %d of %d records, held out (%d near duplicates)", *numbers)
    if records and not kept:
        raise UserError("all prompts are held out", where=where, fix="check data.exclude")
    return kept


def _prompts_of(files: Sequence[str | Path]) -> Iterator[Prompt]:
    for file in files:
        for found in stream_prompts(file):
            if isinstance(found, Refusal):
                raise found.error()
            yield found


def _normalise(prompt: Prompt) -> str:
    """The conversation as letters and digits; the text itself if it has none."""
    text = "\n".join(turn.content for turn in prompt.messages if turn.role != "system")
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", "", folded) or folded


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}


def _minhash(shingles: set[str]) -> "MinHash":
    from datasketch import MinHash

    made = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=_hash)
    made.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(shingles)])
    return made


def _hash(shingle: bytes) -> int:
    # not hash(): that is salted per process, and results would differ
    return int.from_bytes(hashlib.blake2b(shingle, digest_size=4).digest(), "big")
