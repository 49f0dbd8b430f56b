"""Published preference data with columns of their own: one small function for each."""

import json

from alignloop.data.formats.answers import Answers, answers_in
from alignloop.data.formats.parts import (
    asked_in,
    asks,
    grouped_pairs,
    messages,
    number,
    pair,
    prompt,
    text,
)
from alignloop.data.formats.registry import Refused, Row, pairs, shown
from alignloop.data.formats.verdicts import CHOICE, LABEL, keys_like
from alignloop.data.formats.winner_words import read_cell
from alignloop.data.narrow import Json, are_texts, list_at, object_at
from alignloop.records import Message, PreferencePair

_BETTER = ("better", "preferred", "chosen_response", "response_chosen", "win", "好回答", "更好")
_WORSE = (
    "worse",
    "dispreferred",
    "rejected_response",
    "response_rejected",
    "lose",
    "差回答",
    "更差",
)


def _named_pair(row: Row) -> tuple[str, str] | None:
    """The columns of the better and the worse answer."""
    return next(
        (
            (better, worse)
            for better, worse in zip(_BETTER, _WORSE, strict=True)
            if isinstance(row.get(better), str) and isinstance(row.get(worse), str)
        ),
        None,
    )


@pairs("better-worse", fits=lambda row: asks(row) and _named_pair(row))
def _better_worse(row: Row, source: str) -> list[PreferencePair]:
    """A question with a better and a worse answer, under names other than chosen and rejected."""
    named = _named_pair(row)
    assert named is not None, "fits has found it"
    return [pair(row, source, asked_in(row), text(row, named[0]), text(row, named[1]))]


def _judged(
    row: Row,
    source: str,
    asked: str | list[Message],
    answers: tuple[str, str],
    better: int | None,
    margin: float = 0.0,
) -> list[PreferencePair]:
    """Pairs from `better`, the index of the better answer, or None for a tie."""
    if better is None:
        # pair() reads preference, margin and weight from the row
        return [pair(row | {"preference": 0.5, "margin": 0.0}, source, asked, *answers)]
    fields = row | {"margin": margin} if margin else row
    return [pair(fields, source, asked, answers[better], answers[1 - better])]


def _ranked_outputs(row: Row) -> bool:
    """Whether only the order shows which is better: an explicit choice takes precedence."""
    answers = answers_in(row)
    outputs = row["output"]
    if answers is None or not are_texts(outputs) or len(outputs) < 2:
        return False
    return not keys_like(CHOICE, row, answers) and not keys_like(LABEL, row, answers)


@pairs("alpaca-ranked", fits=_ranked_outputs, instruction=str, output=list)
def _alpaca_ranked(row: Row, source: str) -> list[PreferencePair]:
    """LLaMA-Factory's older preference files: outputs in order, best first."""
    answers = [text({"output": one}, "output") for one in list_at(row, "output")]
    made = prompt(row, source, asked_in(row))
    return grouped_pairs(made, answers, [-float(n) for n in range(len(answers))], strength=False)


@pairs("shp", history=str, human_ref_A=str, human_ref_B=str, labels=(int, float, str))
def _shp(row: Row, source: str) -> list[PreferencePair]:
    """Stanford Human Preferences (Ethayarajh et al. 2022): labels is 1 if A has more votes."""
    better = _one_of(row, "labels", {"1": 0, "0": 1})
    answers = text(row, "human_ref_A"), text(row, "human_ref_B")
    return _judged(row, source, text(row, "history"), answers, better)


def _safe_question(row: Row) -> bool:
    return asks(row) and "is_response_0_safe" in row


@pairs("pku-saferlhf", fits=_safe_question, response_0=str, response_1=str)
def _safe_rlhf(row: Row, source: str) -> list[PreferencePair]:
    """PKU-SafeRLHF (Ji et al. 2023): the more helpful answer; `safer_response_id` is ignored."""
    better = _one_of(row, "better_response_id", {"0": 0, "1": 1})
    answers = text(row, "response_0"), text(row, "response_1")
    return _judged(row, source, asked_in(row), answers, better)


@pairs(
    "helpsteer-preference",
    fits=asks,
    response_1=str,
    response_2=str,
    preference_strength=(int, float, str),
)
def _helpsteer(row: Row, source: str) -> list[PreferencePair]:
    """HelpSteer2 (Wang et al. 2024): from -3, the first is much better, to 3, the second is."""
    strength = number(row["preference_strength"])
    if strength is None or abs(strength) > 3:
        raise Refused(
            f'"preference_strength" is {shown(row["preference_strength"])}',
            "write a number from -3 to 3, or remove the row",
        )
    better = None if strength == 0 else int(strength > 0)
    answers = text(row, "response_1"), text(row, "response_2")
    return _judged(row, source, asked_in(row), answers, better, abs(strength))


