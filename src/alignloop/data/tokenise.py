"""Prompts and responses as tokens, with the span of the response known by counting.

A mask never comes from `ids != pad_id`: with PAD equal to EOS that would hide the real EOS from
both losses, and the model would never learn to stop (detail 1 of docs/algorithms.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from alignloop.config.stages import TooLong
from alignloop.data.templates import apply_template, require_template
from alignloop.data.tokenizer import Tokenizer
from alignloop.data.turns import prompt_and_answer, prompt_with_answers
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CONTEXT = "the model's context"
logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Code = TypeVar("Code")


class TooLongError(UserError):
    """A prompt or example with more tokens than allowed."""

    def __init__(self, length: int, allowed: int, setting: str, prompt: Prompt) -> None:
        self.length = length
        super().__init__(
            f"{length} tokens, but {setting} allows {allowed}",
            where=f'prompt_id "{prompt.prompt_id}"',
            fix=f"raise {setting} to {length} or more, or leave this prompt out",
        )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A prompt and its response; the mask is True on the response's tokens and its EOS."""

    input_ids: tuple[int, ...]
    response_mask: tuple[bool, ...]


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, max_prompt_tokens: int
) -> list[int]:
    """Token ids of the prompt, up to and including the template's opening of the answer.

    Raises UserError, naming the prompt, if there are more than `max_prompt_tokens`.
    """
    ids = apply_template(tokenizer, prompt.messages, True, prompt.tools)
    _check_length(len(ids), max_prompt_tokens, "max_prompt_tokens", prompt)
    return ids


def encode_example(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, response: str | Message, max_tokens: int
) -> Encoded:
    """Prompt tokens, then response tokens and the end-of-turn token, which the mask covers.

    The response is a text, or an "assistant" turn with reasoning and calls. Nothing is cut: a
    response without its end would teach the model to stop in mid-sentence. Text in the response
    that spells a special token stays text.

    Raises UserError, naming the prompt, if there are more than `max_tokens` in all.
    """
    before, answer = prompt_and_answer(tokenizer, prompt.messages, response, prompt.tools)
    _check_length(len(before) + len(answer), max_tokens, "max_tokens", prompt)
    return Encoded(
        input_ids=(*before, *answer),
        response_mask=(False,) * len(before) + (True,) * len(answer),
    )


def encode_demonstration(
    tokenizer: PreTrainedTokenizerBase, demonstration: Demonstration, max_tokens: int
) -> Encoded:
    """The same for a demonstration; with `every_turn` the mask covers its earlier answers too.

    Each of them counts with its own end-of-turn token, wherever the model's template writes it.
    """
    prompt = demonstration.prompt
    encoded = encode_example(tokenizer, prompt, demonstration.answer, max_tokens)
    if not demonstration.every_turn:
        return encoded
    ids, answers = prompt_with_answers(tokenizer, prompt.messages, prompt.tools)
    mask = (*answers, *encoded.response_mask[len(ids) :])
    return Encoded(input_ids=encoded.input_ids, response_mask=mask)


@dataclass(frozen=True, kw_only=True)
class LengthLimit:
    """How many tokens fit, which setting decides it, and what to do with longer rows."""

    tokens: int
    set_by: str
    too_long: TooLong
    switch: str

    @classmethod
    def of(cls, setting: str, value: int, context: int | None, too_long: TooLong) -> LengthLimit:
        """The value of `setting` ("sft.max_tokens"), or the model's context if that is less."""
        switch = f"{setting.split('.')[0]}.too_long"
        if context is not None and context < value:
            return cls(tokens=context, set_by=CONTEXT, too_long=too_long, switch=switch)
        return cls(tokens=value, set_by=setting, too_long=too_long, switch=switch)


def encode_fitting(
    items: Sequence[Item],
    encode: Callable[[Item], Code],
    limit: LengthLimit,
    cut: Callable[[Item], tuple[Item, Code] | None] = lambda _: None,
) -> tuple[list[Item], list[Code]]:
    """The items that fit, and their codes; `encode` raises TooLongError for one that does not.

    If `limit.too_long` is "refuse", all that are too long are refused at once, naming the longest;
    if "skip", they are left out and counted in the log; if "cut", `cut` shortens them, and those it
    cannot shorten (None) are left out. Also raises UserError if none is left.
    """
    kept: list[Item] = []
    codes: list[Code] = []
    refused: list[TooLongError] = []
    shortened = 0
    for item in items:
        try:
            code = encode(item)
        except TooLongError as error:
            fitting = cut(item) if limit.too_long == "cut" else None
            if fitting is None:
                refused.append(error)
                continue
            item, code = fitting
            shortened += 1
        kept.append(item)
        codes.append(code)
    # report all too long rows at once, not one per run
    if refused and (limit.too_long == "refuse" or not kept):
        raise _too_long(refused, len(items), limit)
    for done, count in (("cut", shortened), ("left out", len(refused))):
        if count:
            counts = (done, count, len(items), limit.tokens)
            logger.warning("%s: %s %d of %d rows with more than %d tokens", limit.switch, *counts)
    return kept, codes


def _too_long(refused: list[TooLongError], total: int, limit: LengthLimit) -> UserError:
    longest = max(error.length for error in refused)
    remedies = [] if limit.set_by == CONTEXT else [f"raise {limit.set_by} to {longest} or more"]
    if limit.too_long == "refuse":
        remedies.append(f'set {limit.switch} = "skip" to leave them out, or "cut" to shorten them')
    return UserError(
        f"{len(refused)} of {total} rows are too long: the longest has {longest} tokens,"
        f" but {limit.set_by} allows {limit.tokens}",
        where=refused[0].where,
        fix=", or ".join(remedies or ["use a model with a longer context"]),
    )


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of the ids, without special tokens."""
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    assert isinstance(text, str), "one sequence gives one text"
    return text


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Raise UserError if training with this tokenizer would silently go wrong.

    Refused: no EOS, no PAD, PAD equal to EOS, no chat template.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer has no EOS token, so no answer could end",
            where=where,
            fix="set eos_token in tokenizer_config.json to the token that ends an answer",
        )
    add_pad = (
        'tokenizer.add_special_tokens({"pad_token": "<|pad|>"}), then '
        "model.resize_token_embeddings(len(tokenizer)), and save both"
    )
    if tokenizer.pad_token_id is None:
        raise UserError("the tokenizer has no PAD token", where=where, fix=f"add one: {add_pad}")
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError(
            f'PAD and EOS are the same token ("{tokenizer.eos_token}"): padding looks like an end',
            where=where,
            fix=f"give PAD its own token: {add_pad}",
        )
    require_template(tokenizer, where)


def _check_length(length: int, allowed: int, setting: str, prompt: Prompt) -> None:
    if length > allowed:
        raise TooLongError(length, allowed, setting, prompt)
