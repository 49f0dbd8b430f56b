"""`too_long = "cut"`: what goes first, what stays, and that it is counted; lengths by hand."""

import logging
from typing import Any, Literal

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.tokenise import (
    LengthLimit,
    decode,
    encode_demonstration,
    encode_fitting,
    encode_prompt,
)
from alignloop.data.truncation import cut_prompt, demonstration_cutter, prompt_cutter
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
# One token per letter, `<bos>` before, and one letter for the role: "Q" costs `<bos>uQ|a`.
TINY = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'][0] + m['content'] + '|' }}{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    backend = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(BYTES)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<bos>", "<eos>", "<pad>"])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    made.chat_template = TINY
    return made


def prompt(*turns: str) -> Prompt:
    """Turns such as "s:Be kind", "u:Q", "a:A"."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    messages = [Message(role=roles[turn[0]], content=turn[2:]) for turn in turns]  # type: ignore[arg-type]
    return Prompt(prompt_id="p", messages=tuple(messages))


LONG = prompt("s:S", "u:first", "a:one", "u:second", "a:two", "u:third question")


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (99, "<bos>sS|ufirst|aone|usecond|atwo|uthird question|a"),
        # 1 + 3 + 7 + 5 + 8 + 5 + 16 + 1 = 46; the first exchange has 12.
        (46, "<bos>sS|ufirst|aone|usecond|atwo|uthird question|a"),
        (45, "<bos>sS|usecond|atwo|uthird question|a"),
        (34, "<bos>sS|usecond|atwo|uthird question|a"),
        (33, "<bos>sS|uthird question|a"),
        (21, "<bos>sS|uthird question|a"),
        (20, "<bos>sS|uhird question|a"),
        (9, "<bos>sS|uon|a"),
        (8, "<bos>sS|un|a"),
    ],
)
def test_the_oldest_turns_go_and_then_the_beginning_of_the_question(
    room: int, expected: str, tokenizer: Any
) -> None:
    shorter = cut_prompt(tokenizer, LONG, room)
    assert shorter is not None and shorter.prompt_id == "p"
    ids = encode_prompt(tokenizer, shorter, room)
    assert tokenizer.decode(ids) == expected


def test_a_prompt_that_cannot_be_cut(tokenizer: Any) -> None:
    assert cut_prompt(tokenizer, LONG, 7) is None


def limit(tokens: int, too_long: Literal["refuse", "skip", "cut"] = "cut") -> LengthLimit:
    return LengthLimit.of("sft.max_tokens", tokens, None, too_long)


def test_prompts_are_cut_counted_and_reported(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [prompt("u:Q"), LONG, prompt("s:a very long system message", "u:Q")]

    def encode(one: Prompt) -> list[int]:
        return encode_prompt(tokenizer, one, 21)

    with caplog.at_level(logging.WARNING):
        kept, codes = encode_fitting(
            prompts, encode, limit(21), prompt_cutter(tokenizer, limit(21))
        )
    assert [one.text for one in kept] == ["Q", "third question"]
    assert [len(code) for code in codes] == [5, 21]
    assert "sft.too_long: cut 1 of 3 rows with more than 21 tokens" in caplog.text
    assert "sft.too_long: left out 1 of 3 rows" in caplog.text
    for word in ("refuse", "skip"):
        other = limit(21, word)  # type: ignore[arg-type]
        try:
            kept, _ = encode_fitting(prompts, encode, other, prompt_cutter(tokenizer, other))
            assert word == "skip" and [one.text for one in kept] == ["Q"]
        except UserError as error:
            assert word == "refuse" and '"skip" to leave them out, or "cut"' in error.fix


@pytest.mark.parametrize(
    ("response", "tokens", "expected"),
    [
        # The prompt `<bos>uabcdefgh|a` has 12 tokens; the response and its EOS the rest.
        ("yes", 16, "<bos>uabcdefgh|a[yes<eos>]"),
        ("yes", 12, "<bos>uefgh|a[yes<eos>]"),
        # A quarter of 24 is 6: the prompt keeps two letters, the response loses its end.
        ("abcdefghijklmnopqrst", 24, "<bos>ugh|a[abcdefghijklmnopqr]"),
    ],
)
def test_a_response_is_cut_at_its_end_and_then_has_no_end_of_turn(
    response: str, tokens: int, expected: str, tokenizer: Any
) -> None:
    demonstration = Demonstration(prompt=prompt("u:abcdefgh"), response=response)
    _, (code,) = encode_fitting(
        [demonstration],
        lambda one: encode_demonstration(tokenizer, one, tokens),
        limit(tokens),
        demonstration_cutter(tokenizer, limit(tokens)),
    )
    start = code.response_mask.index(True)
    told = [tokenizer.decode(code.input_ids[part]) for part in (slice(start), slice(start, None))]
    assert f"{told[0]}[{told[1]}]" == expected
    assert all(code.response_mask[start:]) and len(code.input_ids) <= tokens


def test_pairs_share_one_shorter_prompt_and_their_responses_are_never_cut(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked = prompt("u:abcdefgh")
    pairs = [
        PreferencePair(prompt=asked, chosen="yes", rejected="certainly"),
        PreferencePair(prompt=asked, chosen="a" * 20, rejected="b"),
    ]
    with caplog.at_level(logging.WARNING):
        codes = TextCodes(tokenizer=tokenizer, limit=limit(16))
        (pair,) = PairStore.of(pairs, codes).pairs
    # 16 - 10 = 6 tokens for `<bos>u..|a`.
    assert pair.prompt.text == "gh"
    assert (pair.chosen, pair.rejected) == ("yes", "certainly")
    assert "cut 1 of 2 rows" in caplog.text and "left out 1 of 2 rows" in caplog.text


def test_what_is_cut_is_still_a_text(tokenizer: Any) -> None:
    """A character of several bytes is kept or goes, and is never split."""
    shorter = cut_prompt(tokenizer, prompt("u:中文问题"), 11)
    assert shorter is not None and shorter.text == "问题"
    assert "�" not in decode(tokenizer, encode_prompt(tokenizer, shorter, 11))
