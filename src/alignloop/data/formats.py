"""Formats of other people's files: one small function per format, found by its keys.

A new format is one function with the decorator of what it holds:

    @_demonstrations("my format", question=str, answer=str)
    def _mine(row: Row, source: str) -> list[Demonstration]:
        return [_demonstration(row, source, _text(row, "question"), _text(row, "answer"))]
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from alignloop.data.files import explain, read_objects
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, Record

logger = logging.getLogger(__name__)

Row = dict[str, Any]
RecordType = TypeVar("RecordType", bound=Record)
Read = Callable[[Row, str], list[RecordType]]

REFUSED_SHOWN = 10
_KINDS = {str: "text", dict: "an object", list: "a list"}


@dataclass(frozen=True, kw_only=True)
class Format(Generic[RecordType]):
    """A row with these keys of these types is read by this function of (row, source)."""

    name: str
    keys: Mapping[str, type]
    read: Read[RecordType]


DEMONSTRATION_FORMATS: list[Format[Demonstration]] = []
PAIR_FORMATS: list[Format[PreferencePair]] = []
PROMPT_FORMATS: list[Format[Prompt]] = []


class _Refused(Exception):
    """One row cannot be used; the reader adds the file and the line."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


def read_demonstrations(path: str | Path, *, skip_refused: bool = False) -> list[Demonstration]:
    """Read demonstrations in any known format; a row may give several.

    Raises UserError with the first ten refused rows (file, line, key, what to do). With
    `skip_refused` these are left out and counted in the log, and only a file without a single good
    row is an error.
    """
    return _read(Path(path), DEMONSTRATION_FORMATS, skip_refused)


def read_pairs(path: str | Path, *, skip_refused: bool = False) -> list[PreferencePair]:
    """Read preference pairs in any known format; raises as `read_demonstrations` does."""
    return _read(Path(path), PAIR_FORMATS, skip_refused)


def read_prompts(path: str | Path, *, skip_refused: bool = False) -> list[Prompt]:
    """Read prompts from files of prompts, demonstrations or pairs, each prompt once.

    Raises as `read_demonstrations` does, and if one prompt_id names two different prompts.
    """
    others = [*DEMONSTRATION_FORMATS, *PAIR_FORMATS]
    prompts = _read(Path(path), [*PROMPT_FORMATS, *map(_prompts_of, others)], skip_refused)
    distinct: dict[str, Prompt] = {}
    for prompt in prompts:
        if distinct.setdefault(prompt.prompt_id, prompt).messages != prompt.messages:
            raise UserError(
                f'prompt_id "{prompt.prompt_id}" names two different prompts',
                where=str(path),
                fix="give each prompt an id of its own, or leave prompt_id out",
            )
    if len(distinct) < len(prompts):
        logger.info("%s: left out %d repeated prompts", path, len(prompts) - len(distinct))
    return list(distinct.values())


