"""Values that a program wrote as text into a cell of a table: JSON, or Python's repr."""

import ast
import io
import json
import tokenize

from alignloop.data.containers.limits import MAX_NESTING, nests_too_deep
from alignloop.data.narrow import Json

MAX_PRINTED = 2**20  # characters of a Python repr; JSON text is bounded by the row's limit
# Columns that hold a list in every format: texts or turns. Texts in other columns stay texts.
LISTS = {"messages", "conversations", "turns", "instances", "history", "answers", "responses"}


def value_in(cell: Json) -> Json:
    """The list or object that a text contains, as JSON or Python's repr; else the cell itself.

    A repr is parsed as literals only, nothing is executed; numpy's, which has no commas, is
    accepted too.
    """
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        found: Json = json.loads(cell)
    except (ValueError, RecursionError):
        found = _printed(cell)
    good = isinstance(found, list | dict) and not nests_too_deep(found)
    return found if good else cell


def _printed(cell: str) -> Json:
    if len(cell) > MAX_PRINTED:
        return None
    try:
        return ast.literal_eval(_with_commas(cell.strip()))
    except (ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, TypeError):
        return None


def _with_commas(cell: str) -> str:
    """The text with a comma between adjacent values; raises ValueError if nested too deep.

    Without it, numpy's ['a' 'b'] would be a single text to Python, 'ab'.
    """
    words: list[str] = []
    depth, ended = 0, False
    for token in tokenize.generate_tokens(io.StringIO(cell).readline):
        if not token.string.strip():
            continue
        opens, closes = token.string in ("[", "{", "("), token.string in ("]", "}", ")")
        is_value = token.type in (tokenize.STRING, tokenize.NUMBER, tokenize.NAME)
        if ended and (opens or is_value):
            words.append(",")
        depth += opens - closes
        if depth > MAX_NESTING:
            raise ValueError("nested too deep")
        words.append(token.string)
        ended = closes or is_value
    return " ".join(words)


def list_in(cell: Json) -> Json:
    """The list that a text contains; anything else unchanged, for the format to refuse."""
    found = value_in(cell)
    return found if isinstance(found, list) else cell
