"""Several answers to one question: in columns (回答A, output_1), in a list, or in one text."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from alignloop.data.formats.parts import number, text
from alignloop.data.formats.registry import Refused, Row, shown
from alignloop.data.narrow import Json, are_objects, are_texts, first_list, first_text

ANSWER = "候选回答|候选|回答|答案|回复|答|answer|response|output|completion|reply|prediction"
SCORE = "评分|分数|得分|打分|分|score|rating|points"
_RANK = "排名|名次|rank"
ID = r"[a-l]|\d{1,2}|[甲乙丙丁戊]"
POINTS = r"(\d+(?:\.\d+)?)\s*(?:分|points?|/\s*\d+)"
_COLUMN = re.compile(f"(?:{ANSWER})({ID})|({ID})的?(?:{ANSWER})")
# "回答A（评分：6分）" is a key that also contains the points.
_RATED_COLUMN = re.compile(
    rf"\s*(?:{ANSWER})[\s_-]*({ID})\s*[(\[【]\s*(?:{SCORE})?\s*:?\s*(?:{POINTS}|(\d+(?:\.\d+)?))"
    r"\s*[)\]】]\s*:?\s*",
    re.I,
)
_SCORE_COLUMN = re.compile(f"(?:{SCORE})({ID})|(?:{ANSWER})?({ID})的?(?:{ANSWER})?(?:{SCORE})")
_RANK_COLUMN = re.compile(f"(?:{_RANK})({ID})|(?:{ANSWER})?({ID})的?(?:{ANSWER})?(?:{_RANK})")
_WHOSE_COLUMN = re.compile(f"(?:model|generator|system|模型)(?:name|id)?({ID})")
_LIKE_AN_ANSWER = re.compile(
    f"{ANSWER}|chosen|rejected|target|summary|label|winner|{SCORE}|{_RANK}"
)
_LISTS = ("answers", "responses", "completions", "outputs", "candidates", "回答", "答案")
_LISTS_OF_TEXTS = ("output", "response", "answer", "completion")  # may also hold one answer
_TEXTS = ("text", "response", "answer", "content", "completion", "output", "回答", "内容")
_SCORES = ("score", "rating", "overall_score", "points", "评分", "分数", "得分")
_RANKS = ("rank", "ranking", "排名", "名次")
_NAMES = ("id", "name", "model", "response_id", "answer_id")
_MARKS = ("chosen", "is_chosen", "selected", "preferred", "best", "is_best", "winner", "label")
_SCORE_LISTS = ("scores", "ratings", "评分", "分数")
_RANK_LISTS = ("ranks", "rank", "排名", "名次")
STEMS = "甲乙丙丁戊"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers by name ("a", "1"), with the scores and ranks that the row gives.

    They are in the order of their names, or of the list. `family` is the kind of names: digits,
    letters, places (in a list, counted from 1 by us only) or mixed. `others` are further names of
    answers, such as that of the model. `rated` and `ranked`: the row has such columns, whatever is
    in them. `marks` are the values of "chosen" or "label" in the answers themselves.
    """

    texts: Mapping[str, str]
    family: str = "places"
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    ranks: Mapping[str, float] = field(default_factory=dict[str, float])
    others: Mapping[str, str] = field(default_factory=dict[str, str])
    rated: bool = False
    ranked: bool = False
    marks: tuple[Json, ...] = ()
    question: str = ""

    @property
    def names(self) -> list[str]:
        """The names in order."""
        return list(self.texts)


def answers_in(row: Row) -> Answers | None:
    """The answers of a row; None if there are fewer than two."""
    return _in_columns(row) or _in_list(row)


def looks_like_an_answer(key: str) -> bool:
    """Whether a column's name suggests an answer, or an opinion of one."""
    return bool(_LIKE_AN_ANSWER.search(plain(key)))


@lru_cache(4096)
def plain(key: str) -> str:
    """A key without case, spaces and punctuation: "回答A（评分）" is 回答a评分."""
    return re.sub(r"[\s_\-.:()\[\]【】]", "", unicodedata.normalize("NFKC", key)).lower()


