"""What the server refuses, in the reader's language: the store itself speaks English alone."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import Request

from alignloop.label.texts.i18n import Locale, choose


def asked_locale(request: Request) -> Locale:
    """The language that a request asks for. Our pages name theirs; programs say nothing."""
    return choose(accepted=request.headers.get("accept-language", ""))


def translated(text: str, locale: Locale) -> str:
    """A problem or a piece of advice in this language; in English where nobody has translated it.

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
    """The Chinese of each problem and advice; {} stands for what the server fills in."""
    path = files("alignloop.label.texts") / "catalogue" / "refusals.zh.json"
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The texts as patterns, the longest first: the more of it is fixed, the better it fits."""
    found = sorted(words().items(), key=lambda entry: -len(entry[0]))
    return [
        (re.compile("(.+?)".join(map(re.escape, text.split("{}"))), re.DOTALL), chinese)
        for text, chinese in found
    ]
