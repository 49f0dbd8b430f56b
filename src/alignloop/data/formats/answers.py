"""Several answers to one question: in columns (回答A, output_1), in a list, or in one text."""

import re
from dataclasses import dataclass
from typing import Any

from alignloop.data.formats.parts import number, text
from alignloop.data.formats.registry import Refused, Row

_ANSWER = "候选回答|候选|回答|答案|回复|答|answer|response|output|completion|reply|prediction"
_SCORE = "评分|分数|得分|打分|分|score|rating|points"
_RANK = "排名|名次|rank"
_ID = r"[a-l]|\d{1,2}|[甲乙丙丁戊]"
_COLUMN = re.compile(f"(?:{_ANSWER})({_ID})|({_ID})的?(?:{_ANSWER})")
_SCORE_COLUMN = re.compile(
    f"(?:{_SCORE})({_ID})|(?:{_ANSWER})?({_ID})的?(?:{_ANSWER})?(?:{_SCORE})"
)
_RANK_COLUMN = re.compile(f"(?:{_RANK})({_ID})|(?:{_ANSWER})?({_ID})的?(?:{_ANSWER})?(?:{_RANK})")
_LIKE_AN_ANSWER = re.compile(
    f"{_ANSWER}|chosen|rejected|target|summary|label|winner|{_SCORE}|{_RANK}"
)
_POINTS = r"(\d+(?:\.\d+)?)\s*(?:分|points?|/\s*\d+)"
_AT_END = re.compile(
    rf"\s*[(（\[【]?\s*(?:评分|得分|score|rating)?\s*[:：]?\s*{_POINTS}\s*[)）\]】]?\s*$", re.I
)
_TAIL = 40  # characters in which points at the end of an answer may stand
_MARKER = re.compile(
    rf"^[ \t]*(?:(问题|提问|question|prompt|q)|(?:{_ANSWER})\s*({_ID}))"
    rf"\s*[(（\[【]?\s*(?:{_POINTS})?\s*[)）\]】]?\s*(?:[:：]|(?<=分)\s)",
    re.I | re.M,
)
_LISTS = ("answers", "responses", "completions", "outputs", "candidates", "回答", "答案")
_TEXTS = ("text", "response", "answer", "content", "completion", "output", "回答")
_SCORES = ("score", "rating", "overall_score", "points", "评分", "分数", "得分")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers by their names ("a", "1"), with scores and ranks as far as they are told."""

    texts: dict[str, str]
    scores: dict[str, float]
    ranks: dict[str, float]
    question: str = ""


def answers_in(row: Row) -> Answers | None:
    """What a row tells of its answers; None where it holds fewer than two."""
    return _in_columns(row) or _in_list(row)


def looks_like_an_answer(key: str) -> bool:
    """Whether a column's name says that it holds an answer, or what somebody thinks of one."""
    return bool(_LIKE_AN_ANSWER.search(_plain(key)))


def _plain(key: str) -> str:
    return re.sub(r"[\s_\-.:：]", "", key).lower()


def _in_columns(row: Row) -> Answers | None:
    texts: dict[str, str] = {}
    scores: dict[str, float] = {}
    ranks: dict[str, float] = {}
    for key, value in row.items():
        name = _plain(str(key))
        if found := _COLUMN.fullmatch(name):
            if isinstance(value, str):
                texts[found[1] or found[2]] = key
        elif found := _SCORE_COLUMN.fullmatch(name):
            _put(scores, found[1] or found[2], _points(value))
        elif found := _RANK_COLUMN.fullmatch(name):
            _put(ranks, found[1] or found[2], _points(value))
    if len(texts) < 2:
        return None
    said = {name: row[key] for name, key in texts.items()}
    if not scores and not ranks:
        said, scores = _scores_at_ends(said)
    return Answers(texts=said, scores=scores, ranks=ranks)


