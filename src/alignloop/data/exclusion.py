"""Held-out prompts: left out of what is learnt from, near duplicates of them as well."""

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from alignloop.data.formats.reading import stream_prompts
from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.records import Prompt

logger = logging.getLogger(__name__)

NEAR_DUPLICATE = 0.8  # share of common trigrams from which two prompts are near duplicates
NUM_PERMUTATIONS = 128
RECALL = 0.995  # of the pairs at the threshold; of those above it, more
SHINGLE = 3  # characters: it suits languages with and without spaces

Item = TypeVar("Item")


class HeldOut:
    """Prompts that must not be learnt from.

    Texts are compared without case, punctuation and spaces, and without system messages. Two are
    near duplicates where their sets of trigrams overlap by `threshold` (Jaccard) or more; MinHash
    finds the candidates (Broder 1997; see `bands`), and the sets themselves decide.
    """

    def __init__(self, prompts: Iterable[Prompt], threshold: float = NEAR_DUPLICATE) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._texts: dict[str, str] = {}
        self._index = MinHashLSH(num_perm=NUM_PERMUTATIONS, params=bands(threshold))
        for text in dict.fromkeys(_plain(prompt) for prompt in prompts):
            key = str(len(self._texts))
            self._texts[key] = text
            self._index.insert(key, _minhash(_shingles(text)), check_duplication=False)
        self._exact = set(self._texts.values())

    @classmethod
    def of(cls, files: Sequence[str | Path], threshold: float = NEAR_DUPLICATE) -> "HeldOut":
        """The prompts of files of any format; raises UserError for a row that is refused."""
        return cls(_prompts_of(files), threshold)

    def finds(self, prompt: Prompt) -> Literal["exact", "near", ""]:
        """Whether the prompt is held out."""
        text = _plain(prompt)
        if text in self._exact:
            return "exact"
        return "near" if next(self._near(text), None) is not None else ""

    def matches(self, prompt: Prompt) -> set[str]:
        """The texts of the held-out prompts that the prompt is or nearly is."""
        text = _plain(prompt)
        near = {self._texts[key] for key in self._near(text)}
        return near | ({text} & self._exact)

    def count(self, prompts: Iterable[Prompt], texts: set[str]) -> int:
        """How many of the prompts are among texts that `matches` gave."""
        return sum(_plain(prompt) in texts for prompt in prompts)

    def _near(self, text: str) -> Iterator[str]:
        shingles = _shingles(text)
        for key in map(str, self._index.query(_minhash(shingles))):
            other = _shingles(self._texts[key])
            if len(shingles & other) >= self._threshold * len(shingles | other):
                yield key

    def without(self, records: Iterable[Item], counts: Counter[str]) -> Iterator[Item]:
        """The records whose prompts are not held out; `counts` counts "exact" and "near" ones."""
        for record in records:
            found = "" if isinstance(record, Refusal | str) else self.finds(_prompt_of(record))
            if found:
                counts[found] += 1
            else:
                yield record


def bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes find a pair at the threshold with a chance of 99.5 %.

    1 - (1 - threshold^rows)^bands >= 0.995, bands = 128 // rows, with the most rows that do: more
    rows mean fewer false candidates, which the sets themselves rule out. One row where none
    does (thresholds below 0.04); two bands at least, the fewest that MinHashLSH takes.
    Source: Leskovec, Rajaraman and Ullman 2020, sec. 3.4.
    """
    found = 1
    for rows in range(1, NUM_PERMUTATIONS // 2 + 1):
        if (1 - threshold**rows) ** (NUM_PERMUTATIONS // rows) <= 1 - RECALL:
            found = rows
    return NUM_PERMUTATIONS // found, found


def leave_out(
    records: Sequence[Item], files: Sequence[str], threshold: float, where: str
) -> list[Item]:
    """Records without held-out prompts; says how many went. Raises UserError if none is left."""
    if not files:
        return list(records)
    counts: Counter[str] = Counter()
    kept = list(HeldOut.of(files, threshold).without(records, counts))
    if counts:
        told = (where, counts["exact"] + counts["near"], len(records), counts["near"])
        logger.warning("%s: left out %d of %d records, held out (%d near duplicates)", *told)
    if records and not kept:
        raise UserError("every prompt is held out", where=where, fix="look at data.exclude")
    return kept


def _prompt_of(record: Any) -> Prompt:
    return record if isinstance(record, Prompt) else record.prompt


def _prompts_of(files: Sequence[str | Path]) -> Iterator[Prompt]:
    for file in files:
        for found in stream_prompts(file):
            if isinstance(found, Refusal):
                raise found.error()
            yield found


def _plain(prompt: Prompt) -> str:
    """The conversation as letters and digits; the text itself where it has none of them."""
    said = "\n".join(turn.content for turn in prompt.messages if turn.role != "system")
    folded = unicodedata.normalize("NFKC", said).casefold()
    return re.sub(r"[\W_]+", "", folded) or folded


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}


def _minhash(shingles: set[str]) -> Any:
    from datasketch import MinHash

    made = MinHash(num_perm=NUM_PERMUTATIONS, hashfunc=_hash)
    made.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(shingles)])
    return made


def _hash(shingle: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(shingle, digest_size=4).digest(), "big")
