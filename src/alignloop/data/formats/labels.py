"""Single responses that somebody called good or bad: KTO, and TRL's unpaired preference."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from alignloop.data.formats.parts import (
    Labelled,
    asked_in,
    asks,
    messages,
    prompt,
    prompt_id,
    text,
    truth,
)
from alignloop.data.formats.registry import FORMATS, Format, Refused, Row, demonstrations, labels
from alignloop.records import Demonstration, Message, PreferencePair

LABELS = ("label", "kto_tag")


def _is_labelled(row: Row) -> bool:
    return any(truth(row.get(key)) is not None for key in LABELS)


def _is_labelled_answer(row: Row) -> bool:
    return _is_labelled(row) and asks(row)


def _good(row: Row) -> bool:
    return any(truth(row.get(key)) for key in LABELS)


@labels("kto", fits=_is_labelled, messages=list)
def _kto(row: Row, source: str) -> list[Labelled]:
    return [_last_answer(row, source, messages(row["messages"], "messages"))]


@labels("kto", fits=_is_labelled, conversations=list)
def _kto_sharegpt(row: Row, source: str) -> list[Labelled]:
    return [_last_answer(row, source, messages(row["conversations"], "conversations"))]


@labels("trl-unpaired", fits=_is_labelled_answer, completion=(str, list))
def _unpaired(row: Row, source: str) -> list[Labelled]:
    """TRL's unpaired preference, standard or conversational."""
    if isinstance(row["completion"], str):
        return [_labelled(row, source, asked_in(row), text(row, "completion"))]
    asked = asked_in(row)
    turns = [Message(role="user", content=asked)] if isinstance(asked, str) else asked
    return [_last_answer(row, source, [*turns, *messages(row["completion"], "completion")])]


@labels("kto", fits=_is_labelled, instruction=str, output=str)
def _kto_alpaca(row: Row, source: str) -> list[Labelled]:
    return [_labelled(row, source, asked_in(row), text(row, "output"))]


@labels("kto", fits=_is_labelled, prompt=str, response=str)
def _kto_response(row: Row, source: str) -> list[Labelled]:
    return [_labelled(row, source, asked_in(row), text(row, "response"))]


def _last_answer(row: Row, source: str, turns: Sequence[Message]) -> Labelled:
    if len(turns) < 2 or [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
        raise Refused("the last turns are no question and answer", "end with an assistant message")
    return _labelled(row, source, turns[:-1], turns[-1].content)


def _labelled(row: Row, source: str, asked: str | Sequence[Message], response: str) -> Labelled:
    return Labelled(prompt=prompt(row, source, asked), response=response, good=_good(row))


def good_ones(labelled: Labelled) -> list[Demonstration]:
    """What was called good is a demonstration; what was called bad is none."""
    source = labelled.prompt.source
    made = Demonstration(prompt=labelled.prompt, response=labelled.response, source=source)
    return [made] if labelled.good else []


def pairs_of_labels(labelled: Iterable[Labelled]) -> Iterator[PreferencePair]:
    """Each good response of a prompt with each bad one, weighing 1 together.

    Prompts with one sort of label alone give nothing.
    """
    sorted_out: dict[str, tuple[list[Labelled], list[Labelled]]] = {}
    for one in labelled:
        both = sorted_out.setdefault(prompt_id(one.prompt.messages, one.prompt.tools), ([], []))
        both[0 if one.good else 1].append(one)
    for good, bad in sorted_out.values():
        couples = [
            (a, b) for a, b in product(good, bad) if a.response.strip() != b.response.strip()
        ]
        for better, worse in couples:
            yield PreferencePair(
                prompt=better.prompt,
                chosen=better.response,
                rejected=worse.response,
                weight=1 / len(couples),
                source=better.prompt.source,
            )


def _labelled_format(row: Row) -> Format | None:
    if not _is_labelled(row):
        return None
    return next((one for one in FORMATS if one.kind == "labels" and one.holds(row)), None)


@demonstrations("kto", fits=_labelled_format)
def _good_demonstration(row: Row, source: str) -> list[Demonstration]:
    """Before the formats that would read a bad answer as a demonstration."""
    found = _labelled_format(row)
    assert found is not None, "fits has found it"
    return [made for one in found.read(row, source) for made in good_ones(one)]
