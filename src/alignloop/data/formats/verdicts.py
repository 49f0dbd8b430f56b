"""What a row says of which answer is better: a word, a number, a share; and what a column means.

A number alone says nothing: 1 is the first answer where a column counts from 1, and the second where
it counts from 0. `facts_of` tells what a row holds, all rows together decide (`meaning_of`), and
where they leave two readings open the file is refused.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, Literal

from alignloop.data.formats.answers import STEMS, Answers, plain
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.parts import number
from alignloop.data.formats.registry import Refused, RefusedFile, Row, shown

TIE = "tie"  # no answer's name: names are letters and digits


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The better answer's name, or a tie; `preference` 0.5..1 is how sure of it one is."""

    choice: str
    preference: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one cell holds, before its column is known: an answer or a tie, a number, or neither."""

    kind: Literal["answer", "number", "missing", "unclear", "unknown"]
    answer: str = ""
    number: float = 0.0


# --- keys --------------------------------------------------------------------------------------

CHOICE = re.compile(
    r"(?:human|annotator|overall|final|is)?"
    r"(?:winner|winning|preferred|preference|better|best|chosen|choice|vote|verdict|judge?ment"
    r"|selected|selection|comparison)"
    r"(?:response|answer|output|completion|option|side|model|index|idx|id|label|number)?"
    r"|胜者|胜方|获胜者|优胜|选择|优选|偏好|更好|较好|最好|最佳|最佳回答|更好的回答|投票|判断"
)
LABEL = re.compile(r"labels?|annotation|标签|标注")
VOTER = re.compile(
    r"(?:annotator|annotation|rater|judge|labell?er|worker|evaluator|reviewer|标注员|标注者|标注人|评审)"
    r"(?:\d{1,2}|[a-h])(?:choice|vote|label|preference|winner)?"
)


def keys_like(pattern: re.Pattern[str], row: Row, answers: Answers) -> list[str]:
    """The keys of a row that say which answer is better, in the order of the row."""
    return [
        key for key in row if pattern.fullmatch(plain(key)) and not is_table(key, row[key], answers)
    ]


def is_table(key: str, value: object, answers: Answers) -> bool:
    """Whether "preference" holds one number for each two answers."""
    couples = len(answers.texts) * (len(answers.texts) - 1) // 2
    return key == "preference" and isinstance(value, list) and len(value) == couples


# --- words -------------------------------------------------------------------------------------

_MISSING = {"", "nan", "none", "null", "n/a", "na", "<na>", "无"}
_TIES = {
    "tie", "tied", "draw", "both", "equal", "same", "equallygood", "bothgood", "nopreference",
    "tiebothgood", "itsatie", "bothequal", "abouttheSame".lower(), "thesame", "similar",
    "平", "平手", "平局", "一样", "一样好", "相同", "都好", "两者都好", "两个都好", "打平", "持平",
    "难分高下", "不分上下", "neither", "bothbad", "tiebothbad", "equallybad", "bothareBad".lower(),
    "都不好", "都差", "都不行", "两者都差", "两个都差", "两者都不好", "两个都不好", "一样差",
}  # fmt: skip
_NOUN = (
    "assistant|response|answer|output|model|option|completion|candidate|reply|system|choice|"
    "chatbot|prediction|回答|答案|模型|助手|回复|选项|候选|方案|输出"
)
_PLACES = {
    "left": 0, "first": 0, "1st": 0, "former": 0, "左": 0, "左边": 0, "左侧": 0, "左面": 0,
    "第一": 0, "第一个": 0, "前者": 0,
    "right": 1, "second": 1, "2nd": 1, "latter": 1, "右": 1, "右边": 1, "右侧": 1, "右面": 1,
    "第二": 1, "第二个": 1, "后者": 1,
    "third": 2, "3rd": 2, "第三": 2, "第三个": 2, "fourth": 3, "4th": 3, "第四": 3, "第四个": 3,
}  # fmt: skip
_ONE = (
    "|".join(sorted(map(re.escape, _PLACES), key=len, reverse=True))
    + r"|[a-l]|\d{1,2}|[甲乙丙丁戊]"
)
_SUBJECT = rf"(?:the\s+)?(?:(?:{_NOUN})[\s_\-.:#(]*)?\(?({_ONE})\)?(?:\s*(?:的?(?:{_NOUN})|one))?"
_MUCH = (
    r"(?:(?:much|far|slightly|clearly|significantly|a\s+bit|a\s+little|the|更|略|稍|明显|显著)\s*)*"
)
_WINS = rf"(?:is\s+)?{_MUCH}(?:better|best|preferred|winner|chosen|wins?|won)|{_MUCH}(?:更好|较好|最好|好|胜|胜出|获胜|赢|更佳|较佳|更优|较优|最佳|最优)"
_BEFORE = (
    r"(?:(?:the\s+)?(?:winner|better|best|preferred|preference|choice|verdict)"
    rf"(?:\s+(?:{_NOUN}))?(?:\s+is)?\s*:?\s+|i\s+(?:prefer|choose)\s+|(?:胜者|选择|选|更好|偏好)(?:是|为)?\s*:?\s*)"
)
_NAMED = re.compile(rf"(?:{_BEFORE})?{_SUBJECT}(?:\s*(?:{_WINS})(?:\s*[.!。])?)?")
_OVER = r">{1,3}|≻|(?:is\s+)?(?:much\s+|slightly\s+)?better\s+than|beats|wins\s+over|优于|好于|胜过|强于"
_UNDER = r"<{1,3}|≺|(?:is\s+)?(?:much\s+|slightly\s+)?worse\s+than|loses\s+to|劣于|不如|差于"
_AGAINST = re.compile(rf"{_SUBJECT}\s*(?:({_OVER})|({_UNDER})|(=|==|~|≈))\s*{_SUBJECT}")
_BETTER_THAN = re.compile(rf"{_SUBJECT}\s*比\s*{_SUBJECT}\s*{_MUCH}(?:(好|强|优)|(差|弱))")


def said_in(value: object, answers: Answers) -> Said:
    """What a cell says: a word of ours, an answer's name or text, or a number."""
    if isinstance(value, list):
        if (place := _only_true(value)) is not None and len(value) == len(answers.names):
            return Said(kind="answer", answer=answers.names[place])
        value = value[0] if len(value) == 1 else False
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Said(kind="missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Said(kind="unknown")
    if isinstance(value, int | float):
        return Said(kind="number", number=float(value))
    by_word, by_text = _by_word(value, answers), _by_text(value, answers)
    if not by_text or by_word.answer == by_text or value.strip().lower() in answers.texts:
        return by_word  # a column's own name goes before a text
    may_count = by_word.kind == "number" and 0 <= by_word.number <= len(answers.texts)
    if by_word.kind == "answer" or may_count:
        return Said(kind="unclear")
    return Said(kind="answer", answer=by_text)


def _only_true(values: list[Any]) -> int | None:
    """The place of the one that is true among several, of which the others are false."""
    truths = [number(int(one) if isinstance(one, bool) else one) for one in values]
    known = len(truths) > 1 and all(one in (0, 1) for one in truths)
    return truths.index(1) if known and truths.count(1) == 1 else None


def _by_text(value: str, answers: Answers) -> str:
    said = value.strip()
    found = [name for name, told in answers.texts.items() if told.strip() == said]
    return found[0] if said and len(found) == 1 else ""


def _by_word(value: str, answers: Answers) -> Said:
    said = unicodedata.normalize("NFKC", value).strip().lower()
    if said in _MISSING:
        return Said(kind="missing")
    if (found := number(said)) is not None:
        return Said(kind="number", number=found)
    if said in answers.others:
        return Said(kind="answer", answer=answers.others[said])
    if said == "[[c]]" and len(answers.texts) == 2:
        return Said(kind="answer", answer=TIE)  # the tie of MT-Bench's judges
    said = said.strip("\"'*`。.!").strip()
    said = said[2:-2] if said.startswith("[[") and said.endswith("]]") else said
    if plain(said) in _TIES:
        return Said(kind="answer", answer=TIE)
    if found := _AGAINST.fullmatch(said) or _BETTER_THAN.fullmatch(said):
        return _compared(found, answers)
    named = _NAMED.fullmatch(said.replace("_", " ").replace("-", " "))
    return _one(named[1], answers) if named else Said(kind="unknown")


def _compared(found: re.Match[str], answers: Answers) -> Said:
    """ "A > B", "B 不如 A", "A = B", between the two answers that there are."""
    subjects = [found[1], found[5] if found.re is _AGAINST else found[2]]
    first, second = (_one(name, answers) for name in subjects)
    over, under = (found[2], found[3]) if found.re is _AGAINST else (found[3], found[4])
    if len(answers.texts) != 2 or first == second or "unknown" in (first.kind, second.kind):
        return Said(kind="unknown")
    if not over and not under:
        return Said(kind="answer", answer=TIE)
    better, worse = (first, second) if over else (second, first)
    if {first.number, second.number} == {1.0, 2.0} and first.kind == second.kind == "number":
        return Said(kind="answer", answer=answers.names[int(better.number) - 1])
    return better if worse.kind == better.kind == "answer" else Said(kind="unknown")


def _one(name: str, answers: Answers) -> Said:
    """An answer by its name or its place; a digit that is no name waits for its column."""
    if name in _PLACES:
        return _at(_PLACES[name], answers)
    if name.isdigit():
        return Said(kind="number", number=float(name))
    if name in answers.texts:
        return Said(kind="answer", answer=name)
    if answers.family == "letters" and name.isascii() == answers.names[0].isascii():
        return Said(kind="unknown")
    return _at(STEMS.index(name) if name in STEMS else ord(name) - ord("a"), answers)


def _at(place: int, answers: Answers) -> Said:
    if answers.family == "mixed" or place >= len(answers.names):
        return Said(kind="unknown")
    return Said(kind="answer", answer=answers.names[place])


# --- columns -----------------------------------------------------------------------------------

Kind = tuple[str, str]  # the column's name, and how the answers beside it are named


def kind_of(key: str, answers: Answers) -> Kind:
    """Rows with answers of one naming are one column: output_1 says more of a 1 than a list does."""
    names = answers.names
    for start in (0, 1):
        if answers.family == "digits" and names == [str(start + n) for n in range(len(names))]:
            return key, f"named from {start}"
    return key, "unnumbered"


def facts_of(key: str, value: object, answers: Answers) -> Iterator[tuple[Kind, Any]]:
    """What a row's cell tells of its column: which numbers occur, and whether there are words."""
    said, kind = said_in(value, answers), kind_of(key, answers)
    if said.kind != "number":
        yield kind, said.kind
        return
    yield kind, _place_of(said.number, len(answers.texts))
    yield ("for example", kind), said.number


def _place_of(value: float, count: int) -> str:
    """Where a number lies if `count` answers are counted from 0 or from 1."""
    if value.is_integer():
        names = {0: "zero", count: "last"}
        return names.get(int(value), "inside" if 0 < value < count else "beyond")
    if count == 2 and 0 < value < 1:
        return "half" if value == 0.5 else "below 1"
    if count == 2 and 1 < value < 2:
        return "above 1"
    return "beyond"


def _base(kind: Kind, seen: Set[object], ties_are_0: bool) -> int | None:
    """0 or 1: what the column counts from. None where both may be, or neither.

    A 0 is a tie where the column counts from 1, which the second answer, a share above 1, or the
    answers' own names show.
    """
    named = kind[1]
    if seen & {"beyond", "below 1"} or ("half" in seen and seen & {"last", "above 1"}):
        return None
    if "half" in seen:
        return 0
    if "above 1" in seen:
        return 1
    if named == "named from 0":
        return None if {"zero", "last"} <= seen else 1 if "last" in seen else 0
    if named == "named from 1" and ("last" in seen or "zero" not in seen or ties_are_0):
        return 1
    if {"zero", "last"} <= seen or not seen & {"zero", "last"}:
        return None
    if "zero" in seen and ("inside" not in seen or _may_be_tie(kind)):
        return None
    return 0 if "zero" in seen else 1


_CLASSES = re.compile(r"labels?|标签|标注|(?:best|chosen).*|.*(?:index|idx|id|number)")


def _may_be_tie(kind: Kind) -> bool:
    """Whether a 0 may be a tie: a winner or a preference may, a class or a place in a list not."""
    return _CLASSES.fullmatch(plain(kind[0])) is None


def verdict_of(
    key: str,
    value: object,
    answers: Answers,
    columns: Columns,
    *,
    base: int | None = None,
    ties_are_0: bool = False,
    column: str = "",
) -> Verdict:
    """What a cell says of the answers; `base` 0 or 1 is what a person or a publication says of it.

    Raises Refused for a cell that names none of them, and RefusedFile where nothing but numbers is
    in the column and it cannot be told what they count from.
    """
    said = said_in(value, answers)
    if said.kind == "answer":
        return Verdict(choice=said.answer, preference=0.5 if said.answer == TIE else 1.0)
    names = ", ".join(answers.names)
    if said.kind == "missing":
        raise Refused(
            f'"{key}" is {shown(value)}: nothing says which answer is better',
            f'write one of {names} or "tie", or remove the row',
        )
    if said.kind != "number":
        none = f"which names none of the answers {names}"
        two = "which is the text of one answer, and may be the name of another"
        raise Refused(
            f'"{key}" is {shown(value)}, {two if said.kind == "unclear" else none}',
            f'write one of {names} or "tie", or remove the row',
        )
    if answers.family == "digits" and kind_of(key, answers)[1] == "unnumbered":
        return _by_digits(key, said.number, answers)
    kind = kind_of(column or key, answers)
    seen = columns.seen(kind)
    base = _base(kind, seen, ties_are_0) if base is None else base
    if base is None:
        raise _undecided(key, value, answers, seen, columns.seen(("for example", kind)))
    return _counted(key, said.number, answers, base)


def _by_digits(key: str, said: float, answers: Answers) -> Verdict:
    """Answers 2 and 5 are what is called 2 and 5."""
    if f"{said:g}" not in answers.texts:
        names = ", ".join(answers.names)
        problem = f'"{key}" is {said:g}, which names none of the answers {names}'
        raise Refused(problem, f"write one of {names}, or remove the row")
    return Verdict(choice=f"{said:g}")


def _counted(key: str, said: float, answers: Answers, base: int) -> Verdict:
    place = said - base
    if base == 1 and said == 0 and kind_of(key, answers)[1] != "named from 0":
        return Verdict(choice=TIE, preference=0.5)
    if place.is_integer() and 0 <= place < len(answers.names):
        return Verdict(choice=answers.names[int(place)])
    if 0 < place < 1 and len(answers.names) == 2:
        better = answers.names[int(place > 0.5)]
        return Verdict(choice=TIE if place == 0.5 else better, preference=max(place, 1 - place))
    raise Refused(
        f'"{key}" is {said:g}, which names none of the {len(answers.names)} answers',
        f"write a number from {base} to {base + len(answers.names) - 1}, or remove the row",
    )


def _undecided(
    key: str, value: object, answers: Answers, seen: Set[Any], examples: Set[Any]
) -> Refused:
    told = [f"{example:g}" for example in sorted(examples)]
    numbers = ", ".join(told[:8]) + (", ..." if len(told) > 8 else "")
    if "beyond" in seen:
        why = f"there are {len(answers.names)} answers, and it cannot be told what these mean"
    elif "below 1" in seen:
        why = "a number between 0 and 1 may be the share of the first answer or of the second"
    elif "zero" in seen and seen & {"last", "half", "above 1"}:
        why = "0 may be the first answer or a tie"
    elif "zero" in seen:
        why = "a 0 may be the first answer of a column that counts from 0, or a tie"
    else:
        why = "the column may count from 0 or from 1"
    raised = Refused if seen & {"answer"} else RefusedFile
    return raised(
        f'"{key}" is {shown(value)} (in the column: {numbers}), and {why}',
        f"write the answers' names ({', '.join(answers.names)}), or say what the column counts from: "
        "--format chosen-from-0 or --format chosen-from-1",
    )
