"""Thoughts before an answer: what a template opens itself is closed once, in its place.

R1-Distill, QwQ and Qwen3-Thinking write <think> at the end of a prompt. Data may hold the mark once
more, or no thought at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from alignloop.data.spelling import Written, own_words
from alignloop.records import Message

# The marks that published templates write.
_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)


@dataclass(frozen=True, kw_only=True)
class Thought:
    """How a template opens a thought: its marks, and the white space after the first one."""

    opens: str
    closes: str
    space: str


def opened_thought(opening: str) -> Thought | None:
    """The thought that a prompt ends with; None where it ends otherwise."""
    bare = opening.rstrip()
    for opens, closes in _MARKS:
        if bare.endswith(opens):
            return Thought(opens=opens, closes=closes, space=opening[len(bare) :])
    return None


def closed_once(rest: str, thought: Thought | None) -> bool:
    """Whether what follows an opening closes its thought, and does not open it again."""
    if thought is None:
        return True
    return thought.closes in rest and not rest.lstrip().startswith(thought.opens)


def with_thought(
    answer: Message, rest: Written, thought: Thought, pattern: re.Pattern[str] | None
) -> Written:
    """An answer after the opening of a thought: the thought, its end, and what the template wrote.

    `rest` is the finished answer as the template writes it without that opening; some leave out
    the thought (R1), some write the answer as it is. A thought that nobody gave is empty.
    """
    if thought.closes in rest.text:
        lead = len(rest.text) - len(rest.text.lstrip())
        if rest.text.startswith(thought.opens, lead):
            lead += len(thought.opens)
            lead += _common(rest.text[lead:], thought.space)
        else:
            lead = 0
        return _mark_is_structure(rest.part(lead, len(rest.text)), thought)
    said = _thought_of(answer, thought)
    if said.strip() and not said.endswith(("\n", " ")):
        said += thought.space
    gap = "" if rest.text[:1].isspace() else _gap(answer, thought)  # R1 cuts at the mark alone
    closing = Written(text=thought.closes + gap)
    return own_words(said or thought.space, pattern) + closing + rest


def leaves_out_thought(answer: Message, rest: str) -> bool:
    """Whether an answer's own thought is not in what the template wrote of it."""
    for opens, closes in _MARKS:
        said, found, _ = answer.content.partition(closes)
        if found:
            thought = said.lstrip().removeprefix(opens).strip()
            return bool(thought) and thought not in rest
    return False


def _thought_of(answer: Message, thought: Thought) -> str:
    """As it was given: by a key of its own, or at the beginning of the text."""
    if answer.reasoning_content:
        return answer.reasoning_content
    said, found, _ = answer.content.partition(thought.closes)
    if not found:
        return ""
    said = said.lstrip().removeprefix(thought.opens)
    return said[_common(said, thought.space) :]


def _gap(answer: Message, thought: Thought) -> str:
    """The white space after a thought: what the text has there, or two lines as after <think>."""
    _, found, behind = answer.content.partition(thought.closes)
    if found and not answer.reasoning_content:
        return behind[: len(behind) - len(behind.lstrip())]
    return thought.space * 2


def _common(text: str, space: str) -> int:
    return len(space) if text.startswith(space) else 0


def _mark_is_structure(written: Written, thought: Thought) -> Written:
    """The first closing mark ends the thought that the template opened: it is no text of people."""
    at = written.text.index(thought.closes)
    spelled = tuple(span for span in written.spelled if span != (at, at + len(thought.closes)))
    return replace(written, spelled=spelled)
