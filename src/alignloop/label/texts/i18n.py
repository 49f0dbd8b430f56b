"""The pages' texts in each language: `Texts("zh")("progress.done", n=3)`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Literal

Locale = Literal["en", "zh"]
LOCALES: tuple[Locale, ...] = ("en", "zh")
TAGS: dict[Locale, str] = {"en": "en", "zh": "zh-CN"}  # values of the lang attribute
NAMES: dict[Locale, str] = {"en": "English", "zh": "中文"}
SCRIPT = "js."  # keys that the page's script needs
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
Entry = str | dict[str, str]


@cache
def catalogue(locale: Locale) -> Mapping[str, Entry]:
    """All texts of one language by key; an entry with plural forms is a dictionary."""
    path = files("alignloop.label.texts") / "catalogue" / f"{locale}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def choose(*wishes: str | None, accepted: str = "") -> Locale:
    """The first supported wish, then the browser's languages in order, then English.

    >>> choose(None, accepted="fr;q=0.9, zh-CN, en")
    'zh'
    """
    for wish in [*wishes, *(part.split(";")[0].strip() for part in _ranked(accepted))]:
        for locale in LOCALES:
            if wish and wish.lower().split("-")[0] == locale:
                return locale
    return "en"


def other_than(locale: Locale) -> Locale:
    """The language to switch to."""
    return "zh" if locale == "en" else "en"


def _ranked(accepted: str) -> list[str]:
    """The parts of an Accept-Language header, by descending weight."""

    def weight(part: str) -> float:
        found = re.search(r";\s*q=([01](?:\.\d{1,3})?)\s*$", part)
        return -float(found.group(1)) if found else -1.0

    return sorted(accepted.split(","), key=weight)


@dataclass(frozen=True)
class Texts:
    """Words, numbers and times of one language."""

    locale: Locale

    @property
    def tag(self) -> str:
        """The value of the page's lang attribute."""
        return TAGS[self.locale]

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with its placeholders filled; `n` chooses the form of a count.

        Raises `KeyError` for a missing key or placeholder: no page shows a raw key.
        """
        entry = catalogue(self.locale)[key]
        if isinstance(entry, dict):
            singular = values["n"] == 1 and "one" in entry
            entry = entry["one" if singular else "other"]
        shown = {name: self._shown(value) for name, value in values.items()}
        return _PLACEHOLDER.sub(lambda found: shown[found.group(1)], entry)

    def has(self, key: str) -> bool:
        """Whether this text exists."""
        return key in catalogue(self.locale)

    def raw(self, key: str) -> str:
        """A text with unfilled placeholders, for the script."""
        entry = catalogue(self.locale)[key]
        assert isinstance(entry, str), key
        return entry

    def script(self) -> dict[str, Entry]:
        """The script's texts, by key without the prefix."""
        texts = catalogue(self.locale).items()
        return {key.removeprefix(SCRIPT): text for key, text in texts if key.startswith(SCRIPT)}

    def label(self, label: str) -> str:
        """A label of agreement: an index in an item's content order ("0"), or a verdict."""
        return self("label.answer", n=int(label) + 1) if label.isdigit() else self(f"label.{label}")

    def number(self, value: float | None, digits: int = 0) -> str:
        """A number with thousands separators; a dash if None, ∞ for an open end."""
        if value is None:
            return "–"
        return f"{value:,.{digits}f}".replace("inf", "∞")

    def percent(self, value: float | None, digits: int = 0) -> str:
        """A share in percent."""
        gap = {"en": " ", "zh": ""}[self.locale]
        return "–" if value is None else f"{100 * value:.{digits}f}{gap}%"

    def seconds(self, value: float | None) -> str:
        """A duration: seconds below a minute and a half, then minutes."""
        if value is None:
            return "–"
        minutes = {"en": "min", "zh": "分"}[self.locale]
        return f"{value:.0f}" if value < 90 else f"{value / 60:.1f} {minutes}"

    def time(self, value: datetime | None) -> str:
        """A time to the minute, in UTC as in the database."""
        return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"

    def date(self, value: datetime | None) -> str:
        """A day."""
        return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d}"

    def _shown(self, value: object) -> str:
        return self.number(value) if isinstance(value, int) else str(value)
