"""Thoughts before an answer: a thought opened by the template is closed exactly once.

R1-Distill, QwQ and Qwen3-Thinking write <think> at the end of a prompt. The data may contain the
tag again, or no thought at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from alignloop.data.spelling import Written, own_words
from alignloop.records import Message

# The tags used by published templates.
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
    """How a template opens a thought: its tags, and the white space after the first one."""

    opens: str
    closes: str
    space: str


def opened_thought(opening: str) -> Thought | None:
    """The thought that a prompt opens at its end; None if it opens none."""
    bare = opening.rstrip()
    for opens, closes in _MARKS:
        if bare.endswith(opens):
            return Thought(opens=opens, closes=closes, space=opening[len(bare) :])
    return None


def closed_once(rest: str, thought: Thought | None) -> bool:
    """Whether the text after an opening closes its thought without opening it again."""
    if thought is None:
        return True
    return thought.closes in rest and not rest.lstrip().startswith(thought.opens)


def with_thought(
    answer: Message, rest: Written, thought: Thought, pattern: re.Pattern[str] | None
) -> Written:
    """An answer after an opened thought: the thought, its closing tag, and the template's output.

    `rest` is the finished answer as the template writes it without that opening; some leave out the
    thought (R1), some write the answer as it is. A missing thought becomes an empty one.
    """
    if thought.closes in rest.text:
        lead = len(rest.text) - len(rest.text.lstrip())
        if rest.text.startswith(thought.opens, lead):
            lead += len(thought.opens)
            lead += _common(rest.text[lead:], thought.space)
        else:
            lead = 0
        return _mark_is_structure(rest.part(lead, len(rest.text)), thought)
    text = _thought_of(answer, thought)
    if text.strip() and not text.endswith(("\n", " ")):
        text += thought.space
    gap = "" if rest.text[:1].isspace() else _gap(answer, thought)  # R1 cuts right at the tag
    closing = Written(text=thought.closes + gap)
    return own_words(text or thought.space, pattern) + closing + rest


def leaves_out_thought(answer: Message, rest: str) -> bool:
    """Whether the template dropped an answer's own thought."""
    for opens, closes in _MARKS:
        text, found, _ = answer.content.partition(closes)
        if found:
            thought = text.lstrip().removeprefix(opens).strip()
            return bool(thought) and thought not in rest
    return False


def _thought_of(answer: Message, thought: Thought) -> str:
    """The given thought: from its own key, or from the beginning of the text."""
    if answer.reasoning_content:
        return answer.reasoning_content
    text, found, _ = answer.content.partition(thought.closes)
    if not found:
        return ""
    text = text.lstrip().removeprefix(thought.opens)
    return text[_common(text, thought.space) :]


def _gap(answer: Message, thought: Thought) -> str:
    """The white space after a thought: the text's own, or twice that after the opening tag."""
    _, found, behind = answer.content.partition(thought.closes)
    if found and not answer.reasoning_content:
        return behind[: len(behind) - len(behind.lstrip())]
    return thought.space * 2


def _common(text: str, space: str) -> int:
    return len(space) if text.startswith(space) else 0


def _mark_is_structure(written: Written, thought: Thought) -> Written:
    """The first closing tag ends the thought that the template opened: not people's text."""
    at = written.text.index(thought.closes)
    spelled = tuple(span for span in written.spelled if span != (at, at + len(thought.closes)))
    return replace(written, spelled=spelled)
