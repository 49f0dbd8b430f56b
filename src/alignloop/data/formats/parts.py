"""Building blocks of formats: texts, messages, prompts, and records made of them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from pydantic import ValidationError

from alignloop.data.files import explain
from alignloop.data.formats.calls import beside_text, refuse_media, tools_of
from alignloop.data.formats.dialects import in_one_form, speaker_of
from alignloop.data.formats.registry import Refused, Row
from alignloop.data.narrow import Json
from alignloop.records import (
    Demonstration,
    Message,
    PreferencePair,
    Prompt,
    Record,
    answer_of,
)

RecordType = TypeVar("RecordType", bound=Record)

MAX_STRENGTH = 3.0  # "significantly better", the top of the scale of judgements


def prompt_id(messages: Sequence[Message], tools: Sequence[Row] = ()) -> str:
    """Twelve hexadecimal digits (blake2b, 48 bits) of what the model reads, nothing else."""
    turns: list[object] = [
        [message.role, message.content, *_beside(message)] for message in messages
    ]
    return digest_of([*turns, *tools])


def _beside(message: Message) -> list[object]:
    """The non-empty fields of a turn other than role and content."""
    more = message.model_dump(exclude={"role", "content"})
    return [more] if more else []


def digest_of(value: object) -> str:
    """Twelve hexadecimal digits for anything that JSON can represent."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def text(row: Mapping[str, Json], key: str) -> str:
    """The text under a key; refused if it is missing, not a text, blank, or invalid Unicode."""
    value = row.get(key)
    if not isinstance(value, str):
        raise Refused(f'"{key}" is not a text', f'give "{key}" a text, or remove the row')
    if not value.strip():
        raise Refused(f'"{key}" is empty', f'write a text in "{key}", or remove the row')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f'"{key}" contains half a character (a lone surrogate)'
        raise Refused(problem, f'write "{key}" as UTF-8, or remove the row') from error
    return value


def word(row: Mapping[str, Json], key: str) -> str:
    """An optional short text: "" if the row has none."""
    value = row.get(key)
    return value if isinstance(value, str) and _sound(value) else ""


