"""Templates and tokens, with a tokenizer of one token per byte, so that lengths count by hand."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from alignloop.data.templates import CHATML, apply_template, install_template
from alignloop.data.tokenise import (
    Encoded,
    check_tokenizer,
    decode,
    encode_example,
    encode_prompt,
)
from alignloop.errors import UserError
from alignloop.records import Message, Prompt

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = {token: number for number, token in enumerate(BYTES)}
BOS, EOS, PAD = 256, 257, 258
# One letter for the role, so that "Q" costs the prompt `<bos>uQ|a`: five tokens.
TINY = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'][0] + m['content'] + '|' }}{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)
USER = Message(role="user", content="Q")
PROMPT = Prompt(prompt_id="p7", messages=(USER,))


def byte_tokenizer(template: str | None = TINY, **special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer which, asked plainly, puts <bos> before and <eos> after a text."""
    backend = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<bos>", "<eos>", "<pad>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    names = special or {"eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", **names)
    tokenizer.chat_template = template
    return tokenizer


def ids_of(text: str) -> list[int]:
    return [VOCABULARY[character] for character in text]


def test_the_plain_call_does_double_special_tokens() -> None:
    assert byte_tokenizer().encode("Q") == [BOS, *ids_of("Q"), EOS]


def test_apply_template_writes_one_bos() -> None:
    tokenizer = byte_tokenizer()
    assert apply_template(tokenizer, [USER], True) == [BOS, *ids_of("uQ|a")]
    assert apply_template(tokenizer, [USER], False) == [BOS, *ids_of("uQ|")]


def test_encode_prompt_and_its_limit() -> None:
    tokenizer = byte_tokenizer()
    assert encode_prompt(tokenizer, PROMPT, 5) == [BOS, *ids_of("uQ|a")]
    with pytest.raises(UserError) as caught:
        encode_prompt(tokenizer, PROMPT, 4)
    assert caught.value.where == 'prompt_id "p7"'
    assert caught.value.problem == "5 tokens, but max_prompt_tokens allows 4"
    assert "max_prompt_tokens" in caught.value.fix


def test_encode_example_masks_the_response_and_its_eos() -> None:
    assert encode_example(byte_tokenizer(), PROMPT, "yes", 9) == Encoded(
        input_ids=(BOS, *ids_of("uQ|ayes"), EOS),
        response_mask=(False,) * 5 + (True,) * 4,
    )


def test_encode_example_masks_eos_where_pad_is_eos() -> None:
    tokenizer = byte_tokenizer(eos_token="<eos>", pad_token="<eos>")
    assert encode_example(tokenizer, PROMPT, "no", 9).response_mask == (False,) * 5 + (True,) * 3


def test_encode_example_is_never_cut() -> None:
    with pytest.raises(UserError) as caught:
        encode_example(byte_tokenizer(), PROMPT, "yes", 8)
    assert caught.value.where == 'prompt_id "p7"'
    assert caught.value.problem == "9 tokens, but max_tokens allows 8"


def test_a_response_that_spells_eos_holds_only_one_eos() -> None:
    encoded = encode_example(byte_tokenizer(), PROMPT, "a<eos>b", 99)
    assert encoded.input_ids[5:] == (*ids_of("a<eos>b"), EOS)


def test_decode_skips_special_tokens_and_gives_the_response_back() -> None:
    tokenizer = byte_tokenizer()
    encoded = encode_example(tokenizer, PROMPT, " 中文 ok, it 's", 99)
    marked = zip(encoded.input_ids, encoded.response_mask, strict=True)
    response = [token for token, counts in marked if counts]
    assert decode(tokenizer, [BOS, *response, PAD, PAD]) == " 中文 ok, it 's"


def test_a_tokenizer_without_template_says_what_to_set() -> None:
    with pytest.raises(UserError) as caught:
        encode_prompt(byte_tokenizer(template=None), PROMPT, 99)
    assert caught.value.problem == "the tokenizer has no chat template"
    assert caught.value.fix == 'set model.chat_template = "chatml"'


def test_chatml_by_name() -> None:
    tokenizer = byte_tokenizer(template=None)
    install_template(tokenizer, "chatml")
    assert tokenizer.chat_template == CHATML
    messages = [Message(role="system", content="Be kind."), USER]
    assert decode(tokenizer, apply_template(tokenizer, messages, True)) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_an_unknown_template_name() -> None:
    with pytest.raises(UserError, match=r'no chat template is named "chatlm".*one of: chatml'):
        install_template(byte_tokenizer(), "chatlm")


def test_a_template_that_refuses_the_messages() -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    messages = [Message(role="system", content="Be kind."), USER]
    with pytest.raises(UserError, match=r"refuses the messages \(system, user\): no system"):
        apply_template(byte_tokenizer(template=strict), messages, True)


@pytest.mark.parametrize(
    ("special", "template", "problem", "fix"),
    [
        ({"pad_token": "<pad>"}, TINY, "no EOS token", "eos_token"),
        ({"eos_token": "<eos>"}, TINY, "no PAD token", "add_special_tokens"),
        (
            {"eos_token": "<eos>", "pad_token": "<eos>"},
            TINY,
            'PAD and EOS are the same token ("<eos>")',
            "its own token",
        ),
        ({"eos_token": "<eos>", "pad_token": "<pad>"}, None, "no chat template", "chatml"),
    ],
)
def test_check_tokenizer(
    special: dict[str, str], template: str | None, problem: str, fix: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_tokenizer(byte_tokenizer(template, **special), where="models/tiny")
    assert caught.value.where == "models/tiny"
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_check_tokenizer_accepts_a_sound_one() -> None:
    check_tokenizer(byte_tokenizer(), where="models/tiny")
