"""Characters that nobody would see, made visible as their code points."""

import re
import unicodedata
from functools import lru_cache

from markupsafe import Markup, escape

# Controls, format characters and invisible blanks: they reorder, split or hide text.
_CLASS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffc"
    "\ud800-\udfff\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(f"[{_CLASS}]")
_RUN = re.compile(f"[{_CLASS}]+")
_JOINERS = {"\u200c", "\u200d"}
_VIRAMA = 9  # the combining class after which joiners shape Indic letters


def plain_line_ends(text: str) -> str:
    """A text whose line ends are line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def show_invisible(text: str) -> str:
    """Replace invisible characters by their code points; line ends become line feeds.

    Joiners stay where scripts need them: between Arabic letters, after an Indic virama and within
    an emoji (RFC 5892, appendix A.1 and A.2).

    >>> show_invisible("safe\\u202etxt")
    'safe⟦U+202E⟧txt'
    """
    plain = plain_line_ends(text)
    return _RUN.sub(lambda found: "".join(_written(plain, *found.span())), plain)


def escaped(text: str, start: int, end: int) -> str:
    """A part of a text as HTML, with its invisible characters set apart; joiners see the whole."""
    html: list[str] = []
    at = start
    for found in _RUN.finditer(text, start, end):
        written = _written(text, *found.span())
        if written == [found[0]]:
            continue  # a joiner that stays
        html.append(escape(text[at : found.start()]))
        for shown in written:
            kept = shown in _JOINERS
            html.append(shown if kept else f'<span class="hidden-character">{shown}</span>')
        at = found.end()
    return "".join([*html, escape(text[at:end])])


def as_html(text: str) -> Markup:
    """A whole text as HTML without any formatting."""
    plain = plain_line_ends(text)
    return Markup(escaped(plain, 0, len(plain)))


def _written(text: str, start: int, end: int) -> list[str]:
    """What a run of invisible characters is replaced by: code points in one, kept joiners alone."""
    run = text[start:end]
    if _JOINERS.isdisjoint(run):
        return [_codes(run)]
    return [
        one if one in _JOINERS and _joins(text[at - 1 : at], text[at + 1 : at + 2]) else _codes(one)
        for at, one in enumerate(run, start=start)
    ]


def _codes(run: str) -> str:
    return "".join(f"⟦U+{ord(character):04X}⟧" for character in run)


@lru_cache(maxsize=4096)
def _joins(before: str, after: str) -> bool:
    """Whether a joiner between two characters shapes them, rather than hiding text."""
    if not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    arabic = unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    emoji = unicodedata.category(before) in {"So", "Sk"} or before == "\ufe0f"
    return arabic or (emoji and unicodedata.category(after) == "So")
