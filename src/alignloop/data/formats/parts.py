"""The parts that formats are made of: texts, messages, prompts, and records of them."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from pydantic import ValidationError

from alignloop.data.files import explain
from alignloop.data.formats.calls import beside_text, refuse_media, tools_of
from alignloop.data.formats.dialects import in_one_form, said_by
from alignloop.data.formats.registry import Refused, Row
from alignloop.records import (
    Demonstration,
    Extra,
    Message,
    PreferencePair,
    Prompt,
    Record,
    answer_of,
)

RecordType = TypeVar("RecordType", bound=Record)

MAX_STRENGTH = 3.0


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One response to a prompt that somebody called good or bad (KTO, TRL's unpaired preference).

    Nothing on disk and no stage reads it, so that it is no record: it becomes pairs, or a
    demonstration where it is good.
    """

    prompt: Prompt
    response: str
    good: bool
    extra: Extra | None = None

    @property
    def answer(self) -> Message:
        """The response with the calls and the reasoning that it holds."""
        return answer_of(self.response, self.extra)


def prompt_id(messages: Sequence[Message], tools: Sequence[Row] = ()) -> str:
    """Twelve hexadecimal digits (blake2b, 48 bits) that depend on what the model reads only."""
    turns: list[Any] = [[message.role, message.content, *_beside(message)] for message in messages]
    return digest_of([*turns, *tools])


def _beside(message: Message) -> list[Any]:
    """What a turn holds beside role and content, where it holds something."""
    more = message.model_dump(exclude={"role", "content"})
    return [more] if more else []


def digest_of(value: object) -> str:
    """Twelve hexadecimal digits of anything that JSON can write."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def text(row: Row, key: str) -> str:
    """The text under a key; refused if it is missing, no text, blank, or no valid Unicode."""
    value = row.get(key)
    if not isinstance(value, str):
        raise Refused(f'"{key}" holds no text', f'give "{key}" a text, or remove the row')
    if not value.strip():
        raise Refused(f'"{key}" is empty', f'write a text in "{key}", or remove the row')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f'"{key}" holds half a character (a lone surrogate)'
        raise Refused(problem, f'write "{key}" as UTF-8, or remove the row') from error
    return value


def word(row: Row, key: str) -> str:
    """A short text that a row may give, or none."""
    value = row.get(key)
    return value if isinstance(value, str) and _sound(value) else ""


def _sound(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def number(value: object) -> float | None:
    """A number, also where a table or a person wrote it as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def messages(value: object, key: str) -> list[Message]:
    """Turns with role and content (OpenAI) or from and value (ShareGPT), calls and reasoning.

    A system message without a text says nothing and is left out.
    """
    if not isinstance(value, list) or not value:
        raise Refused(f'"{key}" is empty', "give at least one message, or remove the row")
    return [turn for item in value if (turn := message(item, key)) is not None]


def message(item: object, key: str) -> Message | None:
    """One turn; None for an empty system message."""
    fields = in_one_form(item)
    role = fields.get("role")
    if role is None:
        raise Refused(
            f'a message in "{key}" has the role {json.dumps(said_by(item), default=str)}',
            'use "system", "user", "assistant" or "tool", or remove the row',
        )
    if role == "system" and not str(fields["content"] or "").strip():
        return None
    more = beside_text(fields, key)
    if role == "tool" or more.get("tool_calls"):  # these may say nothing else
        said = fields["content"] or ""
        words = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    else:
        words = text(fields, "content")
    return Message(role=role, content=words, **more)


def prompt(row: Row, source: str, asked: str | Sequence[Message]) -> Prompt:
    """The prompt of a row: its own prompt_id if it gives one, else the hash of the messages.

    A row's "system" comes before the first message; where that is a system message, too, both are
    one. A row with pictures or sounds is refused, since nothing here reads them.
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
    """Whose record it is: a judgement's annotator may differ from the prompt's source."""
    return word(row, "record_source") if "record_source" in row else asked.source


def demonstration(
    row: Row,
    source: str,
    asked: str | Sequence[Message],
    response: str | Message,
    *,
    every_turn: bool = False,
) -> Demonstration:
    """A demonstration of one response; `every_turn` counts the answers before it as well."""
    made, answer = prompt(row, source, asked), as_answer(response)
    return Demonstration(
        prompt=made,
        response=answer.content,
        source=record_source(row, made),
        every_turn=every_turn,
        extra=answer.extra,
    )


def as_answer(response: str | Message) -> Message:
    """An answer as a turn, whether it was given as one or as a text."""
    return answer_of(response) if isinstance(response, str) else response


def pair(
    row: Row,
    source: str,
    asked: str | Sequence[Message],
    chosen: str | Message,
    rejected: str | Message,
) -> PreferencePair:
    """A pair; the row may give preference, margin and weight beside it."""
    better, worse = as_answer(chosen), as_answer(rejected)
    if better.extra == worse.extra:
        check_distinct(better.content, worse.content)
    made = prompt(row, source, asked)
    given = {
        key: value
        for key in ("preference", "margin", "weight")
        if (value := number(row.get(key))) is not None
    }
    fields = {"prompt": made, "chosen": better.content, "rejected": worse.content, **given}
    fields |= {"chosen_extra": better.extra, "rejected_extra": worse.extra}
    fields |= {"source": record_source(row, made), "comparison_id": word(row, "comparison_id")}
    return checked(PreferencePair, fields)


def check_distinct(chosen: str, rejected: str) -> None:
    """Refuse two answers that are the same but for white space."""
    if chosen.strip() == rejected.strip():
        raise Refused(
            "chosen is equal to rejected, so that nothing can be learnt from the pair",
            "remove the row, or give two different responses",
        )


def grouped_pairs(
    made: Prompt, answers: Sequence[str], scores: Sequence[float], *, strength: bool
) -> list[PreferencePair]:
    """The pairs of K answers: the higher score is preferred, each pair weighs 1 / C(K, 2).

    So one prompt weighs the same whatever K is (InstructGPT, Ouyang et al. 2022, section 3.5).
    Equal scores are a tie, preference 0.5. With `strength` the margin is the difference of the
    scores, 3 at most. Answers with the same text are one.
    """
    distinct = {answer.strip(): place for place, answer in reversed(list(enumerate(answers)))}
    places = sorted(distinct.values())
    if len(places) < 2:
        raise Refused("there are no two different answers", "give two answers, or remove the row")
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


def checked(record_type: type[RecordType], fields: Row) -> RecordType:
    """The record, or the refusal of its row."""
    try:
        return record_type.model_validate(fields)
    except ValidationError as error:
        fix = f"write the keys of {record_type.__name__}: {', '.join(record_type.model_fields)}"
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
    """What is asked, under one of the usual names; Alpaca's input, Dolly's context follows it."""
    key = next(key for key in ASKING if isinstance(row.get(key), str | list))
    value: Any = row[key]
    if isinstance(value, list):
        return messages(value, key)
    asked = text(row, key)
    given = (word(row, "input") or word(row, "context")) if key == "instruction" else ""
    return f"{asked}\n\n{given}" if given.strip() else asked
