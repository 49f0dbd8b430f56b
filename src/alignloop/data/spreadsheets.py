"""Cells that a spreadsheet would execute: guarded in files that we write, restored on reading.

A guarded cell has an apostrophe before it, and the column `GUARDED` of its row names the columns
that have one: so no other file changes, and a text that begins with an apostrophe stays as it is.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

GUARDED = "guarded_cells"
_MARK = "'"
# In East Asia spreadsheets take the full-width forms for formulas too.
_ALWAYS = ("=", "@", "\t", "\r", "＝", "＠")
_SIGNS = ("+", "-", "＋", "－")
# After a sign only a blank and words, as in a list, or a number: no call, reference or pipe.
_HARMLESS = re.compile(r"[-+－＋](\s+[^(|!=@\[\]{}#$'\"]*|[\d.,]+)", re.DOTALL)


def is_executable(cell: str) -> bool:
    """Whether a spreadsheet may take a cell for a formula that calls or refers to something.

    >>> [is_executable(cell) for cell in ("=1+1", "- item", "-2", "- 1+cmd|' /C calc'!A0")]
    [True, False, False, True]
    """
    if cell.startswith(_SIGNS):
        return not _HARMLESS.fullmatch(cell)
    return cell.startswith(_ALWAYS)


def guarded(cells: Mapping[str, str]) -> dict[str, str]:
    """A row in which no cell is executed; the inverse of `restored`."""
    risky = [name for name, cell in cells.items() if is_executable(cell)]
    shown = {name: f"{_MARK}{cell}" if name in risky else cell for name, cell in cells.items()}
    return shown | {GUARDED: json.dumps(risky) if risky else ""}


def restored(row: Mapping[str, str]) -> dict[str, str]:
    """A row as it was before `guarded`; unchanged if it is not one of ours.

    >>> restored({"a": "'=1", "b": "'=1", "guarded_cells": '["a"]'})
    {'a': '=1', 'b': "'=1"}
    """
    listed = row.get(GUARDED)
    if listed is None:
        return dict(row)
    names = _names(listed)
    if names is None:
        return dict(row)
    return {
        name: cell.removeprefix(_MARK) if name in names else cell
        for name, cell in row.items()
        if name != GUARDED
    }


def _names(listed: str) -> list[str] | None:
    """The columns named; None if this is somebody else's column."""
    if not listed:
        return []
    try:
        found: Any = json.loads(listed)
    except ValueError:
        return None
    names = cast("list[Any]", found) if isinstance(found, list) else [None]
    return [str(name) for name in names] if all(isinstance(n, str) for n in names) else None