@pairs("webgpt", question=dict, answer_0=str, answer_1=str)
def _webgpt(row: Row, source: str) -> list[PreferencePair]:
    """WebGPT comparisons (Nakano et al. 2021): scores in -1..1; equal ones are a tie."""
    asked = text(object_at(row, "question"), "full_text")
    first, second = (number(row.get(f"score_{place}")) for place in (0, 1))
    if first is None or second is None:
        raise Refused("a score is missing", 'give "score_0" and "score_1", or remove the row')
    answers = [text(row, "answer_0"), text(row, "answer_1")]
    return grouped_pairs(prompt(row, source, asked), answers, [first, second], strength=False)


@pairs("summarize-from-feedback", info=dict, summaries=list, choice=(int, float, str))
def _summaries(row: Row, source: str) -> list[PreferencePair]:
    """Two summaries of a post, and the index of the better one (Stiennon et al. 2020)."""
    found = list_at(row, "summaries")
    texts = [text(one if isinstance(one, dict) else {}, "text") for one in found]
    if len(texts) != 2:
        raise Refused(f'"summaries" has {len(texts)} items', "give two, or remove the row")
    info = object_at(row, "info")
    body = "post" if info.get("post") else "article"
    asked = f"Summarize the following text.\n\n{text(info, body)}"
    better = _one_of(row, "choice", {"0": 0, "1": 1})
    return _judged(row, source, asked, (texts[0], texts[1]), better)


@pairs("chatbot-arena", conversation_a=list, conversation_b=list, winner=str)
def _arena(row: Row, source: str) -> list[PreferencePair]:
    """Two models' answers to one question (Zheng et al. 2023), in rows of one exchange.

    `winner` is model_a, model_b or "tie"; "tie (bothbad)" is read as a tie as well.
    """
    winner = read_cell(row["winner"], Answers(texts={"a": "", "b": ""}, family="letters"))
    if winner.kind != "answer":
        raise Refused(
            f'"winner" is {shown(row["winner"])}',
            'write model_a, model_b or "tie", or remove the row',
        )
    better = {"a": 0, "b": 1}.get(winner.answer)
    talks = [messages(row[f"conversation_{side}"], f"conversation_{side}") for side in "ab"]
    first, second = (
        _first_answer(turns, f"conversation_{side}")
        for turns, side in zip(talks, "ab", strict=True)
    )
    if first[0] != second[0]:
        raise Refused("the two conversations start with different questions", "remove the row")
    return _judged(row, source, first[0], (first[1], second[1]), better)


def _first_answer(turns: list[Message], key: str) -> tuple[list[Message], str]:
    """All turns before the first answer, and that answer."""
    place = next((n for n, turn in enumerate(turns) if turn.role == "assistant"), None)
    if not place:
        raise Refused(f'"{key}" has no question followed by an answer', "remove the row")
    if len(turns) > place + 1:
        raise Refused(
            f'"{key}" continues after the first answer, but the vote is on the whole conversation',
            "keep rows of one exchange, or remove the row",
        )
    return turns[:place], turns[place].content


def _is_one(value: object) -> bool:
    """1, true, or either as text."""
    return value is True or number(value) == 1 or str(value).strip().lower() == "true"


@pairs("lmsys-votes", prompt=str, response_a=str, response_b=str, winner_model_a=(int, float, str))
def _votes(row: Row, source: str) -> list[PreferencePair]:
    """LMSYS votes as a table: lists of turns as JSON texts, and three columns of 0 and 1."""
    turns = [_listed(row, key) for key in ("prompt", "response_a", "response_b")]
    if any(len(one) != 1 for one in turns):
        raise Refused("there is more than one exchange", "keep rows of one, or remove the row")
    sides = {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": None}
    won = [side for key, side in sides.items() if _is_one(row.get(key))]
    if len(won) != 1:
        raise Refused("exactly one of the three winner columns must be 1", "remove the row")
    asked, first, second = (one[0] for one in turns)
    return _judged(row, source, asked, (first, second), won[0])


def _listed(row: Row, key: str) -> list[str]:
    """A list of texts stored as JSON text; a plain text is a list of one."""
    value = text(row, key)
    try:
        found: Json = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    if not isinstance(found, list):
        return [value]
    return [text({key: one}, key) for one in found]


def _one_of(row: Row, key: str, meanings: dict[str, int | None]) -> int | None:
    value = number(row.get(key))  # pandas writes 1.0
    whole = value is not None and value.is_integer()
    word = str(int(value)) if whole and value is not None else str(row.get(key)).strip().lower()
    if word not in meanings:
        raise Refused(
            f'"{key}" is {shown(row.get(key))}',
            f"write {' or '.join(meanings)}, or remove the row",
        )
    return meanings[word]
