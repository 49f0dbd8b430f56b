"""Formulas as MathML, made on the server; a formula that would lose anything is left as written."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from xml.etree.ElementTree import Element

from markupsafe import Markup, escape

from alignloop.extras import needs
from alignloop.label.pages.invisible import INVISIBLE

with needs("label", "the annotation page"):
    from latex2mathml.converter import convert_to_element

MOST_SIGNS = 2_000  # of all formulas of a text: a sign takes some 80 microseconds
_LONGEST = 1_000  # characters of one formula
_LONGEST_INLINE = 60  # characters; longer formulas scroll in a box of their own
_DEEPEST = 40  # levels of MathML
_MOST_BRACES = 12  # levels of braces
# What Chromium draws; `menclose` only as a box, which the style sheet draws.
_ARITY: dict[str, int] = {
    **dict.fromkeys(("msub", "msup", "mfrac", "mroot", "mover", "munder"), 2),
    **dict.fromkeys(("msubsup", "munderover"), 3),
}
MATH_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msqrt", "mstyle", *_ARITY),
    *("mtable", "mtr", "mtd"),
}
_VALUES = {
    **dict.fromkeys(("stretchy", "fence", "accent", "displaystyle"), re.compile("true|false")),
    **dict.fromkeys(("minsize", "maxsize"), re.compile(r"\d(?:\.\d+)?em")),
    "form": re.compile("prefix|postfix"),
    "width": re.compile(r"[0-2](?:\.\d+)?em"),  # none below zero: signs would cover each other
    "linethickness": re.compile("0"),
    "scriptlevel": re.compile("[0-2]"),
    "mathvariant": re.compile("normal"),
    "display": re.compile("block|inline"),
}
MATH_ATTRIBUTES = set(_VALUES)
_ALIGN = {"left": "start", "center": "center", "right": "end"}
_ENVIRONMENTS = {
    **{"aligned": "split", "align": "align*", "equation": "split", "dcases": "cases"},
    **dict.fromkeys(("gather", "gather*", "gathered"), "matrix"),
}
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([a-z]+\*?)\}")
_COLUMNS = re.compile(r"(\\begin\{array\})\{[clr| ]+\}")
_NO_DELIMITER = re.compile(r"\\(?:left|right|[bB]igg?[lmr]?)\s*\.")
_ROOT = re.compile(r"\\sqrt\s*\[([^\[\]]*)\]")
_ROW_GAP = re.compile(r"\\\\\s*\[[\d.]+(?:pt|ex|em|mm|cm)\]")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
_SIGN = re.compile(r"\\[A-Za-z]+|[^\s{}]")
_LETTER = r"[^\W\d_]"
_SENTENCE = re.compile(rf"{_LETTER}{{3,}}\s+{_LETTER}|{_LETTER}\s+{_LETTER}{{3,}}")  # blanks go
_DEFINES = re.compile(r"\\(?:(?:re)?newcommand|def|DeclareMathOperator|newenvironment)(?![A-Za-z])")
_IN_TEXT = re.compile(r"\\(?:text[a-z]*|mbox|operatorname\*?)\s*\{[^{}]*\}")
_REFERENCE = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
_SYNTAX = set("{}&_^~\\$ \n\t\xa0")
_SAME = str.maketrans({"−": "-", "′": "'", "∗": "*", "‖": "|", "∣": "|", "ℎ": "h", "∶": ":"})


@dataclass(kw_only=True)
class Formulas:
    """Converts the formulas of one text, as long as its budget of signs lasts."""

    signs: int = MOST_SIGNS

    def show(self, source: str) -> Markup | None:
        """The formula with its delimiters as HTML, up to where its source belongs; None if not.

        >>> Formulas().show(r"\\\\(x % a comment\\\\)") is None
        True
        """
        self.signs -= len(_SIGN.findall(source))
        if self.signs < 0:
            return None
        opening = 1 if source[0] == "$" != source[1] else 2
        display = opening == 2 and source[1] != "("
        mathml = to_mathml(source[opening:-opening], display)
        if mathml is None:
            return None
        wide = display or len(source) > _LONGEST_INLINE
        kind = 'formula wide" tabindex="0' if wide else "formula"
        return Markup(f'<span class="{kind}">{mathml}')


@lru_cache(maxsize=4096)
def to_mathml(latex: str, display: bool) -> str | None:
    """LaTeX as MathML of known tags and attributes; None unless every sign of it is shown.

    >>> to_mathml("x_1", False)
    '<math display="inline"><mrow><msub><mi>x</mi><mn>1</mn></msub></mrow></math>'
    """
    if len(latex) > _LONGEST or INVISIBLE.search(latex) or _DEFINES.search(latex):
        return None
    if not _is_balanced(latex) or _SENTENCE.search(_COMMAND.sub("\\\\", _IN_TEXT.sub("", latex))):
        return None
    known = _ENVIRONMENT.sub(
        lambda one: f"\\{one[1]}{{{_ENVIRONMENTS.get(one[2], one[2])}}}", latex
    )
    try:
        root = convert_to_element(known, display="block" if display else "inline")
        html = _html(root, 0)
    except Exception:  # text of models: whatever the converter stumbles over stays as written
        return None
    shown = "".join(_unreferenced(text) for text in root.itertext())
    return html if "\\" not in shown and not _lost(latex, shown) else None


def _is_balanced(latex: str) -> bool:
    """Whether every brace has its partner, and they are not nested too deep."""
    level = 0
    for character in _COMMAND.sub("", latex):
        level += (character == "{") - (character == "}")
        if not 0 <= level <= _MOST_BRACES:
            return False
    return level == 0


def _lost(latex: str, shown: str) -> Counter[str]:
    """The letters, digits and signs of a formula that its MathML lacks."""
    kept = _ROW_GAP.sub(" ", _ROOT.sub(r" \1 ", _COLUMNS.sub(r"\1", latex)))
    kept = _ENVIRONMENT.sub(" ", kept)
    kept = re.sub(r"\\([{}%#&$_|,;:!])", r"\1", _NO_DELIMITER.sub(" ", kept))
    kept = re.sub(r"\\[A-Za-z]+|\\.", " ", kept)
    signs = Counter(unicodedata.normalize("NFKC", kept).translate(_SAME))
    signs -= Counter(unicodedata.normalize("NFKC", shown).translate(_SAME))
    return Counter({sign: n for sign, n in signs.items() if sign not in _SYNTAX})


def _unreferenced(text: str) -> str:
    """The converter writes its own signs as references, and those alone."""
    return _REFERENCE.sub(lambda found: chr(int(found[1], 16)), text)


def _html(node: Element, level: int) -> str:
    """MathML of known tags and attributes. Raises ValueError for others, and if it is too deep."""
    name, attributes = node.tag, _attributes(node.attrib)
    if name == "menclose" and node.attrib.get("notation") == "box":
        name, attributes = "mrow", {"class": "boxed"}
    if name not in MATH_TAGS or level > _DEEPEST or node.tail:
        raise ValueError(name)
    if len(node) != _ARITY.get(name, len(node)):
        raise ValueError(f"{name} with {len(node)} parts")
    _stretch_around_tables(node)
    shown = "".join(f' {key}="{value}"' for key, value in attributes.items())
    inside = "".join(_html(child, level + 1) for child in node)
    return f"<{name}{shown}>{escape(_unreferenced(node.text or ''))}{inside}</{name}>"


def _stretch_around_tables(row: Element) -> None:
    """Brackets of matrices are as high as these; the converter leaves them small."""
    for before, table, after in zip(row, row[1:], row[2:], strict=False):
        if table.tag == "mtable":
            for bracket, form in ((before, "prefix"), (after, "postfix")):
                if _unreferenced(bracket.text or "") in tuple("()[]{}|‖"):
                    bracket.attrib.update(stretchy="true", form=form)


def _attributes(given: dict[str, str]) -> dict[str, str]:
    found = {k: v for k, v in given.items() if k in _VALUES and _VALUES[k].fullmatch(v)}
    if given.get("columnalign") in _ALIGN:
        found["class"] = _ALIGN[given["columnalign"]]
    return found
