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
from alignloop.data.formats.dialects import in_one_form, said_by
from alignloop.data.formats.registry import Refused, Row
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, Record

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


def prompt_id(messages: Sequence[Message]) -> str:
    """Twelve hexadecimal digits (blake2b, 48 bits) that depend on roles and contents only."""
    turns = [[message.role, message.content] for message in messages]
    return digest_of(turns)


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


def truth(value: object) -> bool | None:
    """True or false, also as 1 and 0 or as the words; None for anything else."""
    words = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    return words.get(str(value).lower()) if isinstance(value, bool | int | str) else None


def messages(value: object, key: str) -> list[Message]:
    """Turns with role and content (OpenAI) or from and value (ShareGPT); other keys do not count.

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
    return Message(role=role, content=text(fields, "content"))


def prompt(row: Row, source: str, asked: str | Sequence[Message]) -> Prompt:
    """The prompt of a row: its own prompt_id if it gives one, else the hash of the messages.

    A row's "system" comes before the first message, unless that is one already.
    """
    turns = (Message(role="user", content=asked),) if isinstance(asked, str) else tuple(asked)
    system = word(row, "system").strip() and word(row, "system")
    if system and turns[0].role != "system":
        turns = (Message(role="system", content=system), *turns)
    named = row.get("source")
    return Prompt(
        prompt_id=word(row, "prompt_id") or prompt_id(turns),
        messages=turns,
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
    response: str,
    *,
    every_turn: bool = False,
) -> Demonstration:
    """A demonstration of one response; `every_turn` counts the answers before it as well."""
    made = prompt(row, source, asked)
    return Demonstration(
        prompt=made, response=response, source=record_source(row, made), every_turn=every_turn
    )


def pair(
    row: Row, source: str, asked: str | Sequence[Message], chosen: str, rejected: str
) -> PreferencePair:
    """A pair; the row may give preference, margin and weight beside it."""
    check_distinct(chosen, rejected)
    made = prompt(row, source, asked)
    given = {
        key: value
        for key in ("preference", "margin", "weight")
        if (value := number(row.get(key))) is not None
    }
    fields = {"prompt": made, "chosen": chosen, "rejected": rejected, **given}
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


ASKING: tuple[str, ...] = ("prompt", "question", "instruction", "query", "input", "问题", "提问")


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
