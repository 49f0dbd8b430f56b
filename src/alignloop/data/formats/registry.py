"""Formats, and how a row is matched to one: by its keys and their types."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar, cast

from alignloop.data.formats.columns import NOTHING_SEEN, Columns
from alignloop.data.formats.made import Made, Unjudged
from alignloop.data.narrow import Object
from alignloop.errors import UserError

Row = Object
Kind = Literal["pairs", "labels", "questions", "demonstrations", "prompts", "texts"]
Type = type | tuple[type, ...]
Read = Callable[[Row, str], Sequence[Made]] | Callable[[Row, str, Columns], Sequence[Made]]
ReadQuestions = Callable[[Row, str], list[Unjudged]]
Fits = Callable[[Row], object] | Callable[[Row, Columns], object]
Result = TypeVar("Result")
ReadType = TypeVar("ReadType", bound=Read)

_CALLED = {"questions": "answers that nobody has judged"}
# What learns from files; questions are only filed for labelling.
KINDS: tuple[Kind, ...] = ("pairs", "labels", "demonstrations", "prompts", "texts")
_WORDS = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a number"}


class Refused(Exception):
    """A row that cannot be used; the reader adds file and line."""

    whole_file = False

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


class RefusedFile(Refused):
    """The meaning of a column is unclear, so no row of the file can be used."""

    whole_file = True


@dataclass(frozen=True, kw_only=True)
class Format:
    """Rows with these keys of these types are read by this function of (row, source).

    `fits` checks more than types, such as which words a text contains. Both may also take the
    table's `columns`, the facts from a first pass over all rows. A `named_only` format is used only
    if the user names it.
    """

    name: str
    kind: Kind
    keys: Mapping[str, Type]
    reader: Read
    fits: Fits | None = None
    named_only: bool = False

    def holds(self, row: Row, columns: Columns = NOTHING_SEEN) -> bool:
        """Whether the row has this format."""
        return self.has_keys(row) and (
            self.fits is None or bool(_call(self.fits, row, columns=columns))
        )

    def has_keys(self, row: Row) -> bool:
        """Whether the row has the format's keys with the right types, whatever is in them."""
        return all(isinstance(row.get(key), kind) for key, kind in self.keys.items())

    def read(self, row: Row, source: str, columns: Columns = NOTHING_SEEN) -> Sequence[Made]:
        """The records of a row of this format; raises Refused."""
        return _call(self.reader, row, source, columns=columns)

    def described(self) -> str:
        """Name and keys: "chatterbot {topic, turns}"."""
        return f"{self.name} {{{', '.join(self.keys)}}}"


@cache
def _wants_columns(function: Callable[..., object]) -> bool:
    return "columns" in inspect.signature(function).parameters


def _call(function: Callable[..., Result], *given: object, columns: Columns) -> Result:
    """Pass the columns only if the function has a parameter of that name."""
    return function(*given, columns) if _wants_columns(function) else function(*given)


FORMATS: list[Format] = []


def register(
    kind: Kind,
    name: str,
    keys: Mapping[str, Type],
    fits: Fits | None = None,
    named_only: bool = False,
) -> Callable[[ReadType], ReadType]:
    """Decorator that registers a function as a format; if two fit, the earlier one is used."""

    def made(read: ReadType) -> ReadType:
        format_ = Format(
            name=name, kind=kind, keys=keys, reader=read, fits=fits, named_only=named_only
        )
        FORMATS.append(format_)
        return read

    return made


def pairs(
    name: str, fits: Fits | None = None, named_only: bool = False, **keys: Type
) -> Callable[[ReadType], ReadType]:
    """A format of preference pairs: `read` returns a list of PreferencePair."""
    return register("pairs", name, keys, fits, named_only)


def labels(
    name: str, fits: Fits | None = None, named_only: bool = False, **keys: Type
) -> Callable[[ReadType], ReadType]:
    """A format of single responses that are good or bad: `read` returns a list of Labelled."""
    return register("labels", name, keys, fits, named_only)


