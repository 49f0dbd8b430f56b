"""Where two answers differ: by word in English, by character in Chinese."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from alignloop.label.pages.render import show_invisible

# CJK ideographs, kana and their punctuation are single pieces; other letters and digits form words.
_ALONE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[{_ALONE}]|\s+|(?:(?![{_ALONE}])\w)+|.")
MOST_WORK = 100_000  # pairs of equal pieces; above it, compare lines, then whole texts


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text, and whether the other answer lacks it."""

    text: str
    differs: bool


def compare(first: str, second: str) -> tuple[list[Segment], list[Segment]]:
    """Both texts as segments; joined, they are the texts with invisible characters made visible.

    >>> [s.text for s in compare("a red car", "a blue car")[1] if s.differs]
    ['blue']
    """
    texts = show_invisible(first), show_invisible(second)
    splits = ([split(text) for text in texts] for split in (pieces, _lines, _whole))
    left, right = next(split for split in splits if _work(*split) <= MOST_WORK)
    return _compare(left, right)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _whole(text: str) -> list[str]:
    return [text]


def _work(left: Sequence[str], right: Sequence[str]) -> int:
    """Pairs of equal pieces, the matcher's cost: a word repeated 1,000 times per side is slow."""
    counts = Counter(right)
    return sum(counts[piece] for piece in left if not piece.isspace())


def _compare(left: Sequence[str], right: Sequence[str]) -> tuple[list[Segment], list[Segment]]:
    """Segments of both sides; blanks match only next to matching words."""
    same = SequenceMatcher(str.isspace, left, right, autojunk=False).get_matching_blocks()
    same = [block for block in same if _is_common_ground("".join(left[block.a :][: block.size]))]
    return (
        _segments(left, [(block.a, block.a + block.size) for block in same]),
        _segments(right, [(block.b, block.b + block.size) for block in same]),
    )


def pieces(text: str) -> list[str]:
    """A text split into the units of comparison; joined, they are the text again.

    >>> pieces("It's 5 pm, 下雨了。")
    ['It', "'", 's', ' ', '5', ' ', 'pm', ',', ' ', '下', '雨', '了', '。']
    """
    return _PIECE.findall(text)


def _is_common_ground(text: str) -> bool:
    """False for blanks and commas, which between changes would only split one mark into many."""
    return any(character.isalnum() for character in text)


def _segments(parts: Sequence[str], same: Sequence[tuple[int, int]]) -> list[Segment]:
    """One side: text within `same` is common, the rest differs."""
    found: list[Segment] = []
    at = 0
    for low, high in [*same, (len(parts), len(parts))]:
        found.append(Segment(text="".join(parts[at:low]), differs=True))
        found.append(Segment(text="".join(parts[low:high]), differs=False))
        at = high
    return [segment for segment in found if segment.text]
