"""Rows that cannot be used: they stop the reading, or are kept in refused.jsonl. None vanishes."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alignloop.data.files import whole_file
from alignloop.errors import UserError

logger = logging.getLogger(__name__)

REFUSED_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One row that cannot be used: where it stands, why, what to do, and the row itself."""

    file: str
    line: int
    problem: str
    fix: str
    row: Any = ""

    def error(self) -> UserError:
        """The same as an error for people."""
        return UserError(self.problem, where=f"{self.file}:{self.line}", fix=self.fix)

    def as_json(self) -> str:
        """A line of refused.jsonl."""
        return json.dumps(asdict(self), default=str)  # ASCII: half a character may be in the row


class RefusedRows:
    """Counts the refused rows of one reading, shows the first ten, or writes all of them.

    With `skip`, each goes to the file `to`, which then holds the refused rows of this `source`
    once, and still those of others.
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
        # With an error inside, whole_file leaves the old file as it was.
        return self._stack.__exit__(kind, error, trace)

    def add(self, refusal: Refusal) -> None:
        """One more; it is written at once, so that a million of them take no memory."""
        self.count += 1
        if len(self.first) < REFUSED_SHOWN:
            self.first.append(refusal)
        if self._skip and self._to is not None:
            if self._write is None:
                self._write = self._stack.enter_context(whole_file(self._to))
                for line in _lines_of_others(self._to, str(self._source)):
                    self._write(line)
            self._write(
                json.dumps({"source": str(self._source)})[:-1] + ", " + refusal.as_json()[1:]
            )

    def settle(self, *, any_good: bool) -> None:
        """At the end: raises UserError for refused rows, unless they are to be skipped.

        Where not one row is good, there is nothing to go on with.
        """
        if self.count and (not self._skip or not any_good):
            raise self.error()
        if self.count:
            kept = f"; they are in {self._to}" if self._to else ""
            logger.warning(
                "%s: left out %d refused rows; first: %s%s",
                self._source,
                self.count,
                self.first[0].error(),
                kept,
            )

    def error(self) -> UserError:
        """All refused rows in one message, the first ten of them with their reasons."""
        if self.count == 1:
            return self.first[0].error()
        lines: list[str] = []
        explained: set[str] = set()
        for refusal in self.first:
            # The same advice ten times over would bury the places.
            error = refusal.error()
            repeated = error.fix in explained
            lines.append(f"\n  {error.where}: {error.problem}" if repeated else f"\n  {error}")
            explained.add(error.fix)
        return UserError(
            f"{self.count} rows are refused",
            where=str(self._source),
            fix="mend or remove these rows, or leave them out with skip_refused = true in the "
            f"recipe (--skip-refused). The first of them:{''.join(lines)}",
        )


def _lines_of_others(path: Path, source: str) -> Iterator[str]:
    """What is written already about other sources; a second reading replaces the first."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if json.loads(line).get("source") != source:
                yield line.rstrip("\n")
