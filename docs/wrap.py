"""Wrap the paragraphs of our Markdown at 100 columns: python docs/wrap.py [--check]

Tables, code, headings and HTML stay as they are, as do Chinese pages, in which a line break would
be read as a space, and pages that a program writes. What is rendered is the same before and after.
"""

import re
import sys
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
WIDTH = 100
FILES = ("*.md", "docs/*.md", "docs/decisions/*.md", "src/alignloop/recipes/*/*.md")
LEFT_ALONE = ("*.zh-CN.md", "docs/configuration.md")
GENERATED = re.compile(r"<!-- results:begin -->.*?<!-- results:end -->", re.DOTALL)
# Code and links stay in one piece; a space inside them is no place to break.
WORD = re.compile(r"(?:`+[^`]*`+|!?\[[^\[\]]*\]\([^()\s]*\)|\S)+")
# At the beginning of a line these would be a list, a heading, a quotation, a table, or a rule.
BLOCK = re.compile(r"[-+*]$|\d+[.)]$|#{1,6}$|>|\||=+$|-+$|`{3}|~{3}|<")


def wrapped(text: str) -> str:
    """The text with its paragraphs wrapped; what it renders to is the same."""
    lines, tokens = text.split("\n"), parser().parse(text)
    generated = {
        line
        for found in GENERATED.finditer(text)
        for line in range(text.count("\n", 0, found.start()), text.count("\n", 0, found.end()) + 1)
    }
    for token, inline in reversed(list(pairwise(tokens))):
        if token.type != "paragraph_open" or token.map is None:
            continue
        first, last = token.map
        breaks = any(child.type == "hardbreak" for child in inline.children or ())
        if breaks or inline.content.startswith("<") or generated & set(range(first, last)):
            continue
        begin = lines[first].index(inline.content.split("\n")[0])
        lines[first:last] = _filled(inline.content, lines[first][:begin])
    result = "\n".join(lines)
    assert rendered(text) == rendered(result), "wrapping would change what is rendered"
    return result


def _filled(content: str, prefix: str) -> list[str]:
    """The lines of a paragraph; `prefix` is what stands before it, such as "- "."""
    filled, line = [], prefix
    after = re.sub(r"[^>\s]", " ", prefix)
    for word in (re.sub(r"\s+", " ", found) for found in WORD.findall(content)):
        if line in (prefix, after) or BLOCK.match(word) or len(line) + len(word) < WIDTH:
            line += word if line in (prefix, after) else f" {word}"
        else:
            filled.append(line)
            line = after + word
    return [*filled, line]


def parser() -> MarkdownIt:
    """CommonMark with tables, as the pages are read."""
    return MarkdownIt("commonmark").enable("table")


def rendered(text: str) -> str:
    """HTML in which a line break within a paragraph is a space."""
    return re.sub(r"\s+", " ", parser().render(text))


def files() -> list[Path]:
    """The pages that people write in English."""
    found = {file for pattern in FILES for file in ROOT.glob(pattern)}
    return sorted(f for f in found if not any(f.match(one) for one in LEFT_ALONE))


def main(check: bool) -> None:
    """Wrap every page; with `check` name those that are not, and fail."""
    unwrapped = []
    for file in files():
        text = file.read_text(encoding="utf-8")
        if (result := wrapped(text)) != text:
            unwrapped.append(str(file.relative_to(ROOT)))
            if not check:
                file.write_text(result, encoding="utf-8")
    if check and unwrapped:
        sys.exit(f"not wrapped, which `make format-docs` does: {', '.join(unwrapped)}")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