def demonstrations(
    name: str, fits: Fits | None = None, named_only: bool = False, **keys: Type
) -> Callable[[ReadType], ReadType]:
    """A format of demonstrations: `read` returns a list of Demonstration."""
    return register("demonstrations", name, keys, fits, named_only)


def prompts(
    name: str, fits: Fits | None = None, named_only: bool = False, **keys: Type
) -> Callable[[ReadType], ReadType]:
    """A format of prompts alone: `read` returns a list of Prompt."""
    return register("prompts", name, keys, fits, named_only)


def questions(
    name: str, fits: Fits | None = None, named_only: bool = False, **keys: Type
) -> Callable[[ReadQuestions], ReadQuestions]:
    """A format of answers that nobody has judged: `read` returns a list of Unjudged."""

    def made(read: ReadQuestions) -> ReadQuestions:
        # no record: only `label import` asks for this kind, and knows what it gets
        register("questions", name, keys, fits, named_only)(cast("Read", read))
        return read

    return made


def formats_named(name: str | None, kinds: Sequence[Kind]) -> list[Format]:
    """The formats of these kinds, in the order of the kinds; only those of a name if it is given.

    Raises UserError for an unknown name, or one of another kind.
    """
    usable = [format_ for kind in kinds for format_ in FORMATS if format_.kind == kind]
    if name is None:
        return [format_ for format_ in usable if not format_.named_only]
    known = sorted({format_.name for format_ in usable})
    if name not in known:
        others = sorted({format_.kind for format_ in FORMATS if format_.name == name})
        problem = f'the format "{name}" contains {" and ".join(others)}, not {kinds[0]}'
        raise UserError(
            problem if others else f'no format is named "{name}"',
            where="--format, or the setting `format` of a stage",
            fix=f"choose one of: {', '.join(known)}",
        )
    return [format_ for format_ in usable if format_.name == name]


def recognise(row: Row, formats: Sequence[Format], columns: Columns = NOTHING_SEEN) -> Format:
    """The first of the formats that fits the row; raises Refused, saying what is missing."""
    for format_ in formats:
        if format_.holds(row, columns):
            return format_
    # a known layout with one wrong type gets the more precise message
    complete = [format_ for format_ in formats if format_.keys and set(format_.keys) <= set(row)]
    if wrong := [(format_, keys) for format_ in complete if (keys := _wrong_keys(format_, row))]:
        raise _wrong_type(row, *min(wrong, key=lambda pair: len(pair[1])))
    keys = f"the keys here ({', '.join(map(str, row))[:200] or 'none'})"
    kinds = {format_.kind for format_ in formats}
    others = (f for f in FORMATS if f.kind not in kinds and not f.named_only)
    other = next((f for f in others if f.holds(row, columns)), None)
    if other is not None:
        both = f"{_CALLED.get(other.kind, other.kind)}, not {formats[0].kind}"
        missing = f"a key is missing: {keys} are those of {both}"
        raise Refused(
            f"this row contains {both}" if complete else missing,
            f"read the file as {other.kind} ({other.name}), or use another file",
        )
    known = "; ".join(dict.fromkeys(format_.described() for format_ in formats))
    raise Refused(
        f"a key is missing: {keys} fit no known format",
        f"use the keys of one of the known formats: {known}",
    )


def _wrong_keys(format_: Format, row: Row) -> list[str]:
    return [key for key, kind in format_.keys.items() if not isinstance(row[key], kind)]


def _wrong_type(row: Row, best: Format, keys: Sequence[str]) -> Refused:
    """All keys exist, but one has the wrong type: complain by the format that fits best."""
    kind = best.keys[keys[0]]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    words = " or ".join(_WORDS.get(one, one.__name__) for one in kinds)
    return Refused(
        f'"{keys[0]}" is {shown(row[keys[0]])}', f'make "{keys[0]}" {words}, or remove the row'
    )


def shown(value: object) -> str:
    """A value of a row in at most 40 characters."""
    return json.dumps(value, ensure_ascii=False, default=str)[:40]
