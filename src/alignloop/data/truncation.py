"""Shortening rows that are too long, with `too_long = "cut"`: prompts from the left.

The oldest turns of a conversation go first, then the beginning of the question; the system message,
the template's own text and the end of the question stay. A response is cut only in SFT, at its end,
and then gets no end-of-turn token, so that the model does not learn to stop there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from alignloop.data.templates import Tools, apply_template
from alignloop.data.tokenise import (
    Encoded,
    LengthLimit,
    TooLongError,
    encode_demonstration,
    encode_prompt,
)
from alignloop.data.turns import answer_tokens
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_SHARE = 0.25  # of the tokens, kept for the prompt if the response would fill them all


def cut_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, room: int) -> Prompt | None:
    """The prompt, cut from its left to at most `room` tokens; None if that is impossible.

    It keeps its prompt_id: it is still the same question.
    """
    system = [message for message in prompt.messages[:1] if message.role == "system"]
    turns = list(prompt.messages[len(system) :])
    while _length(tokenizer, [*system, *turns], prompt.tools) > room:
        following = next((n for n, turn in enumerate(turns) if n and turn.role == "user"), None)
        if following is None:
            question = _cut_question(tokenizer, system, turns, room, prompt.tools)
            if question is None:
                return None
            turns = [question, *turns[1:]]
            break
        # cut whole exchanges, so the rest still starts with a user turn
        turns = turns[following:]
    return prompt.model_copy(update={"messages": (*system, *turns)})


def _cut_question(
    tokenizer: PreTrainedTokenizerBase,
    system: list[Message],
    turns: list[Message],
    room: int,
    tools: Tools,
) -> Message | None:
    """The longest end of the question that fits, by bisection; None if no character does."""

    def without(count: int) -> Message:
        return turns[0].model_copy(update={"content": turns[0].content[count:]})

    fits, too_few = len(turns[0].content), 0
    if not fits:
        return None
    fits -= 1  # keep at least one character
    if _length(tokenizer, [*system, without(fits), *turns[1:]], tools) > room:
        return None
    while fits - too_few > 1:
        middle = (fits + too_few) // 2
        if _length(tokenizer, [*system, without(middle), *turns[1:]], tools) <= room:
            fits = middle
        else:
            too_few = middle
    return without(fits)


def _length(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: Tools) -> int:
    return len(apply_template(tokenizer, messages, True, tools))


def prompt_cutter(
    tokenizer: PreTrainedTokenizerBase, limit: LengthLimit
) -> Callable[[Prompt], tuple[Prompt, list[int]] | None]:
    """For `encode_fitting`: the shortened prompt and its tokens."""

    def cut(prompt: Prompt) -> tuple[Prompt, list[int]] | None:
        shorter = cut_prompt(tokenizer, prompt, limit.tokens)
        return shorter and (shorter, encode_prompt(tokenizer, shorter, limit.tokens))

    return cut


def pair_cutter(
    tokenizer: PreTrainedTokenizerBase, limit: LengthLimit
) -> Callable[[PreferencePair], tuple[PreferencePair, None] | None]:
    """For `encode_fitting`: the pair with one shortened prompt for both responses."""

    def cut(pair: PreferencePair) -> tuple[PreferencePair, None] | None:
        asked, tools = pair.prompt.messages, pair.prompt.tools
        answers = [answer_tokens(tokenizer, asked, answer, tools) for answer in pair.answers]
        shorter = cut_prompt(tokenizer, pair.prompt, limit.tokens - max(map(len, answers)))
        return shorter and (pair.model_copy(update={"prompt": shorter}), None)

    return cut


def demonstration_cutter(
    tokenizer: PreTrainedTokenizerBase, limit: LengthLimit
) -> Callable[[Demonstration], tuple[Demonstration, Encoded] | None]:
    """For `encode_fitting`: a shortened prompt and, if needed, a response without its end.

    The prompt keeps a quarter of the tokens, or all of its own if it has fewer.
    """

    def cut(demonstration: Demonstration) -> tuple[Demonstration, Encoded] | None:
        prompt = demonstration.prompt
        answer = answer_tokens(tokenizer, prompt.messages, demonstration.answer, prompt.tools)
        room = max(limit.tokens - len(answer), int(limit.tokens * PROMPT_SHARE))
        prompt = cut_prompt(tokenizer, demonstration.prompt, room)
        if prompt is None:
            return None
        shorter = demonstration.model_copy(update={"prompt": prompt})
        try:
            return shorter, encode_demonstration(tokenizer, shorter, limit.tokens)
        except TooLongError as error:
            encoded = encode_demonstration(tokenizer, shorter, error.length)
        return shorter, Encoded(
            input_ids=encoded.input_ids[: limit.tokens],
            response_mask=encoded.response_mask[: limit.tokens],
        )

    return cut
