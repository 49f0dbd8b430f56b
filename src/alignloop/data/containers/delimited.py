"""Rows of CSV and TSV; the first line has the column names, or is itself a question."""

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from alignloop.data.containers.cells import LISTS, list_in
from alignloop.data.containers.limits import MAX_ROW_BYTES
from alignloop.data.containers.rows import BadRow, Row
from alignloop.data.narrow import Json
from alignloop.errors import UserError

SHAPE = 'put column names in the first line, and texts with line breaks or commas in "quotes"'


def delimited_rows(
    path: Path, lines: Iterable[tuple[int, str]], delimiter: str
) -> Iterator[Row | BadRow]:
    """Each record with its first line number; a row of another width is a BadRow.

    The first line has the column names; if it is a text and there is one column, that is "prompt".
    Raises UserError if a quoted cell does not end, and for a first line that repeats a name or
    lacks names for several columns.
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
            problem = f"not a row of cells separated by {_NAMES[delimiter]}: {error}"
            raise UserError(problem, where=f"{path}:{began}", fix=SHAPE) from error
        if columns is None and _has_no_names(cells):
            columns = _nameless(path, cells, began)
        elif columns is None:
            columns = _columns(path, cells, began)
            began = before + reader.line_num
            continue
        if any(cells):
            yield _row(columns, cells, began)
        began = before + reader.line_num


_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons"}


def _columns(path: Path, cells: list[str], line: int) -> list[str]:
    """The column names; an unnamed one gets pandas' name, "Unnamed: 0".

    An unnamed column is an index at the start (pandas writes it), or a spreadsheet's leftover at
    the end; in the middle it would be a text that no format could find.
    """
    columns = [cell.strip() for cell in cells]
    named = max((place for place, name in enumerate(columns) if name), default=0)
    for place, name in enumerate(columns):
        if not name and 0 < place < named:
            problem = f"column {place + 1} of {len(columns)} has no name"
            raise UserError(problem, where=f"{path}:{line}", fix=SHAPE)
    columns = [name or f"Unnamed: {place}" for place, name in enumerate(columns)]
    doubled = next((name for name in columns if columns.count(name) > 1), "")
    if doubled:
        problem = f'column "{doubled}" appears twice'
        raise UserError(problem, where=f"{path}:{line}", fix=SHAPE)
    return columns


def _nameless(path: Path, cells: list[str], line: int) -> list[str]:
    """The column names of a file of questions without a header (XSafety): "prompt".

    Raises UserError if several columns are filled: which one is the question would be a guess.
    """
    filled = [place for place, cell in enumerate(cells) if cell.strip()]
    if len(filled) > 1:
        problem = f"the first line has no column names: {len(filled)} cells are texts or numbers"
        fix = "add a first line with the column names, such as: prompt,response"
        raise UserError(problem, where=f"{path}:{line}", fix=fix)
    names = [f"Unnamed: {place}" for place in range(len(cells))]
    names[filled[0]] = "prompt"
    return names


def _is_text(cell: str) -> bool:
    """Whether a cell of the first line is a text rather than a column name."""
    cell = cell.strip()
    # above U+2E7F: CJK, where a few characters without spaces make a sentence
    wide = sum(character > "\u2e7f" for character in cell)
    ended = cell.endswith((".", "?", "!", "。", "？", "！", "…", '"', "”"))
    sentence = ended and (len(cell.split()) >= 3 or wide >= 4)
    return sentence or len(cell.split()) >= 6 or wide >= 10 or "\n" in cell


def _has_no_names(cells: list[str]) -> bool:
    """Whether the first line is data: no cell could be a column name."""
    filled = [cell for cell in cells if cell.strip()]
    texts = [cell for cell in filled if _is_text(cell)]
    return bool(texts) and all(
        _is_text(cell) or cell.strip().replace(".", "", 1).isdigit() for cell in filled
    )


def _row(columns: list[str], cells: list[str], line: int) -> Row | BadRow:
    if len(cells) != len(columns):
        problem = f"the row has {len(cells)} cells, but the first line names {len(columns)} columns"
        content = json.dumps(cells[: 2 * len(columns)], ensure_ascii=False)
        return BadRow(line=line, problem=problem, fix=SHAPE, content=content)
    value: dict[str, Json] = {}
    for name, cell in zip(columns, cells, strict=True):
        value[name] = list_in(cell) if name in LISTS else cell
    return Row(line=line, value=value)
