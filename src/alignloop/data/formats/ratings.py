"""Points inside texts: at the ends of answers, and in texts of a question with its answers.

A number at an answer's end is a rating only if the whole column has one there, set off from the
sentence, on one scale, and if nothing else judges the answers: "It is 3/4" is none.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from alignloop.data.formats.answers import ANSWER, ID, SCORE, Answers
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.registry import Row

_TAIL = 40  # characters at the end of an answer that are searched for points
_NUMBER = r"(\d+(?:\.\d+)?)"
_UNIT = r"(分|points?|/\s*(?:5|7|10|100)(?!\d))"
_SET_OFF = re.compile(
    rf"\s*(?:[(（\[【]\s*(?:{SCORE})?\s*[:：]?\s*{_NUMBER}\s*{_UNIT}\s*[)）\]】]"
    rf"|[(（\[【]?\s*(?:{SCORE})\s*[:：]\s*{_NUMBER}\s*{_UNIT}?\s*[)）\]】]?"
    rf"|(?:(?<=[。！？.!?;；\n])|(?<=\n))[ \t]*{_NUMBER}\s*(分|points?))\s*[.。]?\s*$",
    re.I,
)
_BARE = re.compile(rf"(?:(?<=\s)|(?<=[^\w\s])){_NUMBER}\s*(分|points?)\s*$", re.I)
_POINTS_OF_MARKER = (
    rf"(?:[(（\[【]?\s*(?:{SCORE})?\s*[:：]?\s*{_NUMBER}\s*{_UNIT}\s*[)）\]】]?"
    rf"|[(（\[【]?\s*(?:{SCORE})\s*[:：]?\s*{_NUMBER}\s*[)）\]】]?)"
)
_ASKED = "问题|提问|用户问题|提示词|提示|指令|question|prompt|instruction|q"
_MARKER = re.compile(
    rf"^[ \t]*(?:({_ASKED})(?:\s*[(（][^)）\n]*[)）])?|(?:{ANSWER})\s*({ID}))"
    rf"\s*{_POINTS_OF_MARKER}?\s*(?:[:：]|(?<=分)\s)",
    re.I | re.M,
)
TEXTS = ("text", "内容", "文本")


def cut_points(answer: str) -> tuple[str, float, str] | None:
    """The answer without the points at its end, the points, and their scale: "分", "/10"."""
    tail = answer[-_TAIL:]
    found = _SET_OFF.search(tail) or _BARE.search(tail)
    if not found:
        return None
    value, unit = _value_and_unit(found.groups())
    whole = answer[: len(answer) - len(tail) + found.start()].rstrip()
    return (whole, value, unit) if whole else None


def _is_set_off(answer: str) -> bool:
    return _SET_OFF.search(answer[-_TAIL:]) is not None


def _value_and_unit(groups: tuple[str | None, ...]) -> tuple[float, str]:
    """Number and unit from the groups of a pattern, of which one alternative matched."""
    given = [group for group in groups if group]
    unit = re.sub(r"\s", "", given[1].lower()) if len(given) > 1 else "分"
    return float(given[0]), "分" if unit.startswith("point") else unit


def scale_at_ends(answers: Answers) -> str:
    """The common scale of the points at the ends of all answers; "" if there is none.

    Bare points ("y 9 分") count next to set-off ones: "（6 分）", "评分：6", "... end. 6 分".
    """
    found = [cut_points(answer) for answer in answers.texts.values()]
    scales = {cut[2] for cut in found if cut}
    set_off = any(_is_set_off(answer) for answer in answers.texts.values())
    return scales.pop() if all(found) and len(scales) == 1 and set_off else ""


def rated_at_ends(answers: Answers) -> Answers:
    """The answers without the points at their ends, which become scores."""
    found = {name: cut for name, answer in answers.texts.items() if (cut := cut_points(answer))}
    assert len(found) == len(answers.texts), "the column has points at all ends"
    return replace(
        answers,
        texts={name: cut[0] for name, cut in found.items()},
        scores={name: cut[1] for name, cut in found.items()},
    )


def answers_of_text(row: Row) -> Answers | None:
    """Question, answers and points from one text of a row."""
    texts = (one for key in TEXTS if isinstance(one := row.get(key), str))
    return next((found for one in texts if (found := answers_in_text(one)[0])), None)


def answers_in_text(content: str) -> tuple[Answers | None, str]:
    """Lines such as 问题：... 回答A：... 6 分 回答B：... 9 分, and the scale; None for other texts.

    The points may also follow an answer's name: 回答A（评分：6分）：, with the answer below.
    """
    marks = list(_marks(content))
    if not marks:
        return None, ""
    ends = [*(mark.start() for mark in marks[1:]), len(content)]
    texts: dict[str, str] = {}
    scores: dict[str, float] = {}
    scales: set[str] = set()
    question = content[: marks[0].start()].strip()
    for mark, end in zip(marks, ends, strict=True):
        part = content[mark.end() : end].strip()
        if mark[1]:
            question = part
            continue
        name = mark[2].lower()
        if name in texts:
            return None, ""
        texts[name] = part
        if any(mark.groups()[2:]):
            scores[name], scale = _value_and_unit(mark.groups()[2:])
            scales.add(scale)
        elif cut := cut_points(part):
            texts[name], scores[name], scale = cut
            scales.add(scale)
    whole = len(texts) > 1 and scores.keys() == texts.keys() and question and len(scales) == 1
    if not whole:
        return None, ""
    return Answers(texts=texts, scores=scores, question=question), scales.pop()


def _marks(content: str) -> Iterator[re.Match[str]]:
    """The starts of question and answers; a question within an answer is part of it."""
    answered = False
    for mark in _MARKER.finditer(content):
        if mark[1] and answered:
            continue
        answered = answered or not mark[1]
        yield mark


def one_scale(columns: Columns, column: str) -> bool:
    """Whether all rows of a column have points, on one scale."""
    seen = columns.seen(column)
    return len(seen) == 1 and "" not in seen


def scale_in_text(row: Row) -> str | None:
    """The scale of a text of question and answers, "" if it is none; None without a text."""
    texts = [one for key in TEXTS if isinstance(one := row.get(key), str)]
    return (
        next((scale for one in texts if (scale := answers_in_text(one)[1])), "") if texts else None
    )