def _sound(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def number(value: object) -> float | None:
    """A number, also if it is stored as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def messages(value: Json, key: str) -> list[Message]:
    """Turns with role and content (OpenAI) or from and value (ShareGPT), calls and reasoning.

    A system message without text is left out.
    """
    if not isinstance(value, list) or not value:
        raise Refused(f'"{key}" is empty', "give at least one message, or remove the row")
    return [turn for item in value if (turn := message(item, key)) is not None]


def message(item: Json, key: str) -> Message | None:
    """One turn; None for an empty system message."""
    fields = in_one_form(item)
    role = fields.get("role")
    if role is None:
        raise Refused(
            f'a message in "{key}" has the role {json.dumps(speaker_of(item), default=str)}',
            'use "system", "user", "assistant" or "tool", or remove the row',
        )
    if role == "system" and not str(fields["content"] or "").strip():
        return None
    more = beside_text(fields, key)
    if role == "tool" or more.get("tool_calls"):  # these may have no text
        content = fields["content"] or ""
        words = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    else:
        words = text(fields, "content")
    return Message.model_validate({"role": role, "content": words, **more})


def prompt(row: Row, source: str, asked: str | Sequence[Message]) -> Prompt:
    """The prompt of a row: with its own prompt_id if it has one, else the hash of the messages.

    A row's "system" comes before the first message; if that is a system message too, they are
    joined. A row with pictures or sounds is refused, since only text is supported.
    """
    refuse_media(row)
    turns = (Message(role="user", content=asked),) if isinstance(asked, str) else tuple(asked)
    system = word(row, "system").strip() and word(row, "system")
    if system and turns[0].role != "system":
        turns = (Message(role="system", content=system), *turns)
    elif system and system.strip() != turns[0].content.strip():
        both = f"{system}\n\n{turns[0].content}"
        turns = (turns[0].model_copy(update={"content": both}), *turns[1:])
    named, tools = row.get("source"), tools_of(row)
    return Prompt(
        prompt_id=word(row, "prompt_id") or prompt_id(turns, tools),
        messages=turns,
        tools=tools,
        source=word(row, "source") if isinstance(named, str) else source,
        category=word(row, "category") or word(row, "topic"),
        language=word(row, "language"),
    )


def record_source(row: Row, asked: Prompt) -> str:
    """The source of the record: a judgement's annotator may differ from the prompt's source."""
    return word(row, "record_source") if "record_source" in row else asked.source


def demonstration(
    row: Row,
    source: str,
    asked: str | Sequence[Message],
    response: str | Message,
    *,
    every_turn: bool = False,
) -> Demonstration:
    """A demonstration of one response; with `every_turn` earlier answers count as well."""
    made, answer = prompt(row, source, asked), as_answer(response)
    return Demonstration(
        prompt=made,
        response=answer.content,
        source=record_source(row, made),
        every_turn=every_turn,
        extra=answer.extra,
    )


def as_answer(response: str | Message) -> Message:
    """An answer as a turn, from a turn or a text."""
    return answer_of(response) if isinstance(response, str) else response


def pair(
    row: Row,
    source: str,
    asked: str | Sequence[Message],
    chosen: str | Message,
    rejected: str | Message,
) -> PreferencePair:
    """A pair; the row may also have preference, margin and weight."""
    better, worse = as_answer(chosen), as_answer(rejected)
    if better.extra == worse.extra:
        check_distinct(better.content, worse.content)
    made = prompt(row, source, asked)
    given = {
        key: value
        for key in ("preference", "margin", "weight")
        if (value := number(row.get(key))) is not None
    }
    fields: dict[str, object] = {
        "prompt": made,
        "chosen": better.content,
        "rejected": worse.content,
    }
    fields |= {**given, "chosen_extra": better.extra, "rejected_extra": worse.extra}
    fields |= {"source": record_source(row, made), "comparison_id": word(row, "comparison_id")}
    return checked(PreferencePair, fields)


def check_distinct(chosen: str, rejected: str) -> None:
    """Refuse two answers that differ only in white space."""
    if chosen.strip() == rejected.strip():
        raise Refused(
            "chosen and rejected are the same text",
            "remove the row, or give two different responses",
        )


def grouped_pairs(
    made: Prompt, answers: Sequence[str], scores: Sequence[float], *, strength: bool
) -> list[PreferencePair]:
    """The pairs of K answers: the higher score is preferred, each pair weighs 1 / C(K, 2).

    Every prompt thus has the same total weight, whatever K is (InstructGPT, Ouyang et al. 2022,
    section 3.5). Equal scores are a tie, preference 0.5. With `strength` the margin is the
    difference of the scores, at most 3. Answers with the same text count as one.
    """
    # reversed: of equal answers the first one is kept
    distinct = {answer.strip(): place for place, answer in reversed(list(enumerate(answers)))}
    places = sorted(distinct.values())
    if len(places) < 2:
        raise Refused("all answers are the same", "give two different answers, or remove the row")
    couples = list(combinations(places, 2))
    comparison = digest_of([made.prompt_id, *answers])
    return [
        PreferencePair(
            prompt=made,
            chosen=answers[i if scores[i] >= scores[j] else j],
            rejected=answers[j if scores[i] >= scores[j] else i],
            preference=0.5 if scores[i] == scores[j] else 1.0,
            margin=min(MAX_STRENGTH, abs(scores[i] - scores[j])) if strength else 0.0,
            weight=1 / len(couples),
            source=made.source,
            comparison_id=comparison,
        )
        for i, j in couples
    ]


def checked(record_type: type[RecordType], fields: Mapping[str, object]) -> RecordType:
    """The record; raises Refused if the fields are not valid."""
    try:
        return record_type.model_validate(fields)
    except ValidationError as error:
        fix = f"use the keys of {record_type.__name__}: {', '.join(record_type.model_fields)}"
        raise Refused(explain(error), fix) from error


ASKING: tuple[str, ...] = (
    "prompt",
    "question",
    "instruction",
    "query",
    "input",
    "问题",
    "提问",
    "problem",
)


def asks(row: Row) -> bool:
    """Whether the row has a question under one of the usual names."""
    return any(isinstance(row.get(key), str | list) for key in ASKING)


def asked_in(row: Row) -> str | list[Message]:
    """The question, under one of the usual names, followed by Alpaca's input or Dolly's context."""
    key = next(key for key in ASKING if isinstance(row.get(key), str | list))
    value = row[key]
    if isinstance(value, list):
        return messages(value, key)
    asked = text(row, key)
    given = (word(row, "input") or word(row, "context")) if key == "instruction" else ""
    return f"{asked}\n\n{given}" if given.strip() else asked