def prompt_id(messages: Sequence[Message]) -> str:
    """Twelve hexadecimal digits (blake2b, 48 bits) that depend on roles and contents only."""
    turns = [[message.role, message.content] for message in messages]
    text = json.dumps(turns, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


# --- reading a file --------------------------------------------------------------------------


def _read(
    path: Path, formats: Sequence[Format[RecordType]], skip_refused: bool
) -> list[RecordType]:
    source = path.name.split(".")[0]
    records: list[RecordType] = []
    refused: list[UserError] = []
    for line, row in read_objects(path):
        try:
            records += _recognise(row, formats).read(row, source)
        except _Refused as error:
            refused.append(UserError(error.problem, where=f"{path}:{line}", fix=error.fix))
    if refused and (not skip_refused or not records):
        raise _all_refused(path, refused)
    if refused:
        logger.warning("%s: left out %d refused rows; first: %s", path, len(refused), refused[0])
    if not records:
        raise UserError("there is not one record in the file", where=str(path))
    return records


def _all_refused(path: Path, refused: list[UserError]) -> UserError:
    if len(refused) == 1:
        return refused[0]
    lines: list[str] = []
    explained: set[str] = set()
    for error in refused[:REFUSED_SHOWN]:
        # The same advice ten times over would bury the places.
        repeated = error.fix in explained
        lines.append(f"\n  {error.where}: {error.problem}" if repeated else f"\n  {error}")
        explained.add(error.fix)
    return UserError(
        f"{len(refused)} rows are refused",
        where=str(path),
        fix="mend or remove these rows, or read the file with skip_refused = true. "
        f"The first of them:{''.join(lines)}",
    )


def _recognise(row: Row, formats: Sequence[Format[RecordType]]) -> Format[RecordType]:
    for format_ in formats:
        if all(isinstance(row.get(key), kind) for key, kind in format_.keys.items()):
            return format_
    if close := [format_.keys for format_ in formats if set(format_.keys) <= set(row)]:
        raise _wrong_type(row, close)
    known = "; ".join(f"{format_.name} {{{', '.join(format_.keys)}}}" for format_ in formats)
    raise _Refused(
        f"a key is missing: the keys here ({', '.join(row) or 'none'}) fit no known format",
        f"use the keys of one of the known formats: {known}",
    )


def _wrong_type(row: Row, close: Sequence[Mapping[str, type]]) -> _Refused:
    """All keys are there, one holds the wrong thing: complain by the format that fits best."""
    wrong = [
        {key: kind for key, kind in keys.items() if not isinstance(row[key], kind)}
        for keys in close
    ]
    key, kind = next(iter(min(wrong, key=len).items()))
    found = json.dumps(row[key], ensure_ascii=False)[:40]
    return _Refused(f'"{key}" is {found}', f'make "{key}" {_KINDS[kind]}, or remove the row')


# --- the parts that formats are made of ------------------------------------------------------


def _text(row: Row, key: str) -> str:
    """The text under a key; refused if it is missing, no text, blank, or no valid Unicode."""
    value = row.get(key)
    if not isinstance(value, str):
        raise _Refused(f'"{key}" holds no text', f'give "{key}" a text, or remove the row')
    if not value.strip():
        raise _Refused(f'"{key}" is empty', f'write a text in "{key}", or remove the row')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f'"{key}" holds half a character (a lone surrogate)'
        raise _Refused(problem, f'write "{key}" as UTF-8, or remove the row') from error
    return value


def _prompt(row: Row, source: str, asked: str | Sequence[Message]) -> Prompt:
    """The prompt of a row: its own prompt_id if it gives one, else the hash of the messages."""
    messages = (Message(role="user", content=asked),) if isinstance(asked, str) else tuple(asked)
    return Prompt(
        prompt_id=_word(row, "prompt_id") or prompt_id(messages),
        messages=messages,
        source=_word(row, "source") or source,
        category=_word(row, "category") or _word(row, "topic"),
        language=_word(row, "language"),
    )


def _word(row: Row, key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _demonstration(
    row: Row, source: str, asked: str | Sequence[Message], response: str
) -> Demonstration:
    prompt = _prompt(row, source, asked)
    return Demonstration(prompt=prompt, response=response, source=prompt.source)


def _pair(
    row: Row, source: str, asked: str | Sequence[Message], chosen: str, rejected: str
) -> PreferencePair:
    _check_distinct(chosen, rejected)
    prompt = _prompt(row, source, asked)
    return PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected, source=prompt.source)


def _check_distinct(chosen: str, rejected: str) -> None:
    if chosen.strip() == rejected.strip():
        raise _Refused(
            "chosen is equal to rejected, so that nothing can be learnt from the pair",
            "remove the row, or give two different responses",
        )


def _own(record_type: type[RecordType], row: Row) -> RecordType:
    try:
        record = record_type.model_validate(row)
    except ValidationError as error:
        fix = f"write the keys of {record_type.__name__}: {', '.join(record_type.model_fields)}"
        raise _Refused(explain(error), fix) from error
    prompt = row if record_type is Prompt else row["prompt"]
    for message in prompt["messages"]:
        _text(message, "content")
    return record


def _messages(row: Row) -> list[Message]:
    """OpenAI messages; other keys of a message, such as "name" or "weight", are passed over."""
    if not row["messages"]:
        raise _Refused('"messages" is empty', "give at least one message, or remove the row")
    messages: list[Message] = []
    for item in row["messages"]:
        role = item.get("role") if isinstance(item, dict) else None
        if role not in ("system", "user", "assistant"):
            raise _Refused(
                f'a message in "messages" has the role {json.dumps(role)}',
                'use "system", "user" or "assistant", or remove the row',
            )
        messages.append(Message(role=role, content=_text(item, "content")))
    return messages


# --- demonstrations --------------------------------------------------------------------------


def _demonstrations(
    name: str, **keys: type
) -> Callable[[Read[Demonstration]], Read[Demonstration]]:
    return _register(DEMONSTRATION_FORMATS, name, keys)


def _register(
    registry: list[Format[RecordType]], name: str, keys: Mapping[str, type]
) -> Callable[[Read[RecordType]], Read[RecordType]]:
    def register(read: Read[RecordType]) -> Read[RecordType]:
        registry.append(Format(name=name, keys=keys, read=read))
        return read

    return register


@_demonstrations("alignloop", prompt=dict, response=str)
def _own_demonstration(row: Row, source: str) -> list[Demonstration]:
    _text(row, "response")
    return [_own(Demonstration, row)]


@_demonstrations("prompt and response", prompt=str, response=str)
def _prompt_response(row: Row, source: str) -> list[Demonstration]:
    return [_demonstration(row, source, _text(row, "prompt"), _text(row, "response"))]


@_demonstrations("prompt and completion", prompt=str, completion=str)
def _prompt_completion(row: Row, source: str) -> list[Demonstration]:
    return [_demonstration(row, source, _text(row, "prompt"), _text(row, "completion"))]


@_demonstrations("chatterbot", topic=str, turns=list)
def _chatterbot(row: Row, source: str) -> list[Demonstration]:
    """Turn i asks and turn i+1 answers. No history: it would begin with an answer half the time."""
    turns = [_text({"turns": turn}, "turns") for turn in row["turns"]]
    if len(turns) < 2:
        raise _Refused('"turns" holds no answer', 'give "turns" two texts, or remove the row')
    return [_demonstration(row, source, asked, answer) for asked, answer in pairwise(turns)]


@_demonstrations("self-instruct", instruction=str, instances=list)
def _self_instruct(row: Row, source: str) -> list[Demonstration]:
    if not row["instances"]:
        raise _Refused('"instances" is empty', "give at least one instance, or remove the row")
    return [
        _instructed(row, source, instance if isinstance(instance, dict) else {})
        for instance in row["instances"]
    ]


@_demonstrations("Alpaca", instruction=str, output=str)
def _alpaca(row: Row, source: str) -> list[Demonstration]:
    return [_instructed(row, source, row)]


def _instructed(row: Row, source: str, instance: Row) -> Demonstration:
    """The input, if there is one, follows the instruction after a blank line."""
    asked, given = _text(row, "instruction"), _word(instance, "input")
    asked = f"{asked}\n\n{given}" if given.strip() else asked
    return _demonstration(row, source, asked, _text(instance, "output"))


@_demonstrations("OpenAI messages", messages=list)
def _openai(row: Row, source: str) -> list[Demonstration]:
    """One demonstration for each assistant message, asked by all messages before it."""
    messages = _messages(row)
    if messages[-1].role != "assistant":
        raise _Refused('the last of "messages" is no answer', "end with an assistant message")
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if any(place == 0 or messages[place - 1].role != "user" for place in answers):
        raise _Refused(
            'an assistant message in "messages" does not follow a user message',
            "put a user message before each assistant message, or remove the row",
        )
    return [
        _demonstration(row, source, messages[:place], messages[place].content) for place in answers
    ]


# --- preference pairs ------------------------------------------------------------------------


def _pairs(name: str, **keys: type) -> Callable[[Read[PreferencePair]], Read[PreferencePair]]:
    return _register(PAIR_FORMATS, name, keys)


@_pairs("alignloop", prompt=dict, chosen=str, rejected=str)
def _own_pair(row: Row, source: str) -> list[PreferencePair]:
    _check_distinct(_text(row, "chosen"), _text(row, "rejected"))
    return [_own(PreferencePair, row)]


@_pairs("prompt, chosen, rejected", prompt=str, chosen=str, rejected=str)
def _text_pair(row: Row, source: str) -> list[PreferencePair]:
    asked = _text(row, "prompt")
    return [_pair(row, source, asked, _text(row, "chosen"), _text(row, "rejected"))]


@_pairs("JADE", prompt=str, chosen_safe=str, rejected_unsafe=str)
def _jade(row: Row, source: str) -> list[PreferencePair]:
    asked = _text(row, "prompt")
    return [_pair(row, source, asked, _text(row, "chosen_safe"), _text(row, "rejected_unsafe"))]


@_pairs("hh-rlhf transcripts", chosen=str, rejected=str)
def _transcripts(row: Row, source: str) -> list[PreferencePair]:
    """Two transcripts that are equal up to their last assistant turn, which is the response."""
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise _Refused(
            '"chosen" and "rejected" differ before their last turn',
            "let both transcripts be the same conversation up to the last answer",
        )
    return [_pair(row, source, chosen[:-1], chosen[-1].content, rejected[-1].content)]


def _turns(row: Row, key: str) -> list[Message]:
    """Cut a transcript at its markers; turns of one speaker in a row become one turn."""
    head, *parts = re.split(r"\n\n(Human|Assistant):", _text(row, key))
    if head.strip() or not parts:
        raise _Refused(
            f'"{key}" does not begin with a blank line and "Human:"',
            'write "\\n\\nHuman: ...\\n\\nAssistant: ...", or give the key "prompt" as well',
        )
    turns: list[tuple[str, str]] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        if turns and turns[-1][0] == speaker:
            said = f"{turns.pop()[1]}\n\n{said.strip()}"
        turns.append((speaker, said.strip()))
    return _checked_turns(turns, key)


def _checked_turns(turns: list[tuple[str, str]], key: str) -> list[Message]:
    if len(turns) < 2 or turns[0][0] != "Human" or turns[-1][0] != "Assistant":
        raise _Refused(
            f'the transcript in "{key}" does not go from a question to an answer',
            'begin with "\\n\\nHuman:" and end with an answer after "\\n\\nAssistant:"',
        )
    if not all(said for _, said in turns):
        what = "response" if not turns[-1][1] else "turn"
        raise _Refused(f'the transcript in "{key}" has an empty {what}', "remove the row")
    return [
        Message(role="user" if speaker == "Human" else "assistant", content=said)
        for speaker, said in turns
    ]


# --- prompts ---------------------------------------------------------------------------------


def _prompts(name: str, **keys: type) -> Callable[[Read[Prompt]], Read[Prompt]]:
    return _register(PROMPT_FORMATS, name, keys)


@_prompts("alignloop", prompt_id=str, messages=list)
def _own_prompt(row: Row, source: str) -> list[Prompt]:
    return [_own(Prompt, row)]


@_prompts("messages", messages=list)
def _message_prompt(row: Row, source: str) -> list[Prompt]:
    """All messages; an answer at the end is what the prompt asks for and is left out."""
    messages = _messages(row)
    asked = messages[:-1] if messages[-1].role == "assistant" else messages
    if not asked or asked[-1].role != "user":
        raise _Refused('"messages" asks nothing', "end the question with a user message")
    return [_prompt(row, source, asked)]


@_prompts("prompt", prompt=str)
def _text_prompt(row: Row, source: str) -> list[Prompt]:
    return [_prompt(row, source, _text(row, "prompt"))]


def _prompts_of(
    format_: Format[Demonstration] | Format[PreferencePair],
) -> Format[Prompt]:
    def read(row: Row, source: str) -> list[Prompt]:
        return [record.prompt for record in format_.read(row, source)]

    return Format(name=format_.name, keys=format_.keys, read=read)


@_prompts("turns", turns=list)
def _first_turn(row: Row, source: str) -> list[Prompt]:
    """The first turn: a later one (MT-Bench) asks about an answer that is not there yet."""
    if not row["turns"]:
        raise _Refused('"turns" is empty', "give at least one turn, or remove the row")
    return [_prompt(row, source, _text({"turns": row["turns"][0]}, "turns"))]
