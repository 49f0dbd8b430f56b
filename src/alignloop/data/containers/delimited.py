"""Rows of CSV and TSV: the first line names the columns."""

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from alignloop.data.containers.cells import LISTS, list_in
from alignloop.data.containers.limits import MAX_ROW_BYTES
from alignloop.data.containers.rows import BadRow, Row
from alignloop.errors import UserError

SHAPE = 'name the columns in the first line, and put texts with line ends or commas in "quotes"'


def delimited_rows(
    path: Path, lines: Iterable[tuple[int, str]], delimiter: str
) -> Iterator[Row | BadRow]:
    """Each record with the line on which it begins; a row of another width is a bad one.

    Raises UserError where a quoted cell has no end, and for a first line that names a column twice
    or not at all.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    numbered = iter(lines)
    before, first = next(numbered, (1, ""))
    reader = csv.reader(
        chain([first], (line for _, line in numbered)), delimiter=delimiter, strict=True
    )
    columns: list[str] | None = None
    began = before
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"this is no row of cells between {_NAMES[delimiter]}: {error}"
            raise UserError(problem, where=f"{path}:{began}", fix=SHAPE) from error
        if columns is None:
            columns = _columns(path, cells, began)
        elif any(cells):
            yield _row(columns, cells, began)
        began = before + reader.line_num


_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}


def _columns(path: Path, cells: list[str], line: int) -> list[str]:
    columns = [cell.strip() for cell in cells]
    doubled = [name for name in columns if columns.count(name) > 1 or not name][:1]
    if doubled:
        problem = (
            f'the column "{doubled[0]}" is there twice' if doubled[0] else "a column has no name"
        )
        raise UserError(problem, where=f"{path}:{line}", fix=SHAPE)
    return columns


def _row(columns: list[str], cells: list[str], line: int) -> Row | BadRow:
    if len(cells) != len(columns):
        problem = f"the row has {len(cells)} cells, and the first line names {len(columns)} columns"
        content = json.dumps(cells[: 2 * len(columns)], ensure_ascii=False)
        return BadRow(line=line, problem=problem, fix=SHAPE, content=content)
    value: dict[str, Any] = {}
    for name, cell in zip(columns, cells, strict=True):
        value[name] = list_in(cell) if name in LISTS else cell
    return Row(line=line, value=value)
