"""What the model has to write itself: the answers of a conversation, each with its end of turn.

Where an answer stands is found from the model's own template, by writing the conversation once more
with another text in its place: what stays the same before and after it is not the answer. So no
template has to be known, and none has to mark its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from alignloop.data.templates import apply_template, rendered
from alignloop.errors import UserError
from alignloop.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for any answer; of letters alone, so that no template changes it.
_OTHER = "AnotherAnswerInThisPlace"


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends an answer: the template's own, or EOS where it has none.

    It may differ from EOS: Gemma writes <end_of_turn>, Phi-3 <|end|>.
    """
    return _shape(tokenizer).end


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What sampling stops at: the end of a turn, and EOS, which a model may write instead."""
    assert isinstance(tokenizer.eos_token_id, int), "check_tokenizer comes first"
    return tuple(dict.fromkeys((end_of_turn(tokenizer), tokenizer.eos_token_id)))


def answer_tokens(
    tokenizer: PreTrainedTokenizerBase, asked: Sequence[Message], response: str
) -> list[int]:
    """What follows the template's opening of an answer: the response and its end-of-turn token.

    Most templates write the response as it is. Where one strips it, or puts something before or
    after it (Llama 2 spaces, Qwen 3 an empty thought), so do we. Text in the response that spells a
    special token stays text.
    """
    shape = _shape(tokenizer)
    text = response if shape.plain else _as_written(tokenizer, asked, response)
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return [*ids, shape.end]


def prompt_with_answers(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[bool]]:
    """Token ids of a prompt as `apply_template` gives them, and which belong to its answers.

    An answer begins where the template's opening of an answer ends and goes up to its end-of-turn
    token, that included.

    Raises UserError as `apply_template` does, and where a template writes the rest of a
    conversation in another way because of the text of an answer.
    """
    ids = apply_template(tokenizer, messages, add_generation_prompt=True)
    answers = [place for place, turn in enumerate(messages) if turn.role == "assistant"]
    if not answers:
        return ids, [False] * len(ids)
    text = rendered(tokenizer, messages, add_generation_prompt=True)
    spans = [_span(tokenizer, messages, place, text) for place in answers]
    return ids, _tokens_within(tokenizer, text, ids, spans)


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """How a template ends an answer, and whether it writes the text as it is and nothing more."""

    end: int
    plain: bool


def _shape(tokenizer: PreTrainedTokenizerBase) -> _Shape:
    return _shape_of(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _shape_of(tokenizer: PreTrainedTokenizerBase, _template: str) -> _Shape:
    assert isinstance(tokenizer.eos_token_id, int), "check_tokenizer comes first"
    asked = [Message(role="user", content="Q")]
    # Two spaces: a template that strips them and writes its own (Llama 2) writes one.
    padded = Message(role="assistant", content=f"  {_OTHER}  ")
    whole = rendered(tokenizer, [*asked, padded], add_generation_prompt=False)
    opening = rendered(tokenizer, asked, add_generation_prompt=True)
    before, _, tail = whole.partition(_OTHER)
    as_it_is = before == f"{opening}  " and tail.startswith("  ")
    end = _first_special(tokenizer, tail)
    if end is None:  # the template ends its turns with a text, or not at all
        return _Shape(end=tokenizer.eos_token_id, plain=True)
    between = tail.partition(str(tokenizer.convert_ids_to_tokens(end)))[0]
    return _Shape(end=end, plain=as_it_is and between == "  ")


def _first_special(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """The special token that a text begins with, white space aside."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token in tokenizer.encode(text, add_special_tokens=False):
        if token in special:
            return token
        if str(tokenizer.decode([token])).strip():
            return None
    return None


def _as_written(tokenizer: PreTrainedTokenizerBase, asked: Sequence[Message], response: str) -> str:
    """The answer as the template writes it, from its opening to before its end-of-turn token."""
    opening = rendered(tokenizer, asked, add_generation_prompt=True)
    answers = [Message(role="assistant", content=text) for text in (response, _OTHER)]
    whole, changed = (rendered(tokenizer, [*asked, one], False) for one in answers)
    before, _, after = changed.partition(_OTHER)
    if not (before.startswith(opening) and whole.startswith(before) and whole.endswith(after)):
        return response  # a template that writes a finished answer otherwise than it opens one
    return whole[len(opening) : len(whole) - len(after)] + after.partition(_end_text(tokenizer))[0]


def _end_text(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)))


def _span(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], place: int, text: str
) -> tuple[int, int]:
    """Where in the text of the prompt an answer begins, and where it ends without its end."""
    other = messages[place].model_copy(update={"content": _OTHER})
    changed = rendered(tokenizer, [*messages[:place], other, *messages[place + 1 :]], True)
    before, _, after = changed.partition(_OTHER)
    if not (text.startswith(before) and text.endswith(after)):
        raise UserError(
            "the chat template writes the turns around an answer otherwise because of its text",
            where=f'the answer "{messages[place].content[:40]}"',
            fix="remove this conversation, or give its last answer alone",
        )
    opening = rendered(tokenizer, messages[:place], add_generation_prompt=True)
    start = len(opening) if before.startswith(opening) else len(before)
    return start, len(text) - len(after)


def _tokens_within(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: Sequence[int],
    spans: Sequence[tuple[int, int]],
) -> list[bool]:
    """True for the tokens of each span and for the end-of-turn token that follows it."""
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer does not say where in the text its tokens stand",
            where="tokenizer",
            fix="give conversations with one answer each, or a tokenizer with a tokenizer.json",
        )
    encoded: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert list(encoded["input_ids"]) == list(ids), "the template's text has the template's tokens"
    offsets, last, mask = encoded["offset_mapping"], end_of_turn(tokenizer), [False] * len(ids)
    for start, end in spans:
        for place, (begins, ends) in enumerate(offsets):
            mask[place] = mask[place] or (begins < end and ends > start)
        following = next((place for place, (begins, _) in enumerate(offsets) if begins >= end), 0)
        place = following
        while 0 < place < len(ids) and not text[end : offsets[place][0]].strip():
            if ids[place] == last:
                mask[following : place + 1] = [True] * (place + 1 - following)
                break
            place += 1
    return mask
