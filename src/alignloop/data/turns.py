"""The model's own part of a conversation: its answers, each with its end of turn.

An answer is what the model's own template writes after its opening of an answer, up to the special
tokens that end a turn. It is located by rendering the conversation with another text in its place:
what does not change before and after it is not the answer. This works with any template, and none
has to mark its answers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from alignloop.data.spelling import (
    Tokens,
    Written,
    own_words,
    special_ids,
    special_pattern,
    tokens_of,
    tokens_with_places,
)
from alignloop.data.templates import Tools, apply_template, looked_for_by, template_of, written
from alignloop.data.thoughts import (
    closed_once,
    leaves_out_thought,
    opened_thought,
    with_thought,
)
from alignloop.errors import UserError
from alignloop.records import Extra, Message, ToolCall, answer_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# Stands in for any answer; letters only, so that no template changes it.
_PROBE_ANSWER = "AnotherAnswerInThisPlace"
_PROBE_QUESTION = (Message(role="user", content="Q"),)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the template's own, or EOS if it has none.

    They may differ: Gemma writes <end_of_turn>, Phi-3 <|end|>.
    """
    return _shape(tokenizer).ends[-1]


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens at which sampling stops: end of turn, end of a tool call (gpt-oss), and EOS."""
    assert isinstance(tokenizer.eos_token_id, int), "check_tokenizer comes first"
    shape = _shape(tokenizer)
    return tuple(dict.fromkeys((shape.ends[-1], *shape.call_ends[-1:], tokenizer.eos_token_id)))


def conversation_tokens(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Tools = ()
) -> list[int]:
    """Token ids of a finished conversation: all that the template writes for it, nothing else.

    They equal those of `apply_chat_template`, except for text that spells special tokens, which
    stays text: reward models from other libraries were trained on exactly these.
    """
    return apply_template(tokenizer, messages, add_generation_prompt=False, tools=tools)


def prompt_and_answer(
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Message],
    response: str | Message,
    tools: Tools = (),
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of the answer that follows, including its end of turn.

    Together they are the beginning of `conversation_tokens` of the finished conversation, up to the
    end of the answer. Two exceptions: if a template opens an answer differently than it writes a
    finished one (R1 opens a thought, which its history leaves out), the answer follows its opening,
    with the thought closed once; and if a token would span the end of the prompt, the prompt keeps
    the tokens it has in sampling. Raises UserError as `written` does.
    """
    answer = response if isinstance(response, Message) else answer_of(response)
    opening = written(tokenizer, asked, add_generation_prompt=True, tools=tools)
    whole, ends = _render_example(tokenizer, asked, answer, tools, opening)
    before, after = _split_tokens(tokenizer, whole, opening)
    return before, [*after, *ends]


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Message],
    response: str | Message,
    tools: Tools = (),
) -> list[int]:
    """The answer's part of `prompt_and_answer`."""
    return prompt_and_answer(tokenizer, asked, response, tools)[1]


def prompt_with_answers(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Tools = ()
) -> tuple[list[int], list[bool]]:
    """Token ids of a prompt as in `apply_template`, and which of them belong to its answers.

    An answer starts after the template's opening of an answer and includes its end of turn.

    Raises UserError as `apply_template` does, and if the text of an answer changes how the template
    writes the rest of the conversation.
    """
    text = written(tokenizer, messages, add_generation_prompt=True, tools=tools)
    answers = [place for place, turn in enumerate(messages) if turn.role == "assistant"]
    if not answers:
        ids = tokens_of(tokenizer, text)
        return ids, [False] * len(ids)
    tokens = tokens_with_places(tokenizer, text)
    spans = [_span(tokenizer, messages, place, text.text, tools) for place in answers]
    return tokens.ids, _tokens_within(text.text, tokens, spans)


# --- the last answer ---------------------------------------------------------------------------


def _render_example(
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Message],
    answer: Message,
    tools: Tools,
    opening: Written,
) -> tuple[Written, list[int]]:
    """Prompt and answer up to its end of turn, and the ending tokens that the template lacks."""
    shape = _shape(tokenizer)
    added = [] if shape.written_end else list(shape.ends)
    if shape.plain and not answer.extra and not shape.looks_at(answer.content):
        return opening + Written(text=answer.content + shape.tail[: shape.kept]), added
    found = written(tokenizer, [*asked, answer], add_generation_prompt=False, tools=tools)
    end = shape.end_within(found.text, calls=bool(answer.tool_calls))
    thought = opened_thought(opening.text)
    at = len(opening.text)
    if end is not None and found.text.startswith(opening.text):
        rest = found.part(at, end)
        if closed_once(rest.text, thought):
            if leaves_out_thought(answer, rest.text):
                _warn_about_thoughts(tokenizer)
            return found.part(0, end), added
    pattern = special_pattern(tokenizer)
    ending = Written(text=shape.tail[: shape.kept])
    followed = end is not None and thought is not None
    bare = opening.text[: opening.text.rindex(thought.opens)] if thought else opening.text
    if answer.tool_calls and not (followed and found.text.startswith(bare)):
        raise UserError(
            "the chat template writes a finished tool call differently than it opens an answer",
            where=f'the answer "{answer.content[:40]}"',
            fix="remove the calls from the data, or use a model whose template supports them",
        )
    if thought is None:  # a template that writes a finished answer differently than it opens one
        return opening + own_words(answer.content, pattern) + ending, added
    if end is not None and found.text.startswith(bare):
        rest = found.part(len(bare), end)
    else:
        rest = own_words(answer.content, pattern) + ending
    return opening + with_thought(answer, rest, thought, pattern), added


