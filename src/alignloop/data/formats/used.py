"""Which keys of a row a format read: the others are reported, never dropped silently."""

import re
from collections.abc import Iterable, Iterator, Mapping

from alignloop.data.formats.registry import Row
from alignloop.data.narrow import Json

_MARKS_OF_FORM = {"type", "role", "from", "id"}  # of turns and parts: structure, not content
_ONLY_A_NAME = re.compile(
    r"(.*_)?(id|ids|idx|index|uuid|hash|created_at|updated_at|timestamp)", re.I
)


class Watched(Row):
    """A row that records which of its keys are read, including keys of nested objects.

    `row[key]` and `row.get(key)` read a key, `items()`, `values()` and `{**row}` all of them;
    looking at keys alone reads nothing. `used` contains (top key, key), with ("", key) for the
    row's own.
    """

    def __init__(self, row: Mapping[str, Json], used: set[tuple[str, str]], top: str = "") -> None:
        super().__init__(row)
        self._used, self._top = used, top

    def __getitem__(self, key: str) -> Json:
        value = super().__getitem__(key)
        self._used.add((self._top, key))
        return _watched(value, self._used, self._top or key)

    # get, items and values give plain values, which is all that formats ask of them
    def get(self, key: str, default: Json = None) -> Json:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The value, which counts as read; the default if there is none."""
        return self[key] if key in self else default  # noqa: SIM401 (this is get)

    def __iter__(self) -> Iterator[str]:  # so that {**row} reads each key
        return super().__iter__()

    def items(self) -> list[tuple[str, Json]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All keys and values, which count as read."""
        return [(key, self[key]) for key in self]

    def values(self) -> list[Json]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All values, which count as read."""
        return [self[key] for key in self]

    def __or__(self, other: Mapping[str, Json]) -> "Watched":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same row with other values, still watched."""
        # dict.items, since {**self} and even dict.copy(self) would read each key of this subclass
        return Watched({**dict(Row.items(self)), **other}, self._used, self._top)


def _watched(value: Json, used: set[tuple[str, str]], top: str) -> Json:
    if isinstance(value, dict):
        return Watched(value, used, top)
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [_watched(item, used, top) for item in value]
    return value


def unread_in(row: Row, used: set[tuple[str, str]]) -> list[str]:
    """The non-empty keys that were not read: "tools", "tool_calls in messages".

    An object of which no single key was read was used as a whole.
    """
    found: list[str] = []
    for key, value in row.items():
        if ("", key) not in used:
            found += [] if _says_nothing(value) else [str(key)]
            continue
        inside = {name for top, name in used if top == key}
        if inside:
            found += [f"{name} in {key}" for name in dict.fromkeys(_unread_within(value, inside))]
    return found


def _unread_within(value: Json, read: set[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _unread_within(item, read)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in read:
                yield from _unread_within(item, read)
            elif name not in _MARKS_OF_FORM and not _says_nothing(item):
                yield name


def _says_nothing(value: Json) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def in_words(unread: Mapping[str, int], rows: int) -> str:
    """ "tools, images in 6 of 6 rows; weight in messages in 2 of 6 rows"."""
    by_count: dict[int, list[str]] = {}
    for name, count in unread.items():
        by_count.setdefault(count, []).append(name)
    return "; ".join(
        f"{', '.join(names)} in {count} of {rows} rows"
        for count, names in sorted(by_count.items(), reverse=True)
    )


def but_names(unread: Iterable[str]) -> list[str]:
    """Those that may have content: a row's id is nothing to train on."""
    return [name for name in unread if not _ONLY_A_NAME.fullmatch(name)]
