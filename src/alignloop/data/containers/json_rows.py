"""Rows of JSON: one object per line, or one array of objects, read piece by piece."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from alignloop.data.containers.limits import MAX_NESTING, MAX_ROW_BYTES, nests_too_deep
from alignloop.data.containers.rows import BadRow, Row
from alignloop.data.narrow import Json, are_objects, are_texts
from alignloop.errors import UserError

SHAPE = "use one JSON object per line (JSONL), or one JSON array of objects"
EXCERPT_CHARACTERS = 80
NO_OBJECT = "not a JSON object"
WRAPPERS = {"data", "rows", "examples", "records", "train"}
_SPACE = re.compile(r"[ \t\r\n]*")


class _Broken(Exception):
    """Invalid JSON, or JSON that we do not read: the problem and its position."""

    def __init__(self, problem: str, position: int = 0, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.position, self.line = problem, position, line

    def described(self, text: str) -> str:
        """The problem with the text around its position."""
        joint = ":" if self.problem == NO_OBJECT else " near:"
        return f"{self.problem}{joint} {_excerpt(text, self.position)}"


def line_rows(lines: Iterable[tuple[int, str]]) -> Iterator[Row | BadRow]:
    """JSONL: a broken line does not affect others; blank lines are skipped."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            value, end = _decoded(line, _after_space(line, 0))
            if line[end:].strip():
                raise _Broken("broken JSON (Extra data)", end)
            yield from _rows(value, number)
        except _Broken as broken:
            content = line.rstrip("\r\n")
            problem = broken.described(line)
            yield BadRow(line=number, problem=problem, fix=SHAPE, content=content)


def value_rows(path: Path, chunks: Iterable[str]) -> Iterator[Row | BadRow]:
    """A JSON array, or objects spanning several lines; only one of them and a chunk are in memory.

    Raises UserError with the line at which the JSON breaks: the rest cannot be split into rows.
    """
    window = _Window(chunks)
    try:
        yield from _elements(window) if window.peek() == "[" else _objects(window)
    except _Broken as broken:
        problem = broken.described(window.text)
        where = f"{path}:{broken.line or window.line_of(broken.position)}"
        raise UserError(problem, where=where, fix=SHAPE) from broken


def _elements(window: "_Window") -> Iterator[Row | BadRow]:
    _expect(window, "[", "an array")
    if window.peek() != "]":
        while True:
            yield from _element(window)
            if window.peek() != ",":
                break
            comma = window.line
            window.drop()
            if window.peek() == "]":
                raise _Broken("broken JSON (Comma before the closing bracket)", window.at, comma)
    _expect(window, "]", "',' or ']'")
    if window.peek():
        raise _Broken("broken JSON (Extra data after the array)", window.at)


def _objects(window: "_Window") -> Iterator[Row | BadRow]:
    while window.peek():
        yield from _element(window)


def _element(window: "_Window") -> Iterator[Row | BadRow]:
    line, value, content = window.line, *window.decode()
    try:
        yield from _rows(value, line)
    except _Broken as broken:
        yield BadRow(line=line, problem=broken.described(content), fix=SHAPE, content=content)


def _expect(window: "_Window", character: str, name: str) -> None:
    if window.peek() != character:
        raise _Broken(f"broken JSON (Expecting {name})", window.at)
    window.drop()


class _Window:
    """The part of a text that is being decoded: `text` from `at` on, which is on line `line`."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self._chunks, self._ended = iter(chunks), False
        self.text, self.at, self.line = "", 0, 1

    def peek(self) -> str:
        """The next character that is not a space; "" at the end of the text."""
        while True:
            self._go(_after_space(self.text, self.at))
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def drop(self) -> None:
        """Skip the character that `peek` returned."""
        self._go(self.at + 1)

    def decode(self) -> tuple[Json, str]:
        """Take one JSON value and its text; reads on if the window ends within it."""
        while True:
            try:
                value, end = _decoded(self.text, self.at)
            except _Broken:
                if not self._more():
                    raise
            else:
                # A number at the end of the window may continue in the next chunk.
                if end < len(self.text) or not self._more():
                    content = self.text[self.at : end]
                    self._go(end)
                    return value, content

    def line_of(self, position: int) -> int:
        """The line number of a position in the window."""
        return self.line + self.text.count("\n", self.at, position)

    def _go(self, position: int) -> None:
        self.line += self.text.count("\n", self.at, position)
        self.at = position

    # doubling keeps the cost of decoding a long value linear
    def _more(self) -> bool:
        """Grow the rest of the window to twice its length; false at the end of the text."""
        pieces = [self.text[self.at :]]
        # an unclosed bracket would read the whole file into memory
        if len(pieces[0]) > MAX_ROW_BYTES:
            raise _Broken(f"an element is longer than {MAX_ROW_BYTES // 2**20} MiB", self.at)
        missing = max(1, len(pieces[0]))
        while missing > 0 and not self._ended:
            pieces.append(next(self._chunks, ""))
            self._ended = not pieces[-1]
            missing -= len(pieces[-1])
        self.text, self.at = "".join(pieces), 0
        return len(self.text) > len(pieces[0])


def _rows(value: Json, line: int) -> list[Row]:
    """The row of an object; or the rows in it, if it only wraps a list: {"data": [...]}.

    A bare list of texts is an unnamed dialogue.
    """
    if are_texts(value) and value:
        return [Row(line=line, value={"dialogue": [*value]})]
    if not isinstance(value, dict):
        raise _Broken(NO_OBJECT)
    inside = next(iter(value.values())) if len(value) == 1 and WRAPPERS & value.keys() else None
    if are_objects(inside) and inside:
        return [Row(line=line, value=one) for one in inside]
    return [Row(line=line, value=value)]


_DECODER = json.JSONDecoder()


def _decoded(text: str, start: int) -> tuple[Json, int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _Broken(f"broken JSON ({error.msg})", error.pos) from error
    except RecursionError as error:
        raise _Broken(f"nested more than {MAX_NESTING} deep", start) from error
    except ValueError as error:  # a number with more digits than Python accepts
        raise _Broken(f"broken JSON ({error})", start) from error
    brackets = text.count("[", start, end) + text.count("{", start, end)
    if brackets > MAX_NESTING and nests_too_deep(value):
        raise _Broken(f"nested more than {MAX_NESTING} deep", start)
    return value, end


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None, "the pattern matches the empty string"
    return found.end()


def _excerpt(text: str, position: int) -> str:
    """At most 80 characters around the position, on one line."""
    start = max(0, position - EXCERPT_CHARACTERS // 2)
    return " ".join(text[start : start + EXCERPT_CHARACTERS].split())
