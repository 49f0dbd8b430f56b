"""Formatting within a paragraph: bold, italic, code, links and formulas.

A piece is text (`str`) or a tag (`Markup`). The texts of all pieces, joined, are the input.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup

from alignloop.label.pages.formulas import Formulas

Pieces = list[str]
_DEEPEST = 6  # bold within italic within bold ...
# Each alternative stops at the next mark of its own kind, so that no text takes quadratic time.
_TOKEN = re.compile(
    r"""
    (?P<formula>
        \\\((?:[^\\]|\\[^()\[\]])+?\\\)
      | \\\[(?:[^\\]|\\[^()\[\]])+?\\\]
      | (?<![\w$\\])\$\$(?:[^$\\]|\\.)+?\$\$(?![\w$])
      | (?<![\w$\\])\$(?![\s$])(?:[^$\\\n]|\\.)+?(?<!\s)\$(?![\w$])
    )
  | (?P<escape>\\[!-/:-@\[-`{-~])
  | (?P<code>(?<!`)(?:`[^`\n]+`|``(?!`)(?:[^`\n]|`(?!`))+``)(?!`))
  | (?P<link>!?\[[^\[\]\n]*\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)?(?:[ ]"[^"\n]*")?\))
  | (?P<stars>\*+)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEFORE_OPEN, _AFTER_CLOSE = "\"'([{<“‘«$\\`", "\"')]}>.,!?;:%”’»…$`"
_TAGS = {1: ("<em>", "</em>"), 2: ("<strong>", "</strong>")}
_TAGS[3] = ("<strong><em>", "</em></strong>")


def tag(html: str) -> Markup:
    """HTML of ours, in contrast to text."""
    return Markup(html)


def marker(text: str) -> Pieces:
    """A mark that formatting stands for: the style sheet hides it unless "as written" is on."""
    return [tag('<span class="marker">'), text, tag("</span>")] if text else []


def inline(text: str, formulas: Formulas) -> Pieces:
    """The pieces of a paragraph or a cell.

    >>> "".join(inline("a **b** __c__", Formulas()))
    'a <strong><span class="marker">**</span>b<span class="marker">**</span></strong> __c__'
    """
    found: list[Pieces] = []
    stars: list[tuple[int, int]] = []  # open marks: their length, and where in `found`
    at = 0
    for token in _TOKEN.finditer(text):
        found.append([text[at : token.start()]])
        at = token.end()
        if token.lastgroup == "stars":
            _star(text, token, stars, found)
        else:
            found.append(list(_one(str(token.lastgroup), token[0], formulas)))
    found.append([text[at:]])
    return [piece for pieces in found for piece in pieces if piece]


def _one(kind: str, text: str, formulas: Formulas) -> Iterator[str]:
    """The pieces of a token that stands for itself."""
    if kind == "code":
        ticks = "``" if text.startswith("``") else "`"
        yield tag("<code>")
        yield from [*marker(ticks), text[len(ticks) : -len(ticks)], *marker(ticks)]
        yield tag("</code>")
    elif kind == "link":
        opened, words, between, address, closed = _parts_of_link(text)
        yield from [tag('<span class="link">'), opened, words, between]
        yield from [tag('<span class="address">'), address, tag("</span>"), closed, tag("</span>")]
    elif kind == "formula" and (shown := formulas.show(text)):
        yield from [shown, tag('<span class="source">'), text, tag("</span></span>")]
    else:
        yield text


def _parts_of_link(text: str) -> tuple[str, ...]:
    opened = text.index("[") + 1
    between = text.index("](")
    return text[:opened], text[opened:between], "](", text[between + 2 : -1], ")"


def _star(
    text: str, token: re.Match[str], stars: list[tuple[int, int]], found: list[Pieces]
) -> None:
    """One run of asterisks: it closes an open run of its length, opens one, or is only text."""
    run, start, end = token[0], token.start(), token.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    if _is_end(before) and not _is_word(after) and _close(run, stars, found):
        return
    if len(run) in _TAGS and len(stars) < _DEEPEST and not _is_word(before) and _is_start(after):
        stars.append((len(run), len(found)))
    found.append([run])


def _close(run: str, stars: list[tuple[int, int]], found: list[Pieces]) -> bool:
    """Close the innermost open run of this length, or for three asterisks the last two."""
    lengths = [length for length, _ in stars]
    if len(run) not in lengths:
        if len(run) == 3 and sorted(lengths[-2:]) == [1, 2]:
            return all(_close("*" * length, stars, found) for length in lengths[:-3:-1])
        return False
    innermost = len(lengths) - 1 - lengths[::-1].index(len(run))
    begin, end = _TAGS[len(run)]
    found[stars[innermost][1]] = [tag(begin), *marker(run)]
    found.append([*marker(run), tag(end)])
    del stars[innermost:]  # marks in between stay text: tags must nest
    return True


def _is_word(character: str) -> bool:
    """Whether a mark beside it stands within a word or a calculation; Chinese has no blanks."""
    if not character or character >= "\u2e80":
        return False
    return character.isalnum() or character in "_*"


def _is_start(character: str) -> bool:
    if not character or character.isspace():
        return False
    return not character.isascii() or character.isalnum() or character in _BEFORE_OPEN


def _is_end(character: str) -> bool:
    if not character or character.isspace():
        return False
    return not character.isascii() or character.isalnum() or character in _AFTER_CLOSE
