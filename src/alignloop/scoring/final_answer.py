r"""The final answer of a text: one number, or one letter of several; none if ambiguous.

Taken from the first of these that is present: the last \boxed{...}; after the last "####"; after
the last "the answer is", "Answer:", 答案是, 答案： and the like; otherwise the end of the text.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # １ ％ ：（ ） to 1 % : ( )
_SAME = {ord("−"): "-", ord("–"): "-", ord("、"): ",", ord("\u00a0"): " ", ord("\u202f"): " "}
_PARTS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⁄": "/"}
_MARKUP = re.compile(r"\*\*|`|\\[()\[\]!,;]|\\text\s*(?=\{)|(?<=\d)\{,\}(?=\d)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
# The colon or verb is required: "the answer" alone also occurs in reasoning.
_ANNOUNCED = re.compile(
    r"\banswer\b\s*(?:is|are|was|equals|=|:)\s*(?:exactly\b|just\b)?\s*:?"
    r"|(?:答案|结果)\s*(?:就?是|为|等于|选|:)+\s*:?|\b答\s*:",
    re.I,
)
# "option" in Chinese, only if a letter follows: the word alone is too common.
_CHOSEN = re.compile(
    r"(?:应该?|正确的?)?(?:选择|选项?)\s*(?:是|为|:)?(?=\s*[(\[]?\s*[A-J甲乙丙丁戊])"
)
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.])(?:(?<![\w)\]])(?P<sign>[-+])\s?)?[$€£¥]?\s?(?P<inner>-)?"
    rf"(?:(?P<whole>\d{{1,9}})\s+(?=\d{{1,9}}/))?(?P<over>{_DIGITS})(?:/(?P<under>\d+))?"
    r"(?:[eE](?P<power>[-+]?\d{1,2})\b)?"
    r"\s*(?P<unit>\\?%|percent\b|万|亿|thousand\b|million\b|billion\b)?"
)
_GOES_ON = re.compile(r"\.\d|\s?\^|[!⁰¹²³⁴-⁹]")  # 3.14.15, 10^2, 10², 5!
_UNITS = {"万": 10**4, "亿": 10**8, "thousand": 10**3, "million": 10**6, "billion": 10**9}
# What joins two numbers so that neither alone is the answer (5 or 6, 3-4, 3 * 4, 12:30).
_JOINS = re.compile(
    r"\s*[\w$€£¥%°]{0,12}\s*(?:,|/|-|~|:|\+|\*|\^|×|÷|;|&|\\times|\\cdot|\bor\b|\band\b|\bto\b"
    r"|或者?|和|与|至|到)\s*(?:or\b|and\b|或者?)?\s*|\s*",
    re.I,
)
_LONGEST = 16 * 2**10  # characters at an answer's end that are searched; bounds regex time
_STEMS = dict(zip("甲乙丙丁戊", "ABCDE", strict=True))
_LETTER = r"[A-J甲乙丙丁戊]"
_OPTION = re.compile(
    rf"\s*(?:(?:option|choice|选项|选择?|是)\s*)?(?:[(\[]\s*({_LETTER}|[a-j])\s*[)\]]"
    rf"|({_LETTER})(?![A-Za-z0-9'’]))"
)
# A second letter after the first: "A or B" chooses neither.
_ALTERNATIVE = re.compile(
    rf"\s*(?:,|/|&|\+|or\b|and\b|或者?|和|与)\s*(?:or\b|and\b)?\s*[(\[]?\s*{_LETTER}(?![A-Za-z0-9'’])",
    re.I,
)
# "A dog ..." and "I think ..." are words, not choices; "A because ..." is one.
_ARTICLE = re.compile(r"\s+(?!(?:because|since|as|for)\b)[a-z]")


@dataclass(frozen=True, kw_only=True)
class Number:
    """An exact number; 25 % has value 25 and `percent`."""

    value: Fraction
    percent: bool = False


def final_number(text: str) -> Number | None:
    """A text's final number, exactly: -1,234.50, 3/4, 2 1/2, a \\frac, 25 %, 3万.

    After a mark the first number counts, or the one after the last "="; units are ignored. None if
    there is no number, or if two are joined: "5 or 6", "3-4", "1,23", "12:30". Only the last 16,384
    characters are searched.
    """
    part, marked = _final_part(_with_plain_numbers(text))
    if marked:
        part = next((line for line in part.splitlines() if line.strip()), "")
        _, equals, after = part.rpartition("=")
        part = after if equals and _NUMBER.search(after) else part
    found = list(_NUMBER.finditer(part))
    if not found:
        return None
    index = 0 if marked else len(found) - 1
    other = 1 if marked else index - 1
    if 0 <= other < len(found):
        first, second = sorted((found[index], found[other]), key=lambda one: one.start())
        if _JOINS.fullmatch(part, first.end(), second.start()):
            return None
    return None if _GOES_ON.match(part, found[index].end()) else _value(found[index])


def final_letter(text: str) -> str:
    """The letter from A to J that a text chooses; "" if it chooses none, or more than one.

    "B", "(B) the text", "B. the text", "The answer is B.", 答案：B, 选B; 甲 to 戊 are A to E.
    """
    part, marked = _final_part(_narrow(without_thoughts(text)))
    if not marked and (chosen := list(_CHOSEN.finditer(part))):
        part, marked = part[chosen[-1].end() :], True
    found = _OPTION.match(part)
    if found is None:
        return _only_bracketed(part) if not marked else ""
    letter = found[1] or found[2]
    after = part[found.end() :]
    if _ALTERNATIVE.match(after) or (found[2] in ("A", "I") and _ARTICLE.match(after)):
        return ""
    named_only = not marked and found[2] and not re.match(r"\s*(?:$|[.,:)]|\n)", after)
    # without a mark a bare letter may be a word, so only a bracketed one counts
    if named_only or (not marked and len(_bracketed(part)) > 1):
        return _only_bracketed(part)
    return _STEMS.get(letter, letter.upper())


def without_thoughts(text: str) -> str:
    """What follows the last </think>; the whole text if there is none."""
    return text.rpartition("</think>")[2]


def _only_bracketed(part: str) -> str:
    letters = _bracketed(part)
    return letters.pop() if len(letters) == 1 else ""


def _bracketed(part: str) -> set[str]:
    return set(re.findall(r"\(([A-J])\)", part))


def _narrow(text: str) -> str:
    part = text[-_LONGEST:].translate(_WIDE).translate(_SAME)
    part = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", part))
    return _MARKUP.sub("", part)


def _with_plain_numbers(text: str) -> str:
    part = without_thoughts(text)
    for sign, plain in _PARTS.items():
        part = part.replace(sign, plain if sign == "⁄" else f" {plain}")
    part = re.sub(r"(?<=\d)\{,\}(?=\d)", ",", part)
    return _FRACTION.sub(r" \1/\2", _narrow(part)).replace("\\$", "$")


def _final_part(part: str) -> tuple[str, bool]:
    """The part with the final answer, and whether it is marked; the whole text if not."""
    if (start := part.rfind("\\boxed{")) >= 0:
        return _braced(part[start + len("\\boxed{") :]), True
    if "####" in part:
        return part.rpartition("####")[2], True
    marks = list(_ANNOUNCED.finditer(part))
    return (part[marks[-1].end() :], True) if marks else (part, False)


def _braced(part: str) -> str:
    """The text up to the brace that closes the one before it."""
    depth = 1
    for index, character in enumerate(part):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return part[:index]
    return ""


def _value(found: re.Match[str]) -> Number | None:
    unit = found["unit"] or ""
    try:
        value = Fraction(found["over"].replace(",", ""))
        value = value / int(found["under"]) if found["under"] else value
        value += int(found["whole"] or 0)
        value *= Fraction(10) ** int(found["power"] or 0) * _UNITS.get(unit, 1)
    except (ValueError, ZeroDivisionError):  # too many digits, or a division by 0
        return None
    negative = found["sign"] == "-" or bool(found["inner"])
    return Number(value=-value if negative else value, percent=unit.endswith(("%", "percent")))
