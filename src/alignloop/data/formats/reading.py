"""Reading files of any format: a stream of records, with the refused rows among them."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from alignloop.data.containers import BadRow, Table, training_tables
from alignloop.data.containers.rows import Row as TableRow
from alignloop.data.formats.cells import opened
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.kept import Kept, kept_of
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.made import Labelled, Made, prompt_of
from alignloop.data.formats.registry import Format, Kind, Refused, Row, formats_named, recognise
from alignloop.data.formats.used import Watched, but_names, in_words, unread_in
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.errors import UserError
from alignloop.records import Demonstration, PreferencePair, Prompt

logger = logging.getLogger(__name__)

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """The result of one row: its format, its records, kept fields, and unread keys."""

    line: int
    format: Format
    records: Sequence[Made]
    row: Row = field(repr=False)
    unread: Sequence[str] = ()
    kept: Kept = field(default_factory=Kept)


def read_demonstrations(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[Demonstration]:
    """Read demonstrations in any known format; a row may give several.

    Raises UserError with the first ten refused rows (file, line, key, what to do). With
    `skip_refused` these are skipped, counted in the log and written to `refused_to` with their
    reasons, and only a file without any good row is an error. `format` names the one format that
    every row must have.
    """
    records = stream(path, ["demonstrations"], format)
    return _collect(path, records, (Demonstration,), skip_refused, refused_to)


def read_pairs(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[PreferencePair]:
    """Read preference pairs in any known format; raises as `read_demonstrations` does.

    Single labelled responses become pairs if a prompt has good and bad ones.
    """
    found = stream(path, ["pairs", "labels"], format)
    either = (PreferencePair, Labelled)
    records = _collect(path, found, either, skip_refused, refused_to, empty_is_error=False)
    labelled = [record for record in records if isinstance(record, Labelled)]
    pairs = [record for record in records if isinstance(record, PreferencePair)]
    pairs += pairs_of_labels(labelled)
    if labelled and not pairs:
        raise UserError(
            "no prompt has both a good and a bad response, so the labels give no pairs",
            where=str(path),
            fix="give pairs, or read the file as demonstrations, which keeps the good ones",
        )
    return _not_empty(path, pairs)


def read_prompts(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[Prompt]:
    """Read prompts from files of prompts, demonstrations, pairs or labels, each prompt once.

    Rows of one prompt with different references give a list of them, each of which is correct; the
    metadata is that of the first row. Raises as `read_demonstrations` does, and if one prompt_id
    names two different prompts.
    """
    prompts = _collect(path, stream_prompts(path, format), (Prompt,), skip_refused, refused_to)
    return distinct_prompts(path, prompts)


def distinct_prompts(path: str | Path, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Each prompt once, with all its references; raises UserError if one id names two prompts."""
    distinct: dict[str, Prompt] = {}
    references: dict[str, dict[str, None]] = {}
    for prompt in prompts:
        references.setdefault(prompt.prompt_id, {}).update(dict.fromkeys(prompt.references))
        first = distinct.setdefault(prompt.prompt_id, prompt)
        if (first.messages, first.tools) != (prompt.messages, prompt.tools):
            raise UserError(
                f'prompt_id "{prompt.prompt_id}" names two different prompts',
                where=str(path),
                fix="give each prompt its own id, or leave prompt_id out",
            )
    if len(distinct) < len(prompts):
        logger.warning("%s: left out %d repeated prompts", path, len(prompts) - len(distinct))
    more = {key: found for key, found in references.items() if len(found) > 1}
    for key, found in more.items():
        distinct[key] = distinct[key].model_copy(update={"reference": tuple(found)})
    if any(len(more.get(prompt.prompt_id, ())) > len(prompt.references) for prompt in prompts):
        logger.warning("%s: rows of one prompt have different references; each is correct", path)
    return list(distinct.values())


MOST_SHAPES = 1000  # combinations of keys and types, which a file may vary endlessly
MOST_UNREAD = 100  # names of keys, since a file may have any number of them
PROMPT_SOURCES: tuple[Kind, ...] = ("prompts", "demonstrations", "pairs", "labels")


def stream(
    source: str | Path, kinds: Sequence[Kind], format: str | None = None
) -> Iterator[Made | Refusal]:
    """The records of all training tables, one by one, with the refusals among them."""
    formats = formats_named(format, kinds)
    for table in training_tables(source):
        unread: Counter[str] = Counter()
        rows = silent = 0
        for found in read_table(table, formats):
            rows += 1
            if isinstance(found, Refusal):
                yield found
                continue
            silent += not found.records
            unread.update(but_names(found.unread)[: MOST_UNREAD - len(unread)])
            yield from found.records
        if unread and "prompts" not in kinds:
            logger.warning("%s: not read: %s", table.name, in_words(unread, rows))
        if silent:
            logger.warning("%s: %d rows contain nothing to train on", table.name, silent)


