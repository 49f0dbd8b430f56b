"""Unusable rows: they stop the reading, or are saved in refused.jsonl. None is dropped silently."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from alignloop.data.files import whole_file
from alignloop.errors import UserError

logger = logging.getLogger(__name__)

REFUSED_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An unusable row: its position, the problem, the fix, and the row itself."""

    file: str
    line: int
    problem: str
    fix: str
    row: object = ""

    def error(self) -> UserError:
        """The same as a UserError."""
        return UserError(self.problem, where=f"{self.file}:{self.line}", fix=self.fix)

    def as_json(self) -> str:
        """A line of refused.jsonl."""
        return json.dumps(asdict(self), default=str)  # ASCII: the row may contain lone surrogates


class RefusedRows:
    """Counts the refused rows of one reading and shows the first ten, or writes them all.

    With `skip`, each goes to the file `to`, where they replace earlier ones of the same `source`;
    those of other sources stay.
    """

    def __init__(self, source: str | Path, *, skip: bool, to: Path | None) -> None:
        self._source, self._skip, self._to = source, skip, to
        self.count, self.first = 0, list[Refusal]()
        self._write: Callable[[str], object] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        # On an error inside, whole_file leaves the old file as it was.
        return self._stack.__exit__(kind, error, trace)

    def add(self, refusal: Refusal) -> None:
        """Add one; it is written at once, so that a million of them take no memory."""
        self.count += 1
        if len(self.first) < REFUSED_SHOWN:
            self.first.append(refusal)
        if self._skip and self._to is not None:
            # opened on the first refusal: no empty file, and earlier ones stay
            if self._write is None:
                self._write = self._stack.enter_context(whole_file(self._to))
                for line in _lines_of_others(self._to, str(self._source)):
                    self._write(line)
            self._write(
                json.dumps({"source": str(self._source)})[:-1] + ", " + refusal.as_json()[1:]
            )

    def settle(self, *, any_good: bool) -> None:
        """Finish: raises UserError for refused rows, unless they are to be skipped.

        If no row at all is good, it raises even then.
        """
        if self.count and (not self._skip or not any_good):
            raise self.error()
        if self.count:
            kept = f"; see {self._to}" if self._to else ""
            logger.warning(
                "%s: skipped %d bad rows; first: %s%s",
                self._source,
                self.count,
                self.first[0].error(),
                kept,
            )

    def error(self) -> UserError:
        """All refused rows in one message, the first ten with their reasons."""
        if self.count == 1:
            return self.first[0].error()
        lines: list[str] = []
        explained: set[str] = set()
        for refusal in self.first:
            # Show each fix only once: repeated ten times, it would bury the positions.
            error = refusal.error()
            repeated = error.fix in explained
            lines.append(f"\n  {error.where}: {error.problem}" if repeated else f"\n  {error}")
            explained.add(error.fix)
        return UserError(
            f"{self.count} rows are refused",
            where=str(self._source),
            fix="fix or remove these rows, or skip them with skip_refused = true in the recipe "
            f"(--skip-refused). The first of them:{''.join(lines)}",
        )


def _lines_of_others(path: Path, source: str) -> Iterator[str]:
    """Lines already written about other sources; a second reading replaces the first."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if json.loads(line).get("source") != source:
                yield line.rstrip("\n")
