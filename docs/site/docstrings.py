"""An extension of griffe: our docstrings are plain text, which becomes Markdown that shows it."""

import re

import griffe

CODE = re.compile(r"(`[^`]*`)")
FORMULA = re.compile(r"[\w'() ,]+ = .*[^.:]", re.DOTALL)
SPECIAL = re.compile(r"([*_<\[\]])")


class PlainText(griffe.Extension):
    """Escapes what Markdown would take for itself, and fences doctests."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring's text as Markdown that is shown as it is written."""
    return "\n\n".join(map(_block, re.split(r"\n\s*\n", text)))


def _block(block: str) -> str:
    if block.lstrip().startswith(">>>"):
        return f"```pycon\n{block}\n```"
    if FORMULA.fullmatch(block):
        return f"```text\n{block}\n```"
    if block.startswith("    "):
        return block  # an indented block, such as a formula, is code
    parts = CODE.split(block)
    return "".join(p if p.startswith("`") else SPECIAL.sub(r"\\\1", p) for p in parts)