def stream_prompts(source: str | Path, format: str | None = None) -> Iterator[Prompt | Refusal]:
    """The prompts of all training tables, including repeated ones."""
    for found in stream(source, PROMPT_SOURCES, format):
        if isinstance(found, Refusal):
            yield found
            continue
        assert not isinstance(found, str), "no source of prompts has texts without one"
        yield prompt_of(found)


def survey(table: Table) -> Columns:
    """Facts about the columns of a table: a first pass, which stores no rows.

    Damage is reported in the second pass, after the rows before it.
    """
    columns = Columns()
    with suppress(UserError):
        for row in table.rows():
            if not isinstance(row, BadRow):
                with suppress(Refused):  # reported in the second pass
                    columns.look(_opened(table, row))
    return columns


def _opened(table: Table, row: TableRow) -> Row:
    """A row with the conversations in its cells parsed; raises Refused if one is invalid."""
    return opened(row.value, strict=table.container not in ("json", "jsonl"))


def read_table(
    table: Table, formats: Sequence[Format], columns: Columns | None = None
) -> Iterator[Recognised | Refusal]:
    """The results of every row of a table, read twice: all rows decide what a column means.

    `columns` is the result of an earlier first pass. Raises UserError if the table itself is
    damaged, or if the meaning of a column is unclear.
    """
    reader = RowReader(table, formats, survey(table) if columns is None else columns)
    for row in table.rows():
        yield reader.read(row)


class RowReader:
    """Reads rows of a table one by one, once all of them have been surveyed."""

    def __init__(self, table: Table, formats: Sequence[Format], columns: Columns) -> None:
        self.source = Path(table.name).name.split(".")[0]
        self._table, self._formats, self._columns = table, formats, columns
        # only tables store lists and turns as text
        self._in_cells = table.container not in ("json", "jsonl")
        self._by_shape: dict[tuple[tuple[str, type], ...], list[Format]] = {}

    def read(self, row: TableRow | BadRow) -> Recognised | Refusal:
        """The result of one row. Raises UserError if the meaning of a column is unclear."""
        if isinstance(row, BadRow):
            return self._refused(row, row.problem, row.fix, row.content)
        try:
            return self._recognised(row)
        except Refused as error:
            if error.whole_file:
                raise UserError(error.problem, where=self._table.name, fix=error.fix) from error
            return self._refused(row, error.problem, error.fix, row.value)

    def _refused(self, row: TableRow | BadRow, problem: str, fix: str, content: object) -> Refusal:
        return Refusal(file=self._table.name, line=row.line, problem=problem, fix=fix, row=content)

    def _recognised(self, row: TableRow) -> Recognised:
        value = _opened(self._table, row)
        format_ = self._format_of(value)
        used: set[tuple[str, str]] = set()
        records = format_.read(Watched(value, used), self.source, self._columns)
        unread = unread_in(value, used)
        kept = kept_of(value, unread, format_, self._columns, in_cells=self._in_cells)
        return Recognised(
            line=row.line,
            format=format_,
            records=kept.within(records),
            row=value,
            unread=[name for name in unread if name not in kept.read],
            kept=kept,
        )

    def _format_of(self, value: Row) -> Format:
        """The format of a row; which formats have its keys is found out once for each shape."""
        shape = tuple([(key, type(cell)) for key, cell in value.items()])
        possible = self._by_shape.get(shape)
        if possible is None:
            possible = [one for one in self._formats if one.has_keys(value)]
            if len(self._by_shape) < MOST_SHAPES:
                self._by_shape[shape] = possible
        found = next((one for one in possible if one.holds(value, self._columns)), None)
        # none: it says what is missing
        return found or recognise(value, self._formats, self._columns)


def _collect(
    path: str | Path,
    found: Iterator[Made | Refusal],
    of: tuple[type[Record], ...],
    skip_refused: bool,
    refused_to: Path | None,
    *,
    empty_is_error: bool = True,
) -> list[Record]:
    records: list[Record] = []
    with RefusedRows(path, skip=skip_refused, to=refused_to) as refused:
        for one in found:
            if isinstance(one, Refusal):
                refused.add(one)
            else:
                assert isinstance(one, of), "the kinds of the formats decide"
                records.append(one)
        refused.settle(any_good=bool(records))
    return _not_empty(path, records) if empty_is_error else records


def _not_empty(path: str | Path, records: list[Record]) -> list[Record]:
    if not records:
        raise UserError("no records in the file", where=str(path))
    return records
