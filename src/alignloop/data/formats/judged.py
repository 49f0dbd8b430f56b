"""Several answers that were judged: rated, ranked, compared two by two, or one of them chosen."""

import re
from itertools import combinations
from typing import Any

from alignloop.data.formats.answers import (
    Answers,
    answers_in,
    answers_in_text,
    checked_texts,
    for_all,
)
from alignloop.data.formats.parts import (
    asked_in,
    asks,
    check_distinct,
    digest_of,
    grouped_pairs,
    number,
    prompt,
    text,
)
from alignloop.data.formats.registry import Refused, Row, pairs, shown
from alignloop.records import PreferencePair

_ORDERS = ("ranking", "order", "排序")
_CHOICES = (
    "label",
    "winner",
    "preference",
    "choice",
    "preferred",
    "better",
    "chosen",
    "胜者",
    "选择",
)
_TIES = {"tie", "tied", "both", "equal", "same", "平", "平手", "一样"}
_TEXTS = ("text", "内容", "文本")


def _answers(row: Row) -> Answers:
    found = answers_in(row)
    assert found is not None, "the format is chosen where there are answers"
    return found


# --- ratings -----------------------------------------------------------------------------------


def _is_rated(row: Row) -> bool:
    found = answers_in(row) if asks(row) else None
    return found is not None and bool(found.scores)


@pairs("rated-answers", fits=_is_rated)
def _rated(row: Row, source: str) -> list[PreferencePair]:
    """回答A 6 分, 回答B 9 分: B is preferred, and the strength is the difference, 3 at most."""
    answers = _answers(row)
    scores = for_all(answers, answers.scores, "score")
    asked = prompt(row, source, asked_in(row))
    return grouped_pairs(asked, checked_texts(answers), scores, strength=True)


def _is_rated_text(row: Row) -> bool:
    return any(isinstance(row.get(key), str) and answers_in_text(row[key]) for key in _TEXTS)


@pairs("rated-text", fits=_is_rated_text)
def _rated_text(row: Row, source: str) -> list[PreferencePair]:
    """Question, answers and their points as one text."""
    told = next(row[key] for key in _TEXTS if isinstance(row.get(key), str))
    answers = answers_in_text(told)
    assert answers is not None, "fits has found it"
    asked = prompt(row, source, text({"question": answers.question}, "question"))
    scores = for_all(answers, answers.scores, "score")
    return grouped_pairs(asked, checked_texts(answers), scores, strength=True)


# --- rankings ----------------------------------------------------------------------------------


def _is_ranked(row: Row) -> bool:
    found = answers_in(row) if asks(row) else None
    ordered = any(isinstance(row.get(key), str | list) for key in _ORDERS)
    return found is not None and (bool(found.ranks) or ordered)


@pairs("ranked-answers", fits=_is_ranked)
def _ranked(row: Row, source: str) -> list[PreferencePair]:
    """Ranks (1 is the best) or an order, the best first ("B > A = C", or a list) of K answers."""
    answers = _answers(row)
    ranks = for_all(answers, answers.ranks or _ranks_of_order(row, answers), "rank")
    asked = prompt(row, source, asked_in(row))
    texts = checked_texts(answers)
    return grouped_pairs(asked, texts, [-rank for rank in ranks], strength=False)


def _ranks_of_order(row: Row, answers: Answers) -> dict[str, float]:
    key = next(key for key in _ORDERS if isinstance(row.get(key), str | list))
    order: Any = row[key]
    if isinstance(order, str):
        steps = [re.split(r"[=＝]", step) for step in re.split(r"[>＞,，]", order)]
    else:
        steps = [step if isinstance(step, list) else [step] for step in order]
    named = [[str(name).strip().lower() for name in step] for step in steps]
    if not any(name in answers.texts for step in named for name in step if name == "0"):
        zero = any(name == "0" for step in named for name in step)
        named = [[str(int(n) + 1) if zero and n.isdigit() else n for n in step] for step in named]
    by_text = {said.strip().lower(): name for name, said in answers.texts.items()}
    ranks: dict[str, float] = {}
    for rank, step in enumerate(named):
        for name in step:
            answer = name if name in answers.texts else by_text.get(name)
            if answer is None or answer in ranks:
                raise Refused(
                    f'"{key}" names {shown(name)}, which is no answer or stands there twice',
                    f"name each of {', '.join(answers.texts)} once, the best first",
                )
            ranks[answer] = float(rank)
    return ranks


