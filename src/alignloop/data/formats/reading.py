"""Reading files of any format: records one by one, with the rows that are refused among them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from alignloop.data.containers import BadRow, Table, training_tables
from alignloop.data.formats.cells import opened
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.parts import Labelled
from alignloop.data.formats.registry import Format, Kind, Refused, Row, formats_named, recognise
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.errors import UserError
from alignloop.records import Demonstration, PreferencePair, Prompt

logger = logging.getLogger(__name__)

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What one row gave: its format and its records."""

    line: int
    format: Format
    records: Sequence[Any]
    row: Row = field(repr=False)


def read_demonstrations(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[Demonstration]:
    """Read demonstrations in any known format; a row may give several.

    Raises UserError with the first ten refused rows (file, line, key, what to do). With
    `skip_refused` these are left out, counted in the log and written to `refused_to` with their
    reasons, and only a file without a single good row is an error. `format` names the one format
    that every row must have.
    """
    records = stream(path, ["demonstrations"], format)
    return _collect(path, records, skip_refused, refused_to)


def read_pairs(
    path: str | Path,
    *,
    skip_refused: bool = False,
    format: str | None = None,
    refused_to: Path | None = None,
) -> list[PreferencePair]:
    """Read preference pairs in any known format; raises as `read_demonstrations` does.

    Single responses with labels become pairs where one prompt has good and bad ones.
    """
    found = stream(path, ["pairs", "labels"], format)
    records: list[Any] = _collect(path, found, skip_refused, refused_to, empty_is_error=False)
    labelled = [record for record in records if isinstance(record, Labelled)]
    pairs = [record for record in records if not isinstance(record, Labelled)]
    pairs += pairs_of_labels(labelled)
    if labelled and not pairs:
        raise UserError(
            "no prompt has both a good and a bad response, so that no pair can be made of labels",
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

    Raises as `read_demonstrations` does, and if one prompt_id names two different prompts.
    """
    prompts = _collect(path, stream_prompts(path, format), skip_refused, refused_to)
    return distinct_prompts(path, prompts)


def distinct_prompts(path: str | Path, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Each prompt once; raises UserError if one prompt_id names two different prompts."""
    distinct: dict[str, Prompt] = {}
    for prompt in prompts:
        if distinct.setdefault(prompt.prompt_id, prompt).messages != prompt.messages:
            raise UserError(
                f'prompt_id "{prompt.prompt_id}" names two different prompts',
                where=str(path),
                fix="give each prompt an id of its own, or leave prompt_id out",
            )
    if len(distinct) < len(prompts):
        logger.warning("%s: left out %d repeated prompts", path, len(prompts) - len(distinct))
    return list(distinct.values())


PROMPT_SOURCES: tuple[Kind, ...] = ("prompts", "demonstrations", "pairs", "labels")


def stream(
    source: str | Path, kinds: Sequence[Kind], format: str | None = None
) -> Iterator[Any | Refusal]:
    """The records of all tables to learn from, one by one, with the refusals among them."""
    formats = formats_named(format, kinds)
    for table in training_tables(source):
        silent = 0
        for found in read_table(table, formats):
            yield from [found] if isinstance(found, Refusal) else found.records
            silent += isinstance(found, Recognised) and not found.records
        if silent:
            logger.warning("%s: %d rows say nothing that can be learnt", table.name, silent)


def stream_prompts(source: str | Path, format: str | None = None) -> Iterator[Prompt | Refusal]:
    """The prompts of all tables to learn from, repeated ones too."""
    for found in stream(source, PROMPT_SOURCES, format):
        yield found if isinstance(found, Prompt | Refusal) else found.prompt


def read_table(table: Table, formats: Sequence[Format]) -> Iterator[Recognised | Refusal]:
    """What every row of a table gave; raises UserError where the table itself is damaged."""
    source = Path(table.name).name.split(".")[0]
    for row in table.rows():
        if isinstance(row, BadRow):
            place = {"file": table.name, "line": row.line}
            yield Refusal(**place, problem=row.problem, fix=row.fix, row=row.content)
            continue
        try:
            value = opened(row.value, strict=table.container not in ("json", "jsonl"))
            format_ = recognise(value, formats)
            records = format_.read(value, source)
        except Refused as error:
            place = {"file": table.name, "line": row.line}
            yield Refusal(**place, problem=error.problem, fix=error.fix, row=row.value)
        else:
            yield Recognised(line=row.line, format=format_, records=records, row=value)


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
        raise UserError("there is not one record in the file", where=str(path))
    return records
