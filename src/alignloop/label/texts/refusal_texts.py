"""Refusals in the reader's language; the store itself uses English."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import Request

from alignloop.label.texts.i18n import Locale, choose


def asked_locale(request: Request) -> Locale:
    """The language of a request's Accept-Language header; our pages send theirs."""
    return choose(accepted=request.headers.get("accept-language", ""))


def translated(text: str, locale: Locale) -> str:
    """A problem or fix in this language; in English if there is no translation.

    >>> translated("a password has 10 to 200 characters", "zh")
    '密码需为 10 到 200 个字符。'
    """
    if locale == "en" or not text:
        return text
    for pattern, words in _patterns():
        if found := pattern.fullmatch(text):
            return words.format(*found.groups())
    return text


def words() -> Mapping[str, str]:
    """The Chinese of each problem and fix; {} stands for inserted values."""
    path = files("alignloop.label.texts") / "catalogue" / "refusals.zh.json"
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The texts as patterns, longest first: the most specific match wins."""
    found = sorted(words().items(), key=lambda entry: -len(entry[0]))
    return [
        (re.compile("(.+?)".join(map(re.escape, text.split("{}"))), re.DOTALL), chinese)
        for text, chinese in found
    ]
