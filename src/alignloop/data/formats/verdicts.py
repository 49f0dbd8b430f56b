"""Which answer a cell calls better: by a word, a number or a share; and what a column means.

A number alone is ambiguous: 1 is the first answer if a column counts from 1, and the second if it
counts from 0. `facts_of` describes a cell, all rows together decide (`_base`), and if two readings
remain, the file is refused.
"""

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import lru_cache

from alignloop.data.formats.answers import Answers, plain
from alignloop.data.formats.columns import Columns, Fact
from alignloop.data.formats.registry import Refused, RefusedFile, Row, shown
from alignloop.data.formats.winner_words import TIE, read_cell
from alignloop.data.narrow import Json


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The better answer's name, or a tie; `preference` 0.5..1 is the probability that it is."""

    choice: str
    preference: float = 1.0


# --- keys --------------------------------------------------------------------------------------

CHOICE = re.compile(
    # a comparison's or a judgement's own id does not name an answer
    r"(?!.*(?:votes?|verdict|judge?ment|selection|comparison|preference)(?:id|idx|index|number)$)"
    r"(?:human|annotator|overall|final|gold|expert|majority|gpt4|is)?"
    r"(?:winner|winning|preferred|preference|better|best|chosen|choice|votes?|verdict|judge?ment"
    r"|selected|selection|comparison)"
    r"(?:response|answer|output|completion|option|side|model|index|idx|id|label|number)?"
    r"|胜者|胜方|获胜者|优胜|选择|优选|偏好|更好|较好|最好|最佳|最佳回答|更好的回答|投票|判断"
)
LABEL = re.compile(r"(?:human|gold|final|true)?(?:labels?|annotation)(?:id|idx)?|标签|标注")
VOTER = re.compile(
    r"(?:annotator|annotation|rater|judge|labell?er|worker|evaluator|reviewer|标注员|标注者|标注人|评审)"
    r"(?:\d{1,2}|[a-h])(?:choice|vote|label|preference|winner)?"
)


def keys_like(pattern: re.Pattern[str], row: Row, answers: Answers) -> list[str]:
    """The keys of a row that say which answer is better, in order."""
    return [key for key in row if _matches(pattern, key) and not is_table(key, row[key], answers)]


@lru_cache(4096)
def _matches(pattern: re.Pattern[str], key: str) -> bool:
    return pattern.fullmatch(plain(key)) is not None


def is_table(key: str, value: Json, answers: Answers) -> bool:
    """Whether "preference" holds one number for each two answers."""
    couples = len(answers.texts) * (len(answers.texts) - 1) // 2
    return key == "preference" and isinstance(value, list) and len(value) == couples


# --- columns -----------------------------------------------------------------------------------

Kind = tuple[str, str]  # the column's name, and how the answers of the row are named


def kind_of(key: str, answers: Answers) -> Kind:
    """Rows with equally named answers form one column: with output_1, a 1 is less ambiguous."""
    names = answers.names
    for start in (0, 1):
        if answers.family == "digits" and names == [str(start + n) for n in range(len(names))]:
            return key, f"named from {start}"
    return key, "unnumbered"


def facts_of(key: str, value: Json, answers: Answers) -> Iterator[Fact]:
    """What a cell shows about its column: which numbers occur, and whether there are words."""
    cell, kind = read_cell(value, answers), kind_of(key, answers)
    if cell.kind != "number":
        yield kind, cell.kind
        return
    yield kind, _place_of(cell.number, len(answers.texts))
    yield ("for example", kind), cell.number


def _place_of(value: float, count: int) -> str:
    """The position of a number if `count` answers are counted from 0 or from 1."""
    if value.is_integer():
        names = {0: "zero", count: "last"}
        return names.get(int(value), "inside" if 0 < value < count else "beyond")
    if count == 2 and 0 < value < 1:
        return "half" if value == 0.5 else "below 1"
    if count == 2 and 1 < value < 2:
        return "above 1"
    return "beyond"


