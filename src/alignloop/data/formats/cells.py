"""Conversations that a table stores as text, parsed before a format sees the row.

In a CSV file, or a column of strings, a conversation is text; trained on as it is, it would include
brackets and quotes.
"""

import re

from alignloop.data.containers.cells import LISTS, list_in, value_in
from alignloop.data.formats.dialects import ROLES
from alignloop.data.formats.registry import Refused, Row, shown
from alignloop.data.narrow import Json, first_text

_WHO, _WHAT = ("role", "from"), ("content", "value")
_MAYBE = re.compile(
    r"""\s*(?:\[\s*)*\{.*?["'](?:role|from|messages|conversations?)["']\s*:""", re.S
)
_BEGINS = re.compile(
    r"""\s*(?:(?:\[\s*)+\{\s*["'](?:role|from|content|value)|\{\s*["'](?:role|from))["']\s*:"""
)
_TURNS = {"messages", "conversations", "conversation"}


def opened(row: Row, *, strict: bool = True) -> Row:
    """The row with conversations as turns, if cells store them as text.

    A single turn with nothing but a text becomes that text. With `strict`, a text that begins like
    a conversation and cannot be parsed is refused; without, it is left alone: in JSON it may be
    someone's question. Rows of our own records stay as they are.
    """
    if isinstance(row.get("prompt"), dict):
        return row
    return {
        key: list_in(value) if strict and key in LISTS else _opened(key, value, strict)
        for key, value in row.items()
    }


def _opened(key: str, cell: Json, strict: bool) -> Json:
    if not isinstance(cell, str) or not (_MAYBE.match(cell) or _BEGINS.match(cell)):
        return cell
    found = _unwrapped(value_in(cell))
    turns: list[Json] = found if isinstance(found, list) else [found]
    if turns and all(_is_turn(one, strict and isinstance(found, list)) for one in turns):
        return turns if key in LISTS else _alone(turns)
    if strict and _BEGINS.match(cell) and (isinstance(found, str | list) or _is_columns(found)):
        raise Refused(
            f'"{key}" starts like a conversation but cannot be parsed: {shown(cell)}',
            "write it as JSON (json.dumps) or as Python prints a list of turns, complete",
        )
    return cell


def _unwrapped(found: Json) -> Json:
    """Unwrap {"messages": [...]} and [[...]]; turn an object of lists into its turns."""
    if isinstance(found, dict) and len(found) == 1 and _TURNS & found.keys():
        return next(iter(found.values()))
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], list):
        return found[0]
    if isinstance(found, dict) and _is_columns(found):
        lists = [one for one in found.values() if isinstance(one, list)]
        if len(lists) == len(found) and all(len(one) == len(lists[0]) for one in lists):
            return [dict(zip(found, values, strict=True)) for values in zip(*lists, strict=True)]
    return found


def _is_turn(item: Json, strict: bool) -> bool:
    """Whether this is a message; with `strict` of any role, which the format then refuses."""
    if not isinstance(item, dict) or not any(key in item for key in _WHAT):
        return False
    role = first_text(item, _WHO)
    return role is not None and (strict or role.strip().lower() in ROLES)


def _is_columns(found: Json) -> bool:
    return isinstance(found, dict) and any(isinstance(found.get(key), list) for key in _WHO)


def _alone(turns: list[Json]) -> Json:
    """Unwrap a single turn of nothing but role and text, for formats of texts."""
    only = turns[0]
    assert isinstance(only, dict), "turns are objects"
    texts = all(isinstance(value, str) for value in only.values())
    plain = len(turns) == 1 and only.keys() <= {*_WHO, *_WHAT} and texts
    role = str(only.get("role", only.get("from"))).strip().lower()
    if not plain or ROLES.get(role) not in ("user", "assistant"):
        return turns
    return only.get("content", only.get("value"))
