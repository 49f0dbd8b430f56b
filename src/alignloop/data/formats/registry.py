"""What a format is, and how a row finds its own: by its keys and the types under them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from alignloop.errors import UserError

Row = dict[str, Any]
Kind = Literal["pairs", "labels", "demonstrations", "prompts", "texts"]
Type = type | tuple[type, ...]
Read = Callable[[Row, str], list[Any]]
ReadType = TypeVar("ReadType", bound=Read)

KINDS: tuple[Kind, ...] = ("pairs", "labels", "demonstrations", "prompts", "texts")
_WORDS = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a number"}


class Refused(Exception):
    """One row cannot be used; the reader adds the file and the line."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


@dataclass(frozen=True, kw_only=True)
class Format:
    """A row with these keys of these types is read by this function of (row, source).

    `fits` tells more than types can, such as which words a text has to hold.
    """

    name: str
    kind: Kind
    keys: Mapping[str, Type]
    read: Read
    fits: Callable[[Row], object] | None = None

    def holds(self, row: Row) -> bool:
        """Whether the row is of this format."""
        typed = all(isinstance(row.get(key), kind) for key, kind in self.keys.items())
        return typed and (self.fits is None or bool(self.fits(row)))

    def described(self) -> str:
        """Name and keys: "chatterbot {topic, turns}"."""
        return f"{self.name} {{{', '.join(self.keys)}}}"


FORMATS: list[Format] = []


def register(
    kind: Kind, name: str, keys: Mapping[str, Type], fits: Callable[[Row], object] | None = None
) -> Callable[[ReadType], ReadType]:
    """The decorator that makes a format of a function; of two that fit, the earlier one reads."""

    def made(read: ReadType) -> ReadType:
        FORMATS.append(Format(name=name, kind=kind, keys=keys, read=read, fits=fits))
        return read

    return made


def pairs(name: str, fits: Any = None, **keys: Type) -> Callable[[ReadType], ReadType]:
    """A format of preference pairs: `read` gives a list of PreferencePair."""
    return register("pairs", name, keys, fits)


def labels(name: str, fits: Any = None, **keys: Type) -> Callable[[ReadType], ReadType]:
    """A format of single responses that are good or bad: `read` gives a list of Labelled."""
    return register("labels", name, keys, fits)


def demonstrations(name: str, fits: Any = None, **keys: Type) -> Callable[[ReadType], ReadType]:
    """A format of demonstrations: `read` gives a list of Demonstration."""
    return register("demonstrations", name, keys, fits)


def prompts(name: str, fits: Any = None, **keys: Type) -> Callable[[ReadType], ReadType]:
    """A format of prompts alone: `read` gives a list of Prompt."""
    return register("prompts", name, keys, fits)


def formats_named(name: str | None, kinds: Sequence[Kind]) -> list[Format]:
    """The formats of these kinds, in the order of the kinds; only those of a name if it is given.

    Raises UserError for a name that nobody knows, or that holds something else.
    """
    usable = [format_ for kind in kinds for format_ in FORMATS if format_.kind == kind]
    if name is None:
        return usable
    known = sorted({format_.name for format_ in usable})
    if name not in known:
        others = sorted({format_.kind for format_ in FORMATS if format_.name == name})
        problem = f'the format "{name}" holds {" and ".join(others)}, not {kinds[0]}'
        raise UserError(
            problem if others else f'there is no format named "{name}"',
            where="--format, or the setting `format` of a stage",
            fix=f"choose one of: {', '.join(known)}",
        )
    return [format_ for format_ in usable if format_.name == name]


def recognise(row: Row, formats: Sequence[Format]) -> Format:
    """The first of the formats that the row is of; raises Refused, saying what is missing."""
    for format_ in formats:
        if format_.holds(row):
            return format_
    complete = [format_ for format_ in formats if format_.keys and set(format_.keys) <= set(row)]
    if wrong := [(format_, keys) for format_ in complete if (keys := _wrong_keys(format_, row))]:
        raise _wrong_type(row, *min(wrong, key=lambda pair: len(pair[1])))
    keys = f"the keys here ({', '.join(map(str, row))[:200] or 'none'})"
    kinds = {format_.kind for format_ in formats}
    other = next((f for f in FORMATS if f.kind not in kinds and f.holds(row)), None)
    if other is not None:
        both = f"{other.kind}, not {formats[0].kind}"
        missing = f"a key is missing: {keys} are those of {both}"
        raise Refused(
            f"this row holds {both}" if complete else missing,
            f"read the file as {other.kind} ({other.name}), or name another file",
        )
    known = "; ".join(dict.fromkeys(format_.described() for format_ in formats))
    raise Refused(
        f"a key is missing: {keys} fit no known format",
        f"use the keys of one of the known formats: {known}",
    )


def _wrong_keys(format_: Format, row: Row) -> list[str]:
    return [key for key, kind in format_.keys.items() if not isinstance(row[key], kind)]


def _wrong_type(row: Row, best: Format, keys: Sequence[str]) -> Refused:
    """All keys are there, one holds the wrong thing: complain by the format that fits best."""
    kind = best.keys[keys[0]]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    words = " or ".join(_WORDS.get(one, one.__name__) for one in kinds)
    return Refused(
        f'"{keys[0]}" is {shown(row[keys[0]])}', f'make "{keys[0]}" {words}, or remove the row'
    )


def shown(value: object) -> str:
    """A value of a row in at most 40 characters."""
    return json.dumps(value, ensure_ascii=False, default=str)[:40]
