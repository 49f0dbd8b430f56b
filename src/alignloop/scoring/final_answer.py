r"""What an answer says in the end: one number, or one letter of several; None if that is not clear.

Where it is looked for, the first that is there: the last \boxed{...}, behind the last "####",
behind the last "the answer is", "Answer:", 答案是, 答案： and the like, and else at the end.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # １ ％ ：（ ） to 1 % : ( )
_SAME = {ord("−"): "-", ord("–"): "-", ord("、"): ",", ord("\u00a0"): " ", ord("\u202f"): " "}
_PARTS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⁄": "/"}
_MARKUP = re.compile(r"\*\*|`|\\[()\[\]!,;]|\\text\s*(?=\{)|(?<=\d)\{,\}(?=\d)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_ANNOUNCED = re.compile(
    r"\banswer\b\s*(?:is|are|was|equals|=|:)\s*(?:exactly\b|just\b)?\s*:?"
    r"|(?:答案|结果)\s*(?:就?是|为|等于|选|:)+\s*:?|\b答\s*:",
    re.I,
)
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
# Between two numbers: neither alone is the answer (5 or 6, 3-4, 3 * 4, 12:30).
_JOINS = re.compile(
    r"\s*[\w$€£¥%°]{0,12}\s*(?:,|/|-|~|:|\+|\*|\^|×|÷|;|&|\\times|\\cdot|\bor\b|\band\b|\bto\b"
    r"|或者?|和|与|至|到)\s*(?:or\b|and\b|或者?)?\s*|\s*",
    re.I,
)
_LONGEST = 16 * 2**10  # characters at an answer's end that are looked at
_STEMS = dict(zip("甲乙丙丁戊", "ABCDE", strict=True))
_LETTER = r"[A-J甲乙丙丁戊]"
_OPTION = re.compile(
    rf"\s*(?:(?:option|choice|选项|选择?|是)\s*)?(?:[(\[]\s*({_LETTER}|[a-j])\s*[)\]]"
    rf"|({_LETTER})(?![A-Za-z0-9'’]))"
)
_ALTERNATIVE = re.compile(
    rf"\s*(?:,|/|&|\+|or\b|and\b|或者?|和|与)\s*(?:or\b|and\b)?\s*[(\[]?\s*{_LETTER}(?![A-Za-z0-9'’])",
    re.I,
)
_ARTICLE = re.compile(r"\s+(?!(?:because|since|as|for)\b)[a-z]")


@dataclass(frozen=True, kw_only=True)
class Number:
    """An exact number; 25 % is 25, and `percent`."""

    value: Fraction
    percent: bool = False


def final_number(text: str) -> Number | None:
    """The number that a text ends with, exactly: -1,234.50, 3/4, 2 1/2, a \\frac, 25 %, 3万.

    Behind a mark the first number counts, or the one behind the last "="; units are passed over.
    None if there is no number, or if two are joined there: "5 or 6", "3-4", "1,23", "12:30". Only
    the last 16,384 characters are looked at.
    """
    said, marked = _final_part(_with_plain_numbers(text))
    if marked:
        said = next((line for line in said.splitlines() if line.strip()), "")
        _, equals, behind = said.rpartition("=")
        said = behind if equals and _NUMBER.search(behind) else said
    found = list(_NUMBER.finditer(said))
    if not found:
        return None
    place = 0 if marked else len(found) - 1
    other = 1 if marked else place - 1
    if 0 <= other < len(found):
        first, second = sorted((found[place], found[other]), key=lambda one: one.start())
        if _JOINS.fullmatch(said, first.end(), second.start()):
            return None
    return None if _GOES_ON.match(said, found[place].end()) else _value(found[place])


def final_letter(text: str) -> str:
    """The letter from A to J that a text chooses; "" if it chooses none, or more than one.

    "B", "(B) the text", "B. the text", "The answer is B.", 答案：B, 选B; 甲 to 戊 are A to E.
    """
    said, marked = _final_part(_narrow(without_thoughts(text)))
    if not marked and (chosen := list(_CHOSEN.finditer(said))):
        said, marked = said[chosen[-1].end() :], True
    found = _OPTION.match(said)
    if found is None:
        return _only_bracketed(said) if not marked else ""
    letter = found[1] or found[2]
    behind = said[found.end() :]
    if _ALTERNATIVE.match(behind) or (found[2] in ("A", "I") and _ARTICLE.match(behind)):
        return ""
    named_only = not marked and found[2] and not re.match(r"\s*(?:$|[.,:)]|\n)", behind)
    if named_only or (not marked and len(_bracketed(said)) > 1):
        return _only_bracketed(said)
    return _STEMS.get(letter, letter.upper())


def without_thoughts(text: str) -> str:
    """What follows the last </think>; the whole text if there is none."""
    return text.rpartition("</think>")[2]


def _only_bracketed(said: str) -> str:
    letters = _bracketed(said)
    return letters.pop() if len(letters) == 1 else ""


def _bracketed(said: str) -> set[str]:
    return set(re.findall(r"\(([A-J])\)", said))


def _narrow(text: str) -> str:
    said = text[-_LONGEST:].translate(_WIDE).translate(_SAME)
    said = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", said))
    return _MARKUP.sub("", said)


def _with_plain_numbers(text: str) -> str:
    said = without_thoughts(text)
    for sign, plain in _PARTS.items():
        said = said.replace(sign, plain if sign == "⁄" else f" {plain}")
    said = re.sub(r"(?<=\d)\{,\}(?=\d)", ",", said)
    return _FRACTION.sub(r" \1/\2", _narrow(said)).replace("\\$", "$")


def _final_part(said: str) -> tuple[str, bool]:
    """Where the final answer is, and whether a mark says so; the whole text if none does."""
    if (start := said.rfind("\\boxed{")) >= 0:
        return _braced(said[start + len("\\boxed{") :]), True
    if "####" in said:
        return said.rpartition("####")[2], True
    marks = list(_ANNOUNCED.finditer(said))
    return (said[marks[-1].end() :], True) if marks else (said, False)


def _braced(said: str) -> str:
    """The text up to the bracket that closes the one before it."""
    depth = 1
    for place, character in enumerate(said):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return said[:place]
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
