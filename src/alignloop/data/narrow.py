"""Narrowing JSON values to lists, objects and texts, where a single `isinstance` cannot."""

from collections.abc import Iterable, Mapping
from typing import TypeGuard

from pydantic import JsonValue

Json = JsonValue  # recursive: isinstance narrows it to a list or an object of JSON values
Object = dict[str, Json]


def are_texts(value: Json) -> TypeGuard[list[str]]:
    """Whether this is a list of nothing but texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def are_objects(value: Json) -> TypeGuard[list[Object]]:
    """Whether this is a list of nothing but objects."""
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def objects_in(value: Json) -> list[Object]:
    """The objects in a list; [] for anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def first_text(row: Mapping[str, Json], keys: Iterable[str]) -> str | None:
    """The first text under one of the keys."""
    return next((one for key in keys if isinstance(one := row.get(key), str)), None)


def first_list(row: Mapping[str, Json], keys: Iterable[str]) -> list[Json] | None:
    """The first list under one of the keys."""
    return next((one for key in keys if isinstance(one := row.get(key), list)), None)


# --- keys of a known type, such as those that a format names -------------------------------------


def list_at(row: Mapping[str, Json], key: str) -> list[Json]:
    """The list under a key."""
    value = row[key]
    assert isinstance(value, list), f'"{key}" is known to be a list'
    return value


def object_at(row: Mapping[str, Json], key: str) -> Object:
    """The object under a key."""
    value = row[key]
    assert isinstance(value, dict), f'"{key}" is known to be an object'
    return value


def text_at(row: Mapping[str, Json], key: str) -> str:
    """The text under a key, as it is."""
    value = row[key]
    assert isinstance(value, str), f'"{key}" is known to be a text'
    return value
