"""Render model output as HTML that is safe to show and hides nothing.

Model text is hostile: it may contain markup, links that pose as ours, and invisible characters.
There are three layers of defence: markdown-it with raw HTML turned off, nh3 with a short allowlist,
and the page's content security policy. Content is never changed silently: an image becomes its
description and address, a link shows its target, an invisible character its code point.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, cast

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

LONGEST_MARKDOWN = 20_000  # characters
_MOST_BRACKETS = 2_000  # each starts a search for a link through the rest of the text: quadratic
_DEEPEST = 60  # levels of lists and quotations; the parser drops text below level 100
_TEXT_TAGS = {"p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote"}
_BOX_TAGS = {"ul", "ol", "li", "pre", "code", "span", "div"}
_TABLE_TAGS = {"table", "thead", "tbody", "tr", "th", "td"}
_CLASSES = {
    "span": {"link", "address", "image", "language", "hidden-character"},
    "div": {"table"},
    "th": {"start", "center", "end"},
    "td": {"start", "center", "end"},
}
# A box that scrolls must be reachable by keyboard.
_FIXED = {"pre": {"tabindex": "0"}, "div": {"tabindex": "0"}}

# Controls, format characters and invisible blanks: they reorder, split or hide text.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffc"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_SHOWN = re.compile(r"⟦U\+[0-9A-F]{4,6}⟧")
_JOINERS = {"\u200c", "\u200d"}
_VIRAMA = 9  # the combining class after which joiners shape Indic letters


def render(text: str) -> Markup:
    """Markdown as safe HTML for an answer or a prompt; too long or deep texts stay unformatted.

    >>> str(render("**Hi** <script>").strip())
    '<p><strong>Hi</strong> &lt;script&gt;</p>'
    """
    visible = show_invisible(text)
    if len(visible) > LONGEST_MARKDOWN or visible.count("[") > _MOST_BRACKETS:
        return _as_written(visible)
    env: dict[str, Any] = {}
    tokens = _MARKDOWN.parse(visible, env)
    if max((token.level for token in tokens), default=0) > _DEEPEST:
        return _as_written(visible)
    clean = nh3.clean(
        cast(str, _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, env)),
        tags=_TEXT_TAGS | _BOX_TAGS | _TABLE_TAGS,
        attributes={"ol": {"start"}},
        allowed_classes=_CLASSES,
        set_tag_attribute_values=_FIXED,
        link_rel=None,
        # no scheme at all: links are rendered as text
        url_schemes=set(),
    )
    return _mark(clean)


def show_invisible(text: str) -> str:
    """Replace invisible characters by their code points; line ends become line feeds.

    Joiners stay where scripts need them: between Arabic letters, after an Indic virama and within
    an emoji (RFC 5892, appendix A.1 and A.2).

    >>> show_invisible("safe\\u202etxt")
    'safe⟦U+202E⟧txt'
    """
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub(lambda found: _written(plain, found.start()), plain)


def _written(text: str, at: int) -> str:
    """The replacement of one invisible character."""
    character = text[at]
    if character in _JOINERS and _joins(text[at - 1 : at], text[at + 1 : at + 2]):
        return character
    return f"⟦U+{ord(character):04X}⟧"


def _joins(before: str, after: str) -> bool:
    """Whether a joiner between two characters shapes them, rather than hiding text."""
    if not before or not after:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    arabic = unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    emoji = unicodedata.category(before) in {"So", "Sk"} or before == "\ufe0f"
    return arabic or (emoji and unicodedata.category(after) == "So")


def _as_written(text: str) -> Markup:
    """Text without any formatting."""
    return _mark(f'<pre tabindex="0"><code>{escape(text)}</code></pre>')


def _mark(html: str) -> Markup:
    """Mark up the code points of invisible characters.

    The pattern has no special HTML characters, and the only attribute with foreign content, `start`
    of a list, is a number, so a match never splits a tag.
    """
    return Markup(_SHOWN.sub(r'<span class="hidden-character">\g<0></span>', html))


class _Renderer(RendererHTML):
    """HTML of the few tokens that we render differently."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A link is rendered as its words, without a target."""
        token = tokens[idx]
        title = str(token.attrs.get("title", ""))
        address = str(token.attrs.get("href", ""))
        env.setdefault("links", []).append(f"{address} {title}".rstrip())
        return '<span class="link">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Append the link's address, unless its words are the address."""
        address = env["links"].pop()
        words = tokens[idx - 1].content
        shown = tokens[idx].info == "auto" or words == address
        return "</span>" if shown else f'</span> <span class="address">{escape(address)}</span>'

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """An image is never loaded; show its description and address."""
        token = tokens[idx]
        words = escape(self.renderInlineAsText(token.children, options, env))
        address = escape(str(token.attrs.get("src", "")))
        return f'<span class="image">{words} <span class="address">{address}</span></span>'

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Code, with its fence's language."""
        token = tokens[idx]
        info = f'<span class="language">{escape(token.info.strip())}</span>' if token.info else ""
        return f'<pre tabindex="0">{info}<code>{escape(token.content)}</code></pre>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A wide table scrolls in a separate box."""
        return '<div class="table"><table>'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """The end of that box."""
        return "</table></div>\n"


def _lower_headings(tokens: list[Token]) -> None:
    """Headings of a text rank below those of the page: h1 becomes h3."""
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"


def _align_by_class(tokens: list[Token]) -> None:
    """Align cells by class: the page's policy forbids style attributes."""
    names = {"text-align:left": "start", "text-align:center": "center", "text-align:right": "end"}
    for token in tokens:
        style = token.attrs.pop("style", None)
        if style:
            token.attrs["class"] = names.get(str(style), "start")


def _make_markdown() -> MarkdownIt:
    """CommonMark with tables, without raw HTML; line breaks are kept."""
    markdown = MarkdownIt("js-default", {"breaks": True}, renderer_cls=_Renderer)

    def adapt(state: Any) -> None:
        _lower_headings(state.tokens)
        _align_by_class(state.tokens)

    markdown.core.ruler.push("adapt", adapt)
    return markdown


_MARKDOWN = _make_markdown()
