"""The words for the better answer: "A", "[[B]]", "A>B", "left", "回答A更好", "tie (bothbad)".

Only complete known phrases count: "A is worse" and "not A" name no answer.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from alignloop.data.formats.answers import ID, STEMS, Answers, plain
from alignloop.data.formats.parts import number
from alignloop.data.narrow import Json

TIE = "tie"  # cannot be an answer's name: those are letters and digits


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell's content before its column is known: an answer or a tie, a number, or neither."""

    kind: Literal["answer", "number", "missing", "unclear", "unknown"]
    answer: str = ""
    number: float = 0.0


_MISSING = {"", "nan", "none", "null", "n/a", "na", "<na>", "无"}
_TIES = {
    "tie", "tied", "draw", "both", "equal", "same", "equallygood", "bothgood", "nopreference",
    "tiebothgood", "itsatie", "bothequal", "aboutthesame", "thesame", "similar",
    "平", "平手", "平局", "一样", "一样好", "相同", "都好", "两者都好", "两个都好", "打平", "持平",
    "难分高下", "不分上下", "neither", "bothbad", "tiebothbad", "equallybad", "botharebad",
    "都不好", "都差", "都不行", "两者都差", "两个都差", "两者都不好", "两个都不好", "一样差",
}  # fmt: skip
_NOUN = (
    "assistant|response|answer|output|model|option|completion|candidate|reply|system|choice|"
    "chatbot|prediction|回答|答案|模型|助手|回复|选项|候选|方案|输出"
)
_PLACES = {
    "left": 0, "first": 0, "1st": 0, "former": 0, "左": 0, "左边": 0, "左侧": 0, "左面": 0,
    "第一": 0, "第一个": 0, "前者": 0, "一": 0,
    "right": 1, "second": 1, "2nd": 1, "latter": 1, "右": 1, "右边": 1, "右侧": 1, "右面": 1,
    "第二": 1, "第二个": 1, "后者": 1, "二": 1,
    "third": 2, "3rd": 2, "第三": 2, "第三个": 2, "fourth": 3, "4th": 3, "第四": 3, "第四个": 3,
}  # fmt: skip
_ONE = "|".join([*sorted(_PLACES, key=len, reverse=True), ID])
_SUBJECT = rf"(?:the\s+)?(?:(?:{_NOUN})[\s_\-.:#(]*)?\(?({_ONE})\)?(?:\s*(?:的?(?:{_NOUN})|one))?"
_MUCH = (
    r"(?:(?:much|far|slightly|clearly|significantly|a\s+bit|a\s+little|the"
    r"|更|略|稍|明显|显著)\s*)*"
)
_WINS = (
    rf"(?:is\s+)?{_MUCH}(?:better|best|preferred|winner|chosen|wins?|won)"
    rf"|{_MUCH}(?:较好|最好|好|胜出|获胜|胜|赢|更佳|较佳|更优|较优|最佳|最优|优|佳)"
)
_BEFORE = (
    r"(?:(?:the\s+)?(?:winner|better|best|preferred|preference|choice|verdict)"
    rf"(?:\s+(?:{_NOUN}))?(?:\s+is)?\s*:?\s+|i\s+(?:prefer|choose)\s+"
    r"|(?:胜者|选择|选|更好|偏好)(?:是|为)?\s*:?\s*)"
)
_BRACKETS = re.compile(r"\[\[([^\[\]]+)\]\]")
_NAMED = re.compile(rf"(?:{_BEFORE})?{_SUBJECT}(?:\s*(?:{_WINS})(?:\s*[.!。])?)?")
_OVER = (
    r">{1,3}|≻|(?:is\s+)?(?:much\s+|slightly\s+)?better\s+than|beats|wins\s+over"
    r"|优于|好于|胜过|强于"
)
_UNDER = r"<{1,3}|≺|(?:is\s+)?(?:much\s+|slightly\s+)?worse\s+than|loses\s+to|劣于|不如|差于"
_AGAINST = re.compile(rf"{_SUBJECT}\s*(?:({_OVER})|({_UNDER})|(=|==|~|≈))\s*{_SUBJECT}")
_BETTER_THAN = re.compile(rf"{_SUBJECT}\s*比\s*{_SUBJECT}\s*{_MUCH}(?:(好|强|优)|(差|弱))")


