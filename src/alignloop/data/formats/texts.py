"""Rows of plain texts: a question and an answer, an instruction and its output, turns."""

from itertools import pairwise

from alignloop.data.formats.parts import asked_in, asks, demonstration, pair, text, word
from alignloop.data.formats.registry import Refused, Row, demonstrations, pairs, register
from alignloop.data.narrow import list_at, text_at
from alignloop.records import Demonstration, Message, PreferencePair


@pairs("trl-preference", prompt=str, chosen=str, rejected=str)
def _text_pair(row: Row, source: str) -> list[PreferencePair]:
    """TRL's standard preference with a separate prompt."""
    asked = text(row, "prompt")
    return [pair(row, source, asked, text(row, "chosen"), text(row, "rejected"))]


@pairs("question-chosen-rejected", fits=asks, chosen=str, rejected=str)
def _asked_pair(row: Row, source: str) -> list[PreferencePair]:
    """The question under another name: Alpaca (instruction, input), Orca (system, question)."""
    return [pair(row, source, asked_in(row), text(row, "chosen"), text(row, "rejected"))]


@pairs("jade", prompt=str, chosen_safe=str, rejected_unsafe=str)
def _jade(row: Row, source: str) -> list[PreferencePair]:
    asked = text(row, "prompt")
    return [pair(row, source, asked, text(row, "chosen_safe"), text(row, "rejected_unsafe"))]


_SAFE = ("安全有用回答", "安全回答", "安全有用回复", "安全回复")
_UNSAFE = ("违规回答", "违规回复")


@pairs("jade", fits=lambda row: _key_of(row, _SAFE) and _key_of(row, _UNSAFE), 问题=str)
def _jade_chinese(row: Row, source: str) -> list[PreferencePair]:
    """JADE 3 as published: a question, an answer that breaks the rules, and a safe one."""
    safe, unsafe = (text(row, _key_of(row, keys)) for keys in (_SAFE, _UNSAFE))
    return [pair(row, source, text(row, "问题"), safe, unsafe)]


def _key_of(row: Row, keys: tuple[str, ...]) -> str:
    return next((key for key in keys if isinstance(row.get(key), str)), "")


@pairs("crows-pairs", sent_more=str, sent_less=str)
def _crows(row: Row, source: str) -> list[PreferencePair]:
    """CrowS-Pairs (Nangia et al. 2020): the less stereotyping sentence is preferred.

    The data set has no prompts, so all its pairs answer one neutral request.
    """
    fields = row | {"category": word(row, "bias_type")}
    less, more = text(row, "sent_less"), text(row, "sent_more")
    return [pair(fields, source, "Write one sentence.", less, more)]


@pairs("stack-exchange-paired", question=str, response_j=str, response_k=str)
def _stack_exchange(row: Row, source: str) -> list[PreferencePair]:
    """response_j has more votes than response_k."""
    asked = text(row, "question")
    return [pair(row, source, asked, text(row, "response_j"), text(row, "response_k"))]


@demonstrations("prompt-response", prompt=str, response=str)
def _prompt_response(row: Row, source: str) -> list[Demonstration]:
    return [demonstration(row, source, text(row, "prompt"), text(row, "response"))]


@demonstrations("chatterbot", topic=str, turns=list)
def _chatterbot(row: Row, source: str) -> list[Demonstration]:
    """Turn i asks and turn i+1 answers. No history: half of them would begin with an answer."""
    turns = [text({"turns": turn}, "turns") for turn in list_at(row, "turns")]
    if len(turns) < 2:
        raise Refused('"turns" contains no answer', 'give "turns" two texts, or remove the row')
    return [demonstration(row, source, asked, answer) for asked, answer in pairwise(turns)]


@demonstrations("self-instruct", instruction=str, instances=list)
def _self_instruct(row: Row, source: str) -> list[Demonstration]:
    if not row["instances"]:
        raise Refused('"instances" is empty', "give at least one instance, or remove the row")
    return [
        _instructed(row, source, instance if isinstance(instance, dict) else {})
        for instance in list_at(row, "instances")
    ]


@demonstrations("alpaca", instruction=str, output=str)
def _alpaca(row: Row, source: str) -> list[Demonstration]:
    """The turns of "history" (LLaMA-Factory) come first, and their answers count as well."""
    return [_instructed(row, source, row)]


def _instructed(row: Row, source: str, instance: Row) -> Demonstration:
    """The input, if there is one, follows the instruction after a blank line."""
    asked, given = text(row, "instruction"), word(instance, "input")
    asked = f"{asked}\n\n{given}" if given.strip() else asked
    before = _history(row)
    turns = [*before, Message(role="user", content=asked)]
    answer = text(instance, "output")
    return demonstration(row, source, turns, answer, every_turn=bool(before))


def _history(row: Row) -> list[Message]:
    turns: list[Message] = []
    history = row.get("history")
    for couple in history if isinstance(history, list) else []:
        asked, answer = couple if isinstance(couple, list) and len(couple) == 2 else (None, None)
        turns.append(Message(role="user", content=text({"history": asked}, "history")))
        turns.append(Message(role="assistant", content=text({"history": answer}, "history")))
    return turns


@demonstrations("question-answer", question=str, answer=str)
def _question_answer(row: Row, source: str) -> list[Demonstration]:
    """GSM8K and its like."""
    return [demonstration(row, source, text(row, "question"), text(row, "answer"))]


@demonstrations(
    "question-answer",
    fits=lambda row: asks(row) and text_at(row, "std_answer").strip(),
    std_answer=str,
)
def _standard_answer(row: Row, source: str) -> list[Demonstration]:
    """BELLE's evaluation set; without a standard answer, the row is a prompt."""
    return [demonstration(row, source, asked_in(row), text(row, "std_answer"))]


@demonstrations("question-answer", fits=asks, answer=str, named_only=True)
def _asked_answer(row: Row, source: str) -> list[Demonstration]:
    """Next to a prompt an answer is its reference, unless the user asks to train on it."""
    return [demonstration(row, source, asked_in(row), text(row, "answer"))]


@demonstrations("question-answer", 问题=str, 回答=str)
def _chinese_question_answer(row: Row, source: str) -> list[Demonstration]:
    return [demonstration(row, source, text(row, "问题"), text(row, "回答"))]


@demonstrations("input-target", input=str, target=str)
def _input_target(row: Row, source: str) -> list[Demonstration]:
    """Firefly and its like."""
    return [demonstration(row, source, text(row, "input"), text(row, "target"))]


@demonstrations("question-response", fits=asks, response=str)
def _question_response(row: Row, source: str) -> list[Demonstration]:
    return [demonstration(row, source, asked_in(row), text(row, "response"))]


@register("texts", "trl-language-modeling", {"text": str})
def _language_modeling(row: Row, source: str) -> list[str]:
    """Plain text without a prompt: checked and counted, but no stage trains on it."""
    return [text(row, "text")]
