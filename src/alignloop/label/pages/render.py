"""Render model output as HTML that is safe to show, and holds every character of the text.

Model text is hostile: it may contain markup, links that pose as ours, and invisible characters.
There are three layers of defence: every character is escaped and every tag is ours, nh3 with a
short allowlist, and the page's content security policy.

Nothing is changed or dropped. Formatting adds tags around the text, and MathML beside a formula's
source. The style sheet hides the marks in `class="marker"` (paired asterisks, backticks, fences and
the frames of tables) and the sources of formulas, unless the reader asks for the text as written.
"""

import logging
from collections.abc import Iterable

import nh3
from markupsafe import Markup

from alignloop.label.pages.blocks import blocks
from alignloop.label.pages.code_colours import COLOURS
from alignloop.label.pages.formulas import MATH_ATTRIBUTES, MATH_TAGS
from alignloop.label.pages.invisible import as_html, escaped, plain_line_ends, show_invisible

__all__ = ["render", "show_invisible"]
logger = logging.getLogger(__name__)

LONGEST_FORMATTED = 20_000  # characters; longer texts are shown without formatting
MOST_TAGS = 10_000  # of a text; with more it is shown without formatting
_SIDES = {"start", "center", "end"}
_TEXT_TAGS = {
    *("p", "h3", "h4", "h5", "h6", "strong", "em", "code", "span", "div"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_SPANS = {"marker", "sign", "link", "address", "language", "hidden-character", "formula", "source"}
_CLASSES = {
    "span": {*_SPANS, "wide", *COLOURS},
    "p": {"blank", "item", "quote", "long"},
    "div": {"table", "code"},
    "th": _SIDES,
    "td": _SIDES,
    "mtd": _SIDES,
    "mrow": {"boxed"},
}
_BLOCK_TAGS = ("p", "h3", "h4", "h5", "h6", "th", "td", "div")
_ATTRIBUTES = {
    **{name: {"dir"} for name in _BLOCK_TAGS},
    # a box that scrolls must be reachable by keyboard
    "span": {"tabindex"},
    **dict.fromkeys(MATH_TAGS, MATH_ATTRIBUTES),
}
_ATTRIBUTES["div"] = {"dir", "tabindex"}


class TooManyTags(Exception):
    """Formatting this text would take too long."""


def render(text: str) -> Markup:
    """A text as safe HTML; too long ones stay unformatted.

    >>> str(render("**Hi** <script>"))
    '<p dir="auto"><strong><span class="marker">**</span>Hi<span class="marker">**</span></strong> \
&lt;script&gt;</p>'
    """
    plain = plain_line_ends(text)
    if len(plain) <= LONGEST_FORMATTED:
        try:
            return Markup(_clean(_joined(plain, blocks(plain))))
        except TooManyTags:
            pass
        except Exception:  # a mistake of ours must not keep a text from being judged
            logger.exception("a text of %d characters could not be formatted", len(plain))
    return Markup(f'<p dir="auto" class="long">{as_html(plain)}</p>')


def _joined(text: str, pieces: Iterable[str]) -> str:
    """The HTML of pieces. Raises ValueError unless their texts, joined, are the text."""
    at = tags = 0
    html: list[str] = []
    for piece in pieces:
        if isinstance(piece, Markup):
            html.append(piece)
            tags += 1
            if tags > MOST_TAGS:
                raise TooManyTags
            continue
        if not text.startswith(piece, at):
            raise ValueError(f"the text changed at {at}")
        html.append(escaped(text, at, at + len(piece)))
        at += len(piece)
    if at != len(text):
        raise ValueError(f"the text ends at {at}")
    return "".join(html)


def _clean(html: str) -> str:
    return nh3.clean(
        html,
        tags=_TEXT_TAGS | MATH_TAGS,
        attributes=_ATTRIBUTES,
        allowed_classes=_CLASSES,
        link_rel=None,
        # no scheme at all: links are rendered as text
        url_schemes=set(),
    )