@lru_cache(maxsize=8)
def _warn_about_thoughts(_tokenizer: PreTrainedTokenizerBase) -> None:
    """Once for each tokenizer."""
    logger.warning(
        "the chat template leaves out the thoughts of answers: only the text after them is learnt"
    )


def _split_tokens(
    tokenizer: PreTrainedTokenizerBase, whole: Written, opening: Written
) -> tuple[list[int], list[int]]:
    """The tokens of the opening, and those of what follows it.

    Tokenised together: some tokenizers split a text differently at the start than after something.
    """
    if tokenizer.is_fast:
        tokens = tokens_with_places(tokenizer, whole)
        before = _opening_tokens(tokenizer, opening, tokens)
        if tokens.ids[: len(before)] == before:
            return before, tokens.ids[len(before) :]
    after = whole.part(len(opening.text), len(whole.text))
    return tokens_of(tokenizer, opening), _in_the_middle(tokenizer, after)


def _in_the_middle(tokenizer: PreTrainedTokenizerBase, text: Written) -> list[int]:
    """Tokens of a text that follows another: at the start, sentencepiece would add a space."""
    # an anchor that does not merge with the text leaves its tokens alone
    for anchor in ("\n", ".", "a", "1"):
        before = tokens_of(tokenizer, Written(text=anchor))
        found = tokens_of(tokenizer, Written(text=anchor) + text)
        if found[: len(before)] == before:
            return found[len(before) :]
    return tokens_of(tokenizer, text)


def _opening_tokens(
    tokenizer: PreTrainedTokenizerBase, opening: Written, tokens: Tokens
) -> list[int]:
    """Tokens of the opening alone: as in the whole up to its last special token, a sure boundary.

    The rest (a role, a line break) is the same in most rows and is tokenised once.
    """
    last = tokens.last_before(len(opening.text), special_ids(tokenizer))
    if last is None:
        return tokens_of(tokenizer, opening)
    place, start = last
    tail = opening.part(start, len(opening.text))
    return [*tokens.ids[:place], *_tail_tokens(tokenizer, tail)]


@lru_cache(maxsize=64)
def _tail_tokens(tokenizer: PreTrainedTokenizerBase, tail: Written) -> list[int]:
    return tokens_of(tokenizer, tail)


