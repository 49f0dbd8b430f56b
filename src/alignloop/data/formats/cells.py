"""Conversations that a table holds as texts: their turns, before a format looks at the row.

A conversation in a CSV file, or in a column of strings, is text for whoever wrote the file; read
as a text it would be learnt with its brackets and quotes.
"""

import re

from alignloop.data.containers.cells import LISTS, list_in, value_in
from alignloop.data.formats.dialects import ROLES
from alignloop.data.formats.registry import Refused, Row, shown

_WHO, _WHAT = ("role", "from"), ("content", "value")
_BEGINS = re.compile(
    r"""\s*(?:\[\s*\{\s*["'](?:role|from|content|value)|\{\s*["'](?:role|from))["']"""
)
_TURNS = {"messages", "conversations", "conversation"}


def opened(row: Row, *, strict: bool = True) -> Row:
    """The row with its conversations as turns, where cells hold them as texts.

    A list of a single turn without anything else is its text. With `strict`, a text that begins
    like a conversation and cannot be read as one is refused; without, it is left as it is: in JSON
    it may be what somebody asked. Rows of our own records stay as they are.
    """
    if isinstance(row.get("prompt"), dict):
        return row
    return {
        key: list_in(value) if strict and key in LISTS else _opened(key, value, strict)
        for key, value in row.items()
    }


def _opened(key: str, cell: object, strict: bool) -> object:
    if not isinstance(cell, str) or (not _BEGINS.match(cell) and not _wraps(cell)):
        return cell
    found = value_in(cell)
    if isinstance(found, dict) and len(found) == 1 and _TURNS & found.keys():
        found = next(iter(found.values()))
    if isinstance(found, list) and found and all(_is_turn(one, strict) for one in found):
        return _alone(found)
    if isinstance(found, dict) and _is_turn(found, strict=False):
        return _alone([found])
    if strict and (isinstance(found, str) or _is_columns(found)) and _BEGINS.match(cell):
        raise Refused(
            f'"{key}" begins like a conversation and cannot be read as one: {shown(cell)}',
            "write it as JSON (json.dumps) or as Python prints a list of turns, whole",
        )
    return cell


def _wraps(cell: str) -> bool:
    return cell.lstrip()[:1] == "{" and any(name in cell[:40] for name in _TURNS)


def _is_turn(item: object, strict: bool) -> bool:
    """Whether this is a message; with `strict` of any role, which the format then refuses."""
    if not isinstance(item, dict) or not any(key in item for key in _WHAT):
        return False
    said_by = next((item[key] for key in _WHO if isinstance(item.get(key), str)), None)
    return said_by is not None and (strict or said_by.strip().lower() in ROLES)


def _is_columns(found: object) -> bool:
    return isinstance(found, dict) and any(isinstance(found.get(key), list) for key in _WHO)


def _alone(turns: list[Row]) -> object:
    """One turn that is nothing but role and text is that text, for formats of texts."""
    only = turns[0]
    texts = all(isinstance(value, str) for value in only.values())
    plain = len(turns) == 1 and only.keys() <= {*_WHO, *_WHAT} and texts
    said_by = str(only.get("role", only.get("from"))).strip().lower()
    if not plain or ROLES.get(said_by) not in ("user", "assistant"):
        return turns
    return only.get("content", only.get("value"))