def _base(kind: Kind, seen: Set[object], ties_are_0: bool) -> int | None:
    """0 or 1: what the column counts from. None if both are possible, or neither.

    A 0 is a tie if the column counts from 1, which the last answer's number, a share above 1, or
    the answers' own names show.
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


_CLASSES = re.compile(r".*labels?|标签|标注|(?:best|chosen).*|.*(?:index|idx|id|number)")


def _may_be_tie(kind: Kind) -> bool:
    """Whether a 0 may be a tie: yes for a winner or a preference, no for a class or an index."""
    return _CLASSES.fullmatch(plain(kind[0])) is None


def verdict_of(
    key: str,
    value: Json,
    answers: Answers,
    columns: Columns,
    *,
    base: int | None = None,
    ties_are_0: bool = False,
    column: str = "",
) -> Verdict:
    """The verdict in a cell; `base` 0 or 1 is known from the user or the publication.

    Raises Refused for a cell that names no answer, and RefusedFile if the column has only numbers
    and it is unclear what they count from.
    """
    cell = read_cell(value, answers)
    if cell.kind == "answer":
        return Verdict(choice=cell.answer, preference=0.5 if cell.answer == TIE else 1.0)
    names = ", ".join(answers.names)
    if cell.kind == "missing":
        raise Refused(
            f'"{key}" is {shown(value)}, which does not say which answer is better',
            f'write one of {names} or "tie", or remove the row',
        )
    if cell.kind != "number":
        none = f"which names none of the answers {names}"
        two = "which is the text of one answer, but may be the name of another"
        raise Refused(
            f'"{key}" is {shown(value)}, {two if cell.kind == "unclear" else none}',
            f'write one of {names} or "tie", or remove the row',
        )
    if answers.family == "digits" and kind_of(key, answers)[1] == "unnumbered":
        return _by_digits(key, cell.number, answers)
    kind = kind_of(column or key, answers)
    seen = columns.seen(kind)
    base = _base(kind, seen, ties_are_0) if base is None else base
    if base is None:
        raise _undecided(key, value, answers, seen, columns.seen(("for example", kind)))
    return _counted(key, cell.number, answers, base)


def _by_digits(key: str, value: float, answers: Answers) -> Verdict:
    """If the answers are 2 and 5, their names are 2 and 5."""
    if f"{value:g}" not in answers.texts:
        names = ", ".join(answers.names)
        problem = f'"{key}" is {value:g}, which names none of the answers {names}'
        raise Refused(problem, f"write one of {names}, or remove the row")
    return Verdict(choice=f"{value:g}")


def _counted(key: str, value: float, answers: Answers, base: int) -> Verdict:
    place = value - base
    if base == 1 and value == 0 and kind_of(key, answers)[1] != "named from 0":
        return Verdict(choice=TIE, preference=0.5)
    if place.is_integer() and 0 <= place < len(answers.names):
        return Verdict(choice=answers.names[int(place)])
    if 0 < place < 1 and len(answers.names) == 2:
        better = answers.names[int(place > 0.5)]
        return Verdict(choice=TIE if place == 0.5 else better, preference=max(place, 1 - place))
    raise Refused(
        f'"{key}" is {value:g}, which names none of the {len(answers.names)} answers',
        f"write a number from {base} to {base + len(answers.names) - 1}, or remove the row",
    )


def _undecided(
    key: str, value: Json, answers: Answers, seen: Set[object], examples: Set[object]
) -> Refused:
    listed = [f"{one:g}" for one in sorted(one for one in examples if isinstance(one, float))]
    numbers = ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")
    if "beyond" in seen:
        why = f"there are {len(answers.names)} answers, so the meaning of these is unclear"
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
        f"write the answers' names ({', '.join(answers.names)}), or choose what the column counts "
        "from: --format chosen-from-0 or --format chosen-from-1",
    )
