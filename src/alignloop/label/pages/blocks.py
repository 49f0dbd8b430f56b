"""The blocks of a text: paragraphs, headings, list items, quotations, code and tables.

Every line belongs to one block, its end included, and nothing is dropped: the texts of a block's
pieces, joined, are its lines.
"""

import re
from collections.abc import Iterator

from alignloop.label.pages.code_colours import CodeColours
from alignloop.label.pages.formulas import Formulas
from alignloop.label.pages.inline import Pieces, inline, marker, tag

_LINE = re.compile(r"[^\n]*\n|[^\n]+")  # `str.splitlines` knows other ends too
_FENCE = re.compile(r"([ \t]*(`{3,}|~{3,}))([^`\n]*)(\n?)")
_KINDS = (
    ("blank", re.compile(r"[ \t]*\n?$")),
    ("heading", re.compile(r"#{1,6}[ \t]+\S")),
    ("item", re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\S")),
    ("quote", re.compile(r" {0,3}>")),
)
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\n?")
_PIPE = re.compile(r"(?<!\\)\|")
_LANGUAGE = re.compile(r"\s*([\w+#-]+)")
_CLOSING = {"$$": "$$", "\\[": "\\]"}
_MOST_FORMULA_LINES = 40
_MOST_COLUMNS = 60


def blocks(text: str) -> Iterator[str]:
    """The pieces of a whole text, with the tags of its blocks."""
    formulas, colours = Formulas(), CodeColours()
    lines: list[str] = _LINE.findall(text)
    at = 0
    while at < len(lines):
        kind, length = _first_block(lines, at)
        part = lines[at : at + length]
        if kind == "fence":
            yield from _code(part, colours)
        elif kind == "table":
            yield from _table(part, formulas)
        else:
            yield from _lines(kind, "".join(part), formulas)
        at += length


def _kind(line: str) -> str:
    if _FENCE.fullmatch(line):
        return "fence"
    return next((kind for kind, begins in _KINDS if begins.match(line)), "text")


def _first_block(lines: list[str], at: int) -> tuple[str, int]:
    """The kind of the block that begins at a line, and how many lines it has."""
    kind = _kind(lines[at])
    if kind == "fence":
        return kind, _length_of_code(lines, at)
    if _is_table(lines, at):
        after = at + 2
        while after < len(lines) and "|" in lines[after]:
            after += 1
        return "table", after - at
    after = at + _length_of_formula(lines, at)
    while kind in ("text", "blank", "quote") and after < len(lines):
        if _kind(lines[after]) != kind or _is_table(lines, after):
            break
        after += _length_of_formula(lines, after)
    return kind, after - at


def _length_of_code(lines: list[str], at: int) -> int:
    """Up to the closing fence, or the end of the text if there is none."""
    fence = _fence(lines[at])[1]
    for after in range(at + 1, len(lines)):
        if (line := lines[after].strip()).startswith(fence) and not line.strip(fence[0]):
            return after + 1 - at
    return len(lines) - at


def _fence(line: str) -> tuple[str, str, str, str]:
    """A line that opens code: its mark with the blanks before, the mark, the rest, the line end."""
    found = _FENCE.fullmatch(line)
    assert found
    return found[1], found[2], found[3], found[4]


def _length_of_formula(lines: list[str], at: int) -> int:
    """The lines of a formula that begins at a line and ends on another; else 1."""
    line = lines[at].strip()
    closing = _CLOSING.get(line[:2])
    if closing is None or closing in line[2:]:
        return 1
    for length, later in enumerate(lines[at + 1 : at + _MOST_FORMULA_LINES], start=2):
        if not later.strip():
            return 1
        if closing in later:
            return length
    return 1


def _is_table(lines: list[str], at: int) -> bool:
    """Whether a line is the head of a table: the next one draws a rule below each of its cells."""
    if "|" not in lines[at] or at + 1 == len(lines) or not _RULE.fullmatch(lines[at + 1]):
        return False
    columns = len(_cells(lines[at])[1])
    return columns == len(_cells(lines[at + 1])[1]) <= _MOST_COLUMNS


def _cells(line: str) -> tuple[str, list[str], str]:
    """A row as what is before its cells, the cells (with a pipe between two), and what follows."""
    row, end = line.removesuffix("\n"), "\n" if line.endswith("\n") else ""
    cells = _PIPE.split(row)
    before = after = ""
    if len(cells) > 1 and not cells[0].strip():
        before = cells.pop(0) + "|"
    if len(cells) > 1 and not cells[-1].strip():
        after = "|" + cells.pop()
    return before, cells, after + end


def _lines(kind: str, text: str, formulas: Formulas) -> Pieces:
    """A paragraph, heading, list item, quotation or run of blank lines."""
    if kind == "heading":
        level = len(text) - len(text.lstrip("#"))
        name = f"h{min(level + 2, 6)}"  # below the headings of the page
        sign = [tag('<span class="sign">'), text[:level], tag("</span>")]
        return [
            tag(f'<{name} dir="auto">'),
            *sign,
            *inline(text[level:], formulas),
            tag(f"</{name}>"),
        ]
    start = f'<p dir="auto" class="{kind}">' if kind != "text" else '<p dir="auto">'
    return [tag(start), *inline(text, formulas), tag("</p>")]


def _code(lines: list[str], colours: CodeColours) -> Iterator[str]:
    """Code with its language above; the fences are marks."""
    before, mark, info, end = _fence(lines[0])
    closed = len(lines) > 1 and lines[-1].strip().strip(mark[0]) == "" != lines[-1].strip()
    closed = closed and lines[-1].strip().startswith(mark)
    inside = "".join(lines[1:-1] if closed else lines[1:])
    language = _LANGUAGE.match(info)
    yield tag('<div class="code" dir="ltr" tabindex="0">')
    if info.strip():
        yield from [*marker(before), tag('<span class="language">'), info, tag("</span>")]
        yield from marker(end)
    else:
        yield from marker(before + info + end)
    yield tag("<code>")
    for kind, text in colours.of(inside, language[1].lower() if language else ""):
        yield from [tag(f'<span class="{kind}">'), text, tag("</span>")] if kind else [text]
    yield tag("</code>")
    yield from [*marker(lines[-1] if closed else ""), tag("</div>")]


def _table(lines: list[str], formulas: Formulas) -> Iterator[str]:
    """A table in a box that scrolls; pipes and the rule are marks."""
    sides = [_side(cell.strip()) for cell in _cells(lines[1])[1]]
    yield tag('<div class="table" tabindex="0"><table><thead>')
    yield from _row("th", lines[0], lines[1], sides, formulas)
    yield tag("</thead><tbody>")
    for line in lines[2:]:
        yield from _row("td", line, "", sides, formulas)
    yield tag("</tbody></table></div>")


def _side(rule: str) -> str:
    return {"10": "start", "01": "end", "11": "center"}.get(
        f"{rule.startswith(':'):d}{rule.endswith(':'):d}", ""
    )


def _row(name: str, line: str, rule: str, sides: list[str], formulas: Formulas) -> Iterator[str]:
    """One row, with every cell that it has, even if its head has fewer."""
    before, cells, after = _cells(line)
    yield tag("<tr>")
    for n, cell in enumerate(cells):
        text = cell.strip()
        blank = len(cell) - len(cell.lstrip())
        left, right = cell[:blank], cell[blank + len(text) :]
        side = f' class="{sides[n]}"' if n < len(sides) and sides[n] else ""
        yield tag(f'<{name} dir="auto"{side}>')
        yield from marker((before if n == 0 else "|") + left)
        yield from inline(text, formulas)
        yield from marker(right + (after + rule if n == len(cells) - 1 else ""))
        yield tag(f"</{name}>")
    yield tag("</tr>")
