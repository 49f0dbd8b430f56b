"""Where two answers differ: by word in English, by character in Chinese."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from alignloop.label.pages.render import show_invisible

# CJK ideographs, kana and their punctuation stand alone; other letters and digits form words.
_ALONE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[{_ALONE}]|\s+|(?:(?![{_ALONE}])\w)+|.")
MOST_WORK = 100_000  # pairs of equal pieces; above it lines are compared, then whole texts


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text, and whether the other answer lacks it."""

    text: str
    differs: bool


def compare(first: str, second: str) -> tuple[list[Segment], list[Segment]]:
    """Both texts as segments; joined, the segments are the texts with invisible characters shown.

    >>> [s.text for s in compare("a red car", "a blue car")[1] if s.differs]
    ['blue']
    """
    texts = show_invisible(first), show_invisible(second)
    cuts = ([cut(text) for text in texts] for cut in (pieces, _lines, _whole))
    left, right = next(cut for cut in cuts if _work(*cut) <= MOST_WORK)
    return _compare(left, right)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _whole(text: str) -> list[str]:
    return [text]


def _work(left: Sequence[str], right: Sequence[str]) -> int:
    """How many pairs of equal pieces there are: one word a thousand times on each side is slow."""
    counts = Counter(right)
    return sum(counts[piece] for piece in left if not piece.isspace())


def _compare(left: Sequence[str], right: Sequence[str]) -> tuple[list[Segment], list[Segment]]:
    """Segments of both sides; blanks are matched only beside words that match."""
    same = SequenceMatcher(str.isspace, left, right, autojunk=False).get_matching_blocks()
    same = [block for block in same if _is_common_ground("".join(left[block.a :][: block.size]))]
    return (
        _segments(left, [(block.a, block.a + block.size) for block in same]),
        _segments(right, [(block.b, block.b + block.size) for block in same]),
    )


def pieces(text: str) -> list[str]:
    """A text cut into what is compared; joined, it is the text again.

    >>> pieces("It's 5 pm, 下雨了。")
    ['It', "'", 's', ' ', '5', ' ', 'pm', ',', ' ', '下', '雨', '了', '。']
    """
    return _PIECE.findall(text)


def _is_common_ground(text: str) -> bool:
    """A blank or a comma between two changes would only cut one mark into many."""
    return any(character.isalnum() for character in text)


def _segments(parts: Sequence[str], same: Sequence[tuple[int, int]]) -> list[Segment]:
    """One side: what lies within `same` is common, what lies between differs."""
    found: list[Segment] = []
    at = 0
    for low, high in [*same, (len(parts), len(parts))]:
        found.append(Segment(text="".join(parts[at:low]), differs=True))
        found.append(Segment(text="".join(parts[low:high]), differs=False))
        at = high
    return [segment for segment in found if segment.text]