def _put(found: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        found[name] = value


def _points(value: object) -> float | None:
    """6, "6", "6 分", "6/10"."""
    if isinstance(value, str) and (found := re.fullmatch(rf"\s*{_POINTS}\s*", value, re.I)):
        return float(found[1])
    return number(value)


def _scores_at_ends(said: dict[str, str]) -> tuple[dict[str, str], dict[str, float]]:
    """Where every answer ends with its points ("... 6 分"), these are no part of it."""
    found = {name: _cut_points(answer) for name, answer in said.items()}
    cut = {name: both[0] for name, both in found.items() if both}
    if len(cut) < len(said):
        return said, {}
    return cut, {name: both[1] for name, both in found.items() if both}


def _cut_points(answer: str) -> tuple[str, float] | None:
    """The answer without the points at its end, and these."""
    tail = answer[-_TAIL:]
    found = _AT_END.search(tail)
    return (answer[: len(answer) - len(tail) + found.start()], float(found[1])) if found else None


def _in_list(row: Row) -> Answers | None:
    key = next((key for key in _LISTS if isinstance(row.get(key), list)), None)
    if key is None or len(row[key]) < 2:
        return None
    items: list[Any] = row[key]
    if all(isinstance(item, str) for item in items):
        texts = {str(place): item for place, item in enumerate(items, start=1)}
        return Answers(
            texts=texts,
            scores=_parallel(row, ("scores", "ratings", "评分", "分数"), len(items)),
            ranks=_parallel(row, ("ranks", "rank", "排名", "名次"), len(items)),
        )
    fields = [item for item in items if isinstance(item, dict)]
    said = [next((item[name] for name in _TEXTS if name in item), None) for item in fields]
    if len(said) < len(items) or not all(isinstance(answer, str) for answer in said):
        return None
    texts = {str(place): str(answer) for place, answer in enumerate(said, start=1)}
    scores: dict[str, float] = {}
    ranks: dict[str, float] = {}
    for place, item in enumerate(fields, start=1):
        _put(
            scores,
            str(place),
            next((_points(item[name]) for name in _SCORES if name in item), None),
        )
        _put(ranks, str(place), _points(item.get("rank", item.get("排名"))))
    return Answers(texts=texts, scores=scores, ranks=ranks)


def _parallel(row: Row, keys: tuple[str, ...], count: int) -> dict[str, float]:
    """Numbers in a list beside the list of answers."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, list) and len(value) == count:
            points = [_points(item) for item in value]
            if all(point is not None for point in points):
                return {str(n): float(point or 0) for n, point in enumerate(points, start=1)}
    return {}


def answers_in_text(told: str) -> Answers | None:
    """Lines such as 问题：... 回答A：... 6 分 回答B：... 9 分; None for other texts."""
    marks = list(_MARKER.finditer(told))
    if not marks:
        return None
    ends = [*(mark.start() for mark in marks[1:]), len(told)]
    texts: dict[str, str] = {}
    scores: dict[str, float] = {}
    question = told[: marks[0].start()].strip()
    for mark, end in zip(marks, ends, strict=True):
        said = told[mark.end() : end].strip()
        if mark[1]:
            question = said
            continue
        name = mark[2].lower()
        texts[name] = said
        if mark[3]:
            scores[name] = float(mark[3])
        elif cut := _cut_points(said):
            texts[name], scores[name] = cut
    if len(texts) < 2 or scores.keys() != texts.keys() or not question:
        return None
    return Answers(texts=texts, scores=scores, ranks={}, question=question)


def checked_texts(answers: Answers) -> list[str]:
    """The answers in order; refused where one is blank."""
    return [
        text({f"answer {name}": said}, f"answer {name}") for name, said in answers.texts.items()
    ]


def for_all(answers: Answers, numbers: dict[str, float], what: str) -> list[float]:
    """The numbers in the order of the answers; refused where one is missing."""
    missing = [name for name in answers.texts if name not in numbers]
    if missing:
        raise Refused(
            f"answer {missing[0]} has no {what}", f"give each answer a {what}, or remove the row"
        )
    return [numbers[name] for name in answers.texts]