def read_cell(value: Json, answers: Answers) -> Cell:
    """The content of a cell: a known word, an answer's name or text, or a number."""
    if isinstance(value, list):
        if (place := _only_true(value)) is not None and len(value) == len(answers.names):
            return Cell(kind="answer", answer=answers.names[place])
        value = value[0] if len(value) == 1 else False
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell(kind="missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Cell(kind="unknown")
    if isinstance(value, int | float):
        return Cell(kind="number", number=float(value))
    # both readings: if they disagree the cell is unclear
    by_word, by_text = _by_word(value, answers), _by_text(value, answers)
    if not by_text or by_word.answer == by_text or value.strip().lower() in answers.texts:
        return by_word  # an answer's name takes precedence over a text
    may_count = by_word.kind == "number" and 0 <= by_word.number <= len(answers.texts)
    if by_word.kind == "answer" or may_count:
        return Cell(kind="unclear")
    return Cell(kind="answer", answer=by_text)


def _only_true(values: list[Json]) -> int | None:
    """The index of the only true value in a list of booleans."""
    truths = [number(int(one) if isinstance(one, bool) else one) for one in values]
    known = len(truths) > 1 and all(one in (0, 1) for one in truths)
    return truths.index(1) if known and truths.count(1) == 1 else None


def _by_text(value: str, answers: Answers) -> str:
    content = value.strip()
    found = [name for name, answer in answers.texts.items() if answer.strip() == content]
    return found[0] if content and len(found) == 1 else ""


def _by_word(value: str, answers: Answers) -> Cell:
    word = unicodedata.normalize("NFKC", value).strip().lower()
    if word in _MISSING:
        return Cell(kind="missing")
    if (found := number(word)) is not None:
        return Cell(kind="number", number=found)
    if word in answers.others:
        return Cell(kind="answer", answer=answers.others[word])
    word = word.strip("\"'*`。.!").strip()
    if len(named := _BRACKETS.findall(word)) == 1:  # a judge's explanation around "[[A]]"
        if named == ["c"] and len(answers.texts) == 2:
            return Cell(kind="answer", answer=TIE)  # MT-Bench's judges write [[C]] for a tie
        word = named[0].strip()
    word = word[1:-1].strip() if word[:1] == "[" and word[-1:] == "]" else word
    if plain(word) in _TIES:
        return Cell(kind="answer", answer=TIE)
    if found := _AGAINST.fullmatch(word) or _BETTER_THAN.fullmatch(word):
        return _compared(found, answers)
    named = _NAMED.fullmatch(word.replace("_", " ").replace("-", " "))
    return _one(named[1], answers) if named else Cell(kind="unknown")


def _compared(found: re.Match[str], answers: Answers) -> Cell:
    """ "A > B", "B 不如 A", "A = B", if there are exactly two answers."""
    subjects = [found[1], found[5] if found.re is _AGAINST else found[2]]
    first, second = (_one(name, answers) for name in subjects)
    over, under = (found[2], found[3]) if found.re is _AGAINST else (found[3], found[4])
    if len(answers.texts) != 2 or first == second or "unknown" in (first.kind, second.kind):
        return Cell(kind="unknown")
    if not over and not under:
        return Cell(kind="answer", answer=TIE)
    better, worse = (first, second) if over else (second, first)
    if {first.number, second.number} == {1.0, 2.0} and first.kind == second.kind == "number":
        return Cell(kind="answer", answer=answers.names[int(better.number) - 1])
    return better if worse.kind == better.kind == "answer" else Cell(kind="unknown")


def _one(name: str, answers: Answers) -> Cell:
    """An answer by name or position; for an unknown digit the column decides."""
    if name in _PLACES:
        return _at(_PLACES[name], answers)
    if name.isdigit():
        return Cell(kind="number", number=float(name))
    if name in answers.texts:
        return Cell(kind="answer", answer=name)
    if answers.family == "letters" and name.isascii() == answers.names[0].isascii():
        return Cell(kind="unknown")
    return _at(STEMS.index(name) if name in STEMS else ord(name) - ord("a"), answers)


def _at(place: int, answers: Answers) -> Cell:
    if answers.family == "mixed" or place >= len(answers.names):
        return Cell(kind="unknown")
    return Cell(kind="answer", answer=answers.names[place])
