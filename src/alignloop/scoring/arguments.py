"""Arguments of a reward function, matched by parameter name to fields of the prompts."""

import copy
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from alignloop.data.narrow import are_texts
from alignloop.errors import UserError
from alignloop.records import Prompt

TAKES = "prompts and responses (lists of str), or answer and reference (of one row)"
RECORD = ("prompt_id", "messages", "tools", "source", "category", "language")
_GIVE = "give each row one (docs/data.md lists the column names), or one for all rows: NAME(TEXT)"
_LISTED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class MissingError(Exception):
    """A row lacks an argument of the function; `index` is the row's."""

    def __init__(self, problem: str, index: int, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.index, self.fix = problem, index, fix


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters by name; {} for C functions without a signature."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}


def check_parameters(function: Callable[..., Any], name: str) -> None:
    """Raise UserError if a function cannot be called with the available arguments."""
    declared = parameters(function)
    try:
        if declared and not by_row(function):
            inspect.signature(function).bind([], [], **dict.fromkeys(_named(declared)))
    except TypeError:
        takes = f"it takes {inspect.signature(function)}"
        raise UserError(takes, where=name, fix=f"let it take {TAKES}") from None


def by_row(function: Callable[..., Any]) -> bool:
    """Whether it takes one answer with its reference or references, rather than lists of rows."""
    return tuple(parameters(function)) in (("answer", "reference"), ("answer", "references"))


def score_by_row(
    function: Callable[..., Any],
    prompts: Sequence[Prompt],
    responses: Sequence[str],
    text: str | None,
) -> list[Any]:
    """The score of each row: the best over its references, or that for all of them together.

    Raises MissingError for a row without a reference.
    """
    together = "references" in parameters(function)
    found: list[Any] = []
    for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        references = references_of(prompt, index, text)
        each: list[Any] = [references] if together else list(references)
        found.append(max(function(response, one) for one in each))
    return found


def references_of(prompt: Prompt, index: int, text: str | None) -> tuple[str, ...]:
    """The references of a row, or those in `text` for all rows: one, or a JSON list."""
    found = prompt.references if text is None else _texts(text)
    if not found:
        raise MissingError("there is no reference to check the answer against", index, _GIVE)
    return found


def _texts(text: str) -> tuple[str, ...]:
    try:
        found: JsonValue = json.loads(text)
    except ValueError:
        return (text,)
    return tuple(found) if are_texts(found) else (text,)


def named_lists(
    function: Callable[..., Any], prompts: Sequence[Prompt], text: str | None
) -> dict[str, list[Any]]:
    """Arguments for the parameters after the first two, each a list in row order.

    `references` and `metadata`, fields of the record, otherwise keys of the metadata; **kwargs gets
    all metadata, as in TRL. Raises MissingError if a row lacks a key and the parameter has no
    default.
    """
    declared = parameters(function)
    found = {name: _list(name, prompts, text, declared[name].default) for name in _named(declared)}
    if any(one.kind is one.VAR_KEYWORD for one in declared.values()):
        keys = dict.fromkeys(key for prompt in prompts for key in prompt.metadata)
        for name in ("references", "metadata", *keys):
            found.setdefault(name, _list(name, prompts, text, None))
    return {name: values for name, values in found.items() if values is not None}


def _named(declared: Mapping[str, inspect.Parameter]) -> list[str]:
    """Parameters beyond prompts and responses that can be given by name."""
    positional = [one for one in declared.values() if one.kind is not one.KEYWORD_ONLY][:2]
    return [name for name, one in declared.items() if one.kind in _LISTED and one not in positional]


def _list(name: str, prompts: Sequence[Prompt], text: str | None, default: Any) -> list[Any] | None:
    """The values for a name; None if the parameter's default applies to all rows."""
    if name == "references":
        given = [prompt.reference if text is None else text for prompt in prompts]
        return [list(one) if isinstance(one, tuple) else one for one in given]
    if name == "metadata":
        return [copy.deepcopy(prompt.metadata) for prompt in prompts]
    if name in RECORD:
        return [prompt.model_dump(mode="json", include={name}).get(name, []) for prompt in prompts]
    rows = [prompt.metadata for prompt in prompts]
    required = default is inspect.Parameter.empty
    for index, row in enumerate(rows):
        if required and name not in row:
            problem = f"the reward function needs {name!r}, which the prompt's metadata lacks"
            fix = f"give each row a column {name!r}, or the parameter a default"
            raise MissingError(problem, index, fix)
    if not required and not any(name in row for row in rows):
        return None
    return [copy.deepcopy(row.get(name, default)) for row in rows]