# --- how a template ends an answer -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """How a template ends an answer.

    `tail` is all that it writes after the text of a last answer; its first `kept` characters end
    the turn, with the tokens `ends`. A tool call may have its own end (gpt-oss). A `plain` template
    writes any answer unchanged after its opening, unless the answer contains something that
    `special` matches.
    """

    plain: bool
    special: re.Pattern[str] | None

    tail: str
    kept: int
    ends: tuple[int, ...]
    written_end: bool
    call_tail: str
    call_ends: tuple[int, ...]

    def looks_at(self, text: str) -> bool:
        """Whether the template may treat this text specially."""
        return bool(self.special and self.special.search(text))

    def end_within(self, text: str, *, calls: bool) -> int | None:
        """Where the last turn of a finished conversation ends; None if the tail is another."""
        if text.endswith(self.tail):
            return len(text) - len(self.tail) + self.kept
        if calls and text.endswith(self.call_tail):
            return len(text.rstrip())
        return None


def _shape(tokenizer: PreTrainedTokenizerBase) -> _Shape:
    return _shape_of(tokenizer, template_of(tokenizer), len(tokenizer))


@lru_cache(maxsize=8)
def _shape_of(tokenizer: PreTrainedTokenizerBase, _template: str, _size: int) -> _Shape:
    assert isinstance(tokenizer.eos_token_id, int), "check_tokenizer comes first"
    # what comes after a last answer may differ from one in the middle
    tail = _after_answer(tokenizer, [])
    try:
        common = _common_start(tail, _after_answer(tokenizer, _PROBE_QUESTION))
    except UserError:  # a template for a single turn
        common = tail
    pattern = special_pattern(tokenizer)
    names = pattern.pattern if pattern else "(?!)"
    # All that follows an answer anywhere (Command R7B writes two tokens), or else the one token
    # that ends a conversation (gpt-oss).
    found = re.match(rf"(\s*)((?:{names})+)", common) or re.match(rf"(\s*)({names})", tail)
    call_tail = "" if found is None else _call_tail(tokenizer, tail, names)
    looked_for = "|".join(
        [*map(re.escape, looked_for_by(tokenizer)), *([names] if pattern else [])]
    )
    return _Shape(
        plain=_writes_as_it_is(tokenizer, tail),
        special=re.compile(looked_for) if looked_for else None,
        tail=tail,
        kept=found.end() if found else 0,
        ends=_ids(tokenizer, found[2]) if found else (tokenizer.eos_token_id,),
        written_end=found is not None,
        call_tail=call_tail,
        call_ends=_ids(tokenizer, call_tail.strip()),
    )


def _after_answer(tokenizer: PreTrainedTokenizerBase, following: Sequence[Message]) -> str:
    """What the template writes after the text of an answer."""
    turns = [*_PROBE_QUESTION, answer_of(_PROBE_ANSWER), *following]
    return written(tokenizer, turns, add_generation_prompt=False).text.partition(_PROBE_ANSWER)[2]


def _writes_as_it_is(tokenizer: PreTrainedTokenizerBase, tail: str) -> bool:
    """Whether a last answer is written unchanged between the opening and the end."""
    opening = written(tokenizer, _PROBE_QUESTION, add_generation_prompt=True).text
    # white space of every kind, quotes, backslashes and accents: what templates trim or escape
    for pad in (" ", "\n", "\t", ""):
        text = f'{pad}\n {_PROBE_ANSWER} "q" \\ é\n\n\tb \n{pad}'
        whole = written(
            tokenizer, [*_PROBE_QUESTION, answer_of(text)], add_generation_prompt=False
        ).text
        if whole != opening + text + tail:
            return False
    return True


def _call_tail(tokenizer: PreTrainedTokenizerBase, tail: str, names: str) -> str:
    """The special tokens at the end of a call, if they differ from those of an answer."""
    call = ToolCall(name="f", arguments={"x": "y"}, id="call12345")
    calling = answer_of("", Extra(tool_calls=(call,)))
    try:
        text = written(tokenizer, [*_PROBE_QUESTION, calling], add_generation_prompt=False).text
    except UserError:  # the template takes no calls
        return ""
    found = re.search(rf"(?:{names})+\s*$", text)
    return "" if text.endswith(tail) or found is None else found.group()


def _common_start(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokens_of(tokenizer, Written(text=text))) if text else ()


# --- answers within a prompt -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Span:
    """The start of an answer in a text, and its end without the tokens that end it."""

    start: int
    end: int
    ends: tuple[int, ...]


def _span(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    place: int,
    text: str,
    tools: Tools,
) -> _Span:
    """Located by rendering the conversation with another answer in this place."""
    turn, shape = messages[place], _shape(tokenizer)
    other = _with_another_call(turn) if turn.tool_calls else answer_of(_PROBE_ANSWER)
    turns = [*messages[:place], other, *messages[place + 1 :]]
    changed = written(tokenizer, turns, add_generation_prompt=True, tools=tools).text
    opening = written(tokenizer, messages[:place], add_generation_prompt=True, tools=tools).text
    if turn.tool_calls:
        same = len(_common_start(text[::-1], changed[::-1]))
        pattern = special_pattern(tokenizer)
        ending = pattern.search(text, len(text) - same) if pattern else None
        start = _common_start(text, opening)  # without a thought that the opening may end with
        end = ending.start() if ending else len(text) - same
        return _Span(start=len(start), end=end, ends=shape.call_ends or shape.ends)
    before, _, after = changed.partition(_PROBE_ANSWER)
    if not (text.startswith(before) and text.endswith(after)):
        raise UserError(
            "the text of an answer changes how the chat template writes the turns around it",
            where=f'the answer "{turn.content[:40]}"',
            fix="remove this conversation, or keep only its last answer",
        )
    start = opening if before.startswith(opening) else before
    return _Span(start=len(start), end=len(text) - len(after), ends=shape.ends)


def _with_another_call(turn: Message) -> Message:
    last = turn.tool_calls[-1].model_copy(update={"arguments": {_PROBE_ANSWER: _PROBE_ANSWER}})
    return turn.model_copy(update={"tool_calls": (*turn.tool_calls[:-1], last)})


def _tokens_within(text: str, tokens: Tokens, spans: Sequence[_Span]) -> list[bool]:
    """True for the tokens of each span and for the end-of-turn tokens that follow it."""
    ids, offsets = tokens.ids, tokens.offsets
    mask = [False] * len(ids)
    for span in spans:
        start, end, ends = span.start, span.end, list(span.ends)
        for place, (begins, stops) in enumerate(offsets):
            mask[place] = mask[place] or (begins < end and stops > start)
        following = next((place for place, (begins, _) in enumerate(offsets) if begins >= end), 0)
        place = following
        while 0 < place < len(ids) and not text[end : offsets[place][0]].strip():
            if ids[place : place + len(ends)] == ends:
                done = place + len(ends)
                mask[following:done] = [True] * (done - following)
                break
            place += 1
    return mask