def points_of(value: object) -> float | None:
    """6, "6", "6 分", "6/10"."""
    if isinstance(value, str) and (found := re.fullmatch(rf"\s*{POINTS}\s*", value, re.I)):
        return float(found[1])
    return number(value)


@lru_cache(4096)  # all rows share a few keys
def _role_of(key: str) -> tuple[str, str, str]:
    """The role of a column by its key, the answer it belongs to, and points in the key itself."""
    name = plain(key)
    if found := _COLUMN.fullmatch(name):
        return "answer", (found[1] or found[2]).lower(), ""
    if found := _RATED_COLUMN.fullmatch(unicodedata.normalize("NFKC", key)):
        return "answer", found[1].lower(), found[2] or found[3]
    for role, pattern in (("score", _SCORE_COLUMN), ("rank", _RANK_COLUMN)):
        if found := pattern.fullmatch(name):
            return role, found[1] or found[2], ""
    whose = _WHOSE_COLUMN.fullmatch(name)
    return ("whose", whose[1], "") if whose else ("", "", "")


def _in_columns(row: Row) -> Answers | None:
    texts: dict[str, str] = {}
    inside: dict[str, Row] = {}
    scores: dict[str, object] = {}
    ranks: dict[str, object] = {}
    whose: dict[str, object] = {}
    for key in row:  # not the values: columns that are not answers must not count as read
        role, place, points = _role_of(str(key))
        if role == "answer":
            value = row[key]
            if isinstance(value, str):
                texts[place] = texts[place] if place in inside else value
                scores |= {place: points} if points else {}
            elif isinstance(value, dict) and (content := _text_in(value)) is not None:
                texts[place], inside[place] = content, value
        elif role == "score":
            scores[place] = row[key]
        elif role == "rank":
            ranks[place] = row[key]
        elif role == "whose":
            whose[place] = Row.get(row, key)
    if len(texts) < 2:
        return None
    family, names = _ordered(texts)
    more = _of_items({name: inside[name] for name in names if name in inside})
    return Answers(
        texts={name: texts[name] for name in names},
        family=family,
        scores={
            **_numbers({name: scores[name] for name in names if name in scores}),
            **more.scores,
        },
        ranks={**_numbers({name: ranks[name] for name in names if name in ranks}), **more.ranks},
        others=_unlike({name: whose.get(name) for name in names}),
        rated=bool(scores.keys() & texts.keys()) or more.rated,
        ranked=bool(ranks.keys() & texts.keys()) or more.ranked,
        marks=more.marks if len(inside) == len(names) else (),
    )


