"""Where two answers differ: by word in English, by character in Chinese."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from alignloop.label.pages.invisible import show_invisible

# CJK ideographs, kana and their punctuation are single pieces; other letters and digits form words.
_ALONE = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[{_ALONE}]|\s+|(?:(?![{_ALONE}])\w)+|.")
MOST_PIECES = 200_000  # of one text
MOST_PAIRS = 80_000_000  # pieces of one text times pieces of the other, without their common ends
_Blocks = list[tuple[int, int, int]]  # (place in the first, place in the second, length)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of text, and whether the other answer lacks it."""

    text: str
    differs: bool


def compare(first: str, second: str) -> tuple[list[Segment], list[Segment]] | None:
    """Both texts as segments; joined, they are the texts with invisible characters made visible.

    None if they are too long and too different: the work is pairs of pieces, some 2e9 a second.

    >>> [s.text for s in compare("a red car", "a blue car")[1] if s.differs]
    ['blue']
    """
    left, right = pieces(show_invisible(first)), pieces(show_invisible(second))
    if max(len(left), len(right)) > MOST_PIECES:
        return None
    same = _common(left, right)
    if same is None:
        return None
    same = [one for one in same if _is_common_ground("".join(left[one[0] :][: one[2]]))]
    return (
        _segments(left, [(at, at + length) for at, _, length in same]),
        _segments(right, [(at, at + length) for _, at, length in same]),
    )


def differences(texts: Sequence[str]) -> list[list[Segment] | None]:
    """Each text with its differences: of two from each other, of more from the first.

    None in place of a text that is too long and too different to be compared.
    """
    first, *others = texts
    compared = [compare(first, other) for other in others]
    alone = [Segment(text=show_invisible(first), differs=False)]
    if len(others) == 1:
        return [None, None] if compared[0] is None else list(compared[0])
    return [alone, *(one and one[1] for one in compared)]


def pieces(text: str) -> list[str]:
    """A text split into the units of comparison; joined, they are the text again.

    >>> pieces("It's 5 pm, 下雨了。")
    ['It', "'", 's', ' ', '5', ' ', 'pm', ',', ' ', '下', '雨', '了', '。']
    """
    return _PIECE.findall(text)


def _common(left: Sequence[str], right: Sequence[str]) -> _Blocks | None:
    """What both have in common, in order and as runs; None if finding it takes too long."""
    shorter = min(len(left), len(right))
    head = next((n for n in range(shorter) if left[n] != right[n]), shorter)
    ends = shorter - head
    tail = next((n for n in range(ends) if left[-1 - n] != right[-1 - n]), ends)
    places = [n for n in range(head, len(left) - tail) if not left[n].isspace()]
    others = [n for n in range(head, len(right) - tail) if not right[n].isspace()]
    if len(places) * len(others) > MOST_PAIRS:
        return None
    pairs = _longest_common([left[n] for n in places], [right[n] for n in others])
    same = [(n, n) for n in range(head)]
    same += [(places[a], others[b]) for a, b in pairs]
    same += [(len(left) - n, len(right) - n) for n in range(tail, 0, -1)]
    return _runs(left, right, same)


def _longest_common(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """A longest common subsequence as pairs of places.

    Bit-parallel: Hyyrö, Bit-Parallel LCS-length Computation Revisited (2004). A row's bit j is 0
    where the length of the longest common subsequence grows from `right[:j]` to `right[:j + 1]`.
    """
    if len(right) > len(left):  # a row has a bit for each piece of the right side
        return [(a, b) for b, a in _longest_common(right, left)]
    where = _places(right, set(left))
    all_ones = (1 << len(right)) - 1
    rows = [all_ones]
    for piece in left:
        found = rows[-1] & where.get(piece, 0)
        rows.append(((rows[-1] + found) | (rows[-1] - found)) & all_ones)
    return _traced(left, right, rows)


def _places(parts: Sequence[str], wanted: set[str]) -> dict[str, int]:
    """Where each piece is, as bits; of the pieces that are wanted."""
    bits: dict[str, bytearray] = {}
    for place, piece in enumerate(parts):
        if piece in wanted:
            row = bits.setdefault(piece, bytearray(len(parts) // 8 + 1))
            row[place // 8] |= 1 << place % 8
    return {piece: int.from_bytes(row, "little") for piece, row in bits.items()}


def _traced(
    left: Sequence[str], right: Sequence[str], rows: Sequence[int]
) -> list[tuple[int, int]]:
    """The pairs of one longest common subsequence, from the rows of lengths."""
    pairs: list[tuple[int, int]] = []
    a, b = len(left), len(right)
    while a and b:
        if rows[a] >> (b - 1) & 1:
            b -= 1  # the last piece of the right side adds nothing
        elif not rows[a - 1] >> (b - 1) & 1:
            a -= 1  # without the last piece of the left side it is as long
        else:
            a, b = a - 1, b - 1
            pairs.append((a, b))
    return pairs[::-1]


def _runs(left: Sequence[str], right: Sequence[str], same: Sequence[tuple[int, int]]) -> _Blocks:
    """Pairs as runs; a blank between two pairs joins them if both sides have it."""
    runs: list[list[int]] = []
    for a, b in same:
        if runs:
            a_end, b_end = runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]
            blank = (a - a_end, b - b_end) == (1, 1) and left[a_end] == right[b_end]
            if (a, b) == (a_end, b_end) or (blank and left[a_end].isspace()):
                runs[-1][2] = a + 1 - runs[-1][0]
                continue
        runs.append([a, b, 1])
    return [(a, b, length) for a, b, length in runs]


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
