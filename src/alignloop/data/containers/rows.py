"""The output of a container: rows with their lines, bad rows with their reasons, in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from alignloop.data.narrow import Json
from alignloop.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: `Row(line=7, value={"prompt": "Why?", "response": "Because."})`.

    A table's dates and bytes are among the values too: no JSON, and nothing that a format reads.
    """

    line: int
    value: dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be read, such as a line of broken JSON; the next one may be fine."""

    line: int
    problem: str
    fix: str
    content: str = ""

    def error(self, file: str) -> UserError:
        """The same as a UserError."""
        return UserError(self.problem, where=f"{file}:{self.line}", fix=self.fix)


@dataclass
class Encoding:
    """The encoding of a text read so far: final after its last line."""

    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file, or one split of a data set, which can be read repeatedly.

    `split` is "train", "test", ... if the name contains it, else empty.
    """

    name: str
    container: str
    rows: Callable[[], Iterator[Row | BadRow]]
    split: str = ""
    encoding: Encoding = field(default_factory=Encoding)
