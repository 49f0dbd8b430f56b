"""Prompts alone: one question per row, under any of the usual names."""

from alignloop.data.formats.parts import asked_in, asks, number, prompt, text, word
from alignloop.data.formats.registry import Refused, Row, prompts
from alignloop.data.narrow import list_at
from alignloop.records import Prompt


@prompts("multiple-choice", context=str, question=str, ans0=str, ans1=str, ans2=str)
def _multiple_choice(row: Row, source: str) -> list[Prompt]:
    """BBQ and CBBQ: context, question and three answers; the correct one is the reference."""
    letters = zip("ABC", ("ans0", "ans1", "ans2"), strict=True)
    options = "\n".join(f"({letter}) {text(row, key)}" for letter, key in letters)
    asked = f"{text(row, 'context')}\n{text(row, 'question')}\n{options}"
    # Its "source" is where the stereotype was found, not that of the record.
    fields: Row = {"prompt_id": word(row, "prompt_id"), "category": word(row, "category")}
    made, label = prompt(fields, source, asked), number(row.get("label"))
    right = "ABC"[int(label)] if label in (0, 1, 2) else None
    return [made.model_copy(update={"reference": right})]


@prompts("prompt", prompt=str)
def _text_prompt(row: Row, source: str) -> list[Prompt]:
    return [prompt(row, source, text(row, "prompt"))]


@prompts("turns", turns=list)
def _first_turn(row: Row, source: str) -> list[Prompt]:
    """The first turn: a later one (MT-Bench) refers to an answer that does not exist yet."""
    turns = list_at(row, "turns")
    if not turns:
        raise Refused('"turns" is empty', "give at least one turn, or remove the row")
    return [prompt(row, source, text({"turns": turns[0]}, "turns"))]


@prompts("advbench", goal=str)
def _goal(row: Row, source: str) -> list[Prompt]:
    """The goal; the target is what an attack tries to elicit, not a demonstration."""
    return [prompt(row, source, text(row, "goal"))]


@prompts("harmbench", Behavior=str)
def _behaviour(row: Row, source: str) -> list[Prompt]:
    """HarmBench (Mazeika et al. 2024): the behaviour, after its context if there is one."""
    context, asked = word(row, "ContextString").strip(), text(row, "Behavior")
    fields = row | {"category": word(row, "category") or word(row, "SemanticCategory")}
    return [prompt(fields, source, f"{context}\n\n---\n\n{asked}" if context else asked)]


@prompts("jade-questions", 问题=str)
def _jade_question(row: Row, source: str) -> list[Prompt]:
    fields = row | {"category": word(row, "category") or word(row, "违规类型")}
    return [prompt(fields, source, text(row, "问题"))]


def _asks_alone(row: Row) -> bool:
    return asks(row) and not any(isinstance(row.get(key), list) for key in ("instances", "history"))


@prompts("question", fits=_asks_alone)
def _asked(row: Row, source: str) -> list[Prompt]:
    """Any other row with a question."""
    return [prompt(row, source, asked_in(row))]