def _ordered(names: Mapping[str, str]) -> tuple[str, list[str]]:
    """The kind of names, and the names in order; mixed names keep theirs."""
    if all(name.isdigit() for name in names):
        return "digits", sorted(names, key=int)
    if all(name in STEMS for name in names):
        return "letters", sorted(names, key=STEMS.index)
    if all(name.isascii() and name.isalpha() for name in names):
        return "letters", sorted(names)
    return "mixed", list(names)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    found = {name: points_of(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def _unlike(values: Mapping[str, object]) -> dict[str, str]:
    """Answer names by what else they are called, if all of those names differ."""
    called = {name: str(value).strip().lower() for name, value in values.items() if value}
    whole = len(called) == len(values) and len(set(called.values())) == len(called)
    return {value: name for name, value in called.items()} if whole else {}


def _in_list(row: Row) -> Answers | None:
    items = first_list(row, _LISTS)
    if items is None:
        items = first_list(row, _LISTS_OF_TEXTS) or []
        if not all(isinstance(item, str) for item in items):
            return None
    if len(items) < 2:
        return None
    if are_texts(items):
        texts = {str(place): item for place, item in enumerate(items, start=1)}
        scores = _parallel(row, _SCORE_LISTS, len(items))
        ranks = _parallel(row, _RANK_LISTS, len(items))
        return Answers(
            texts=texts,
            scores=scores or {},
            ranks=ranks or {},
            rated=scores is not None,
            ranked=ranks is not None,
        )
    if not are_objects(items) or any(_text_in(item) is None or _is_turn(item) for item in items):
        return None
    return _of_items({str(place): item for place, item in enumerate(items, start=1)})


def _text_in(item: Row) -> str | None:
    return first_text(item, _TEXTS)


def _is_turn(item: Row) -> bool:
    return "role" in item or "from" in item


def _of_items(items: Mapping[str, Row]) -> Answers:
    """Answers that are objects: with text, score, rank and a name."""
    scores = {n: item[key] for n, item in items.items() for key in _SCORES if key in item}
    ranks = {n: item[key] for n, item in items.items() for key in _RANKS if key in item}
    called = {n: next((item[k] for k in _NAMES if k in item), None) for n, item in items.items()}
    marks = [next((item[k] for k in _MARKS if k in item), None) for item in items.values()]
    return Answers(
        texts={n: one for n, item in items.items() if (one := _text_in(item)) is not None},
        scores=_numbers(scores),
        ranks=_numbers(ranks),
        others=_unlike(called),
        rated=bool(scores),
        ranked=bool(ranks),
        marks=tuple(marks) if any(mark is not None for mark in marks) else (),
    )


def _parallel(row: Row, keys: tuple[str, ...], count: int) -> dict[str, float] | None:
    """Numbers in a list parallel to the answers; None if there is no such list."""
    listed = first_list(row, keys)
    if listed is None:
        return None
    if len(listed) != count:
        return {}
    return _numbers({str(place): value for place, value in enumerate(listed, start=1)})


def checked_texts(answers: Answers) -> list[str]:
    """The answers in order; refused if one is blank."""
    return [
        text({f"answer {name}": answer_text}, f"answer {name}")
        for name, answer_text in answers.texts.items()
    ]


def for_all(answers: Answers, numbers: Mapping[str, float], what: str) -> list[float]:
    """The numbers in the order of the answers; refused if one is missing."""
    missing = [name for name in answers.texts if name not in numbers]
    if missing:
        raise Refused(
            f"answer {missing[0]} has no {what}", f"give each answer a {what}, or remove the row"
        )
    return [numbers[name] for name in answers.texts]


def ranks_of_order(key: str, order: str | list[Json], answers: Answers) -> dict[str, float]:
    """Ranks from 0 for an order, best first: "B > A = C", ["b", "a"], [1, 0].

    Raises Refused if it names something else, or an answer twice.
    """
    steps: list[Sequence[Json]]
    if isinstance(order, str):
        steps = [re.split(r"[=＝]", step) for step in re.split(r"[>＞,，]", order)]
    else:
        steps = [step if isinstance(step, list) else [step] for step in order]
    named = [[_order_name(name) for name in step] for step in steps]
    from_0 = "0" not in answers.texts and any("0" in step for step in named)
    by_text = {answer_text.strip().lower(): name for name, answer_text in answers.texts.items()}
    ranks: dict[str, float] = {}
    for rank, step in enumerate(named):
        for name in step:
            answer = _in_order(str(int(name) + 1) if from_0 and name.isdigit() else name, answers)
            if isinstance(order, list) and answer and by_text.get(name, answer) != answer:
                answer = None  # the name of one answer and the text of another: ambiguous
            answer = answer or by_text.get(name)
            if answer is None or answer in ranks:
                raise Refused(
                    f'"{key}" contains {shown(name)}, which is not an answer or occurs twice',
                    f"list each of {', '.join(answers.texts)} once, best first",
                )
            ranks[answer] = float(rank)
    return ranks


def _order_name(name: object) -> str:
    found = number(name)
    if found is not None and found.is_integer():
        return str(int(found))  # pandas writes 2.0
    return str(name).strip().lower()


def _in_order(name: str, answers: Answers) -> str | None:
    """An answer by name, or by position if the names are of another kind: 2 is b."""
    if name in answers.texts or name in answers.others:
        return answers.others.get(name, name)
    place = int(name) - 1 if name.isdigit() else ord(name) - ord("a") if len(name) == 1 else -1
    other_sort = answers.family == ("letters" if name.isdigit() else "digits")
    fits = (other_sort or answers.family == "places") and 0 <= place < len(answers.names)
    return answers.names[place] if fits else None