# --- two by two --------------------------------------------------------------------------------


def _is_preference_table(row: Row) -> bool:
    found = answers_in(row) if asks(row) else None
    wanted = len(found.texts) * (len(found.texts) - 1) // 2 if found else 0
    return found is not None and len(row["preference"]) == wanted


@pairs("preference-table", fits=_is_preference_table, preference=list)
def _compared(row: Row, source: str) -> list[PreferencePair]:
    """One number for each two of K answers, (1, 2), (1, 3), ..: 1 the first, 2 the second, 0 a tie.

    Source: FineGrainedRLHF (Wu et al. 2023, arXiv:2306.01693), whose passages are left out.
    """
    texts = checked_texts(_answers(row))
    asked = prompt(row, source, asked_in(row))
    couples = list(combinations(range(len(texts)), 2))
    made: list[PreferencePair] = []
    for (i, j), said in zip(couples, row["preference"], strict=True):
        if number(said) not in (0, 1, 2):
            raise Refused(f'"preference" holds {shown(said)}', "write 0, 1 or 2, or remove the row")
        if texts[i].strip() == texts[j].strip():
            continue
        first, second = (j, i) if number(said) == 2 else (i, j)
        made.append(
            PreferencePair(
                prompt=asked,
                chosen=texts[first],
                rejected=texts[second],
                preference=0.5 if number(said) == 0 else 1.0,
                weight=1 / len(couples),
                source=asked.source,
                comparison_id=digest_of([asked.prompt_id, *texts]),
            )
        )
    if not made:
        raise Refused("there are no two different answers", "give two answers, or remove the row")
    return made


# --- one of them chosen ------------------------------------------------------------------------


@pairs("llmbar", input=str, output_1=str, output_2=str, label=(str, int))
def _llmbar(row: Row, source: str) -> list[PreferencePair]:
    """The label names the better one of two outputs."""
    if str(row["label"]) not in ("1", "2"):
        raise Refused(f'"label" is {shown(row["label"])}', "write 1 or 2, or remove the row")
    return _chosen_of(row, source)


def _is_chosen_of(row: Row) -> bool:
    found = answers_in(row) if asks(row) else None
    return found is not None and any(_choice(row, key, found) for key in _CHOICES)


def _choice(row: Row, key: str, answers: Answers) -> str:
    """The name of the answer that a key names ("B", 2, "output_2"), "tie", or none."""
    said = str(row.get(key, "")).strip().lower()
    if said in _TIES or said in answers.texts:
        return "tie" if said in _TIES else said
    last = re.sub(r"[\s_\-]", "", said)[-1:]
    named = re.fullmatch(r"(?:output|answer|response|model|回答|答案|option)[\s_\-]?\w", said)
    return last if named and last in answers.texts else ""


@pairs("chosen-answer", fits=_is_chosen_of)
def _chosen_of(row: Row, source: str) -> list[PreferencePair]:
    """LLMBar (output_1, output_2, label) and its like: the chosen one beats each other one."""
    answers = _answers(row)
    choice = next(found for key in _CHOICES if (found := _choice(row, key, answers)))
    texts = dict(zip(answers.texts, checked_texts(answers), strict=True))
    asked = prompt(row, source, asked_in(row))
    if choice == "tie":
        return grouped_pairs(asked, list(texts.values()), [0.0] * len(texts), strength=False)
    others = [said for name, said in texts.items() if name != choice]
    for other in others:
        check_distinct(texts[choice], other)
    return [
        PreferencePair(
            prompt=asked,
            chosen=texts[choice],
            rejected=other,
            weight=1 / len(others),
            source=asked.source,
            comparison_id=digest_of([asked.prompt_id, *texts.values()]),
        )
        for other in others
    ]
