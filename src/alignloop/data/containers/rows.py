"""What a container gives: rows with their lines, bad rows with their reasons, in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from alignloop.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: `Row(line=7, value={"prompt": "Why?", "response": "Because."})`."""

    line: int
    value: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that the container cannot give, such as a line of broken JSON; the next one may be."""

    line: int
    problem: str
    fix: str
    content: str = ""

    def error(self, file: str) -> UserError:
        """The same as an error for people."""
        return UserError(self.problem, where=f"{file}:{self.line}", fix=self.fix)


@dataclass
class Encoding:
    """The encoding of a text as far as it is read: known at the latest at its last line."""

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file, or one split of a data set: what it is, and how to read it again and again.

    `split` is "train", "test", ... where the name says so, and else empty.
    """

    name: str
    container: str
    rows: Callable[[], Iterator[Row | BadRow]]
    split: str = ""
    encoding: Encoding = field(default_factory=Encoding)
