"""Reading files of any format: a stream of records, with the refused rows among them."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from alignloop.data.containers import BadRow, Table, training_tables
from alignloop.data.containers.rows import Row as TableRow
from alignloop.data.formats.cells import opened
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.kept import Kept, kept_of
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.parts import Labelled
from alignloop.data.formats.registry import Format, Kind, Refused, Row, formats_named, recognise
from alignloop.data.formats.used import Watched, but_names, in_words, unread_in
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.errors import UserError
from alignloop.records import AttributeScores, Demonstration, PreferencePair, Prompt

logger = logging.getLogger(__name__)

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """The result of one row: its format, its records, kept fields, and unread keys."""

    line: int
    format: Format
    records: Sequence[Any]
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
    return _collect(path, records, skip_refused, refused_to)


def read_attributes(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[AttributeScores]:
    """Read answers with scores by criterion; raises as `read_demonstrations` does."""
    return _collect(path, stream(path, ["attributes"], format), skip_refused, refused_to)


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
    records: list[Any] = _collect(path, found, skip_refused, refused_to, empty_is_error=False)
    labelled = [record for record in records if isinstance(record, Labelled)]
    pairs = [record for record in records if not isinstance(record, Labelled)]
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
    prompts = _collect(path, stream_prompts(path, format), skip_refused, refused_to)
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


MOST_UNREAD = 100  # names of keys, since a file may have any number of them
PROMPT_SOURCES: tuple[Kind, ...] = ("prompts", "demonstrations", "pairs", "labels", "attributes")


def stream(
    source: str | Path, kinds: Sequence[Kind], format: str | None = None
) -> Iterator[Any | Refusal]:
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
        yield found if isinstance(found, Prompt | Refusal) else found.prompt


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
    source = Path(table.name).name.split(".")[0]
    # only tables store lists and turns as text
    in_cells = table.container not in ("json", "jsonl")
    columns = survey(table) if columns is None else columns
    for row in table.rows():
        if isinstance(row, BadRow):
            place = {"file": table.name, "line": row.line}
            yield Refusal(**place, problem=row.problem, fix=row.fix, row=row.content)
            continue
        try:
            value = _opened(table, row)
            format_ = recognise(value, formats, columns)
            used: set[tuple[str, str]] = set()
            records = format_.read(Watched(value, used), source, columns)
            unread = unread_in(value, used)
            kept = kept_of(value, unread, format_, columns, in_cells=in_cells)
        except Refused as error:
            if error.whole_file:
                raise UserError(error.problem, where=table.name, fix=error.fix) from error
            place = {"file": table.name, "line": row.line}
            yield Refusal(**place, problem=error.problem, fix=error.fix, row=row.value)
        else:
            yield Recognised(
                line=row.line,
                format=format_,
                records=kept.within(records),
                row=value,
                unread=[name for name in unread if name not in kept.read],
                kept=kept,
            )


def _collect(
    path: str | Path,
    found: Iterator[Record | Refusal],
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
                records.append(one)
        refused.settle(any_good=bool(records))
    return _not_empty(path, records) if empty_is_error else records


def _not_empty(path: str | Path, records: list[Record]) -> list[Record]:
    if not records:
        raise UserError("no records in the file", where=str(path))
    return records
