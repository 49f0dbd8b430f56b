"""Response masks of the templates that people's models bring, against texts marked by hand."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from alignloop.data.templates import CHATML, apply_template, install_template
from alignloop.data.tokenise import encode_demonstration, encode_example, encode_prompt
from alignloop.data.turns import end_of_turn, prompt_with_answers, stop_tokens
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, Prompt

TEMPLATES = Path(__file__).parent / "chat_templates"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
# BOS, EOS, and the special tokens that a template writes beside them, as the models have them.
QWEN = (None, "<|im_end|>", "<|im_start|>")
LLAMA_3 = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
PHI = ("<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>")
GEMMA = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
OLDER = ("<s>", "</s>")
SPECIAL: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(("chatml", "qwen2", "qwen2_5", "qwen3", "qwen3_instruct_2507"), QWEN),
    **dict.fromkeys(("llama3", "llama3_1"), LLAMA_3),
    **dict.fromkeys(("phi3", "phi3_5"), PHI),
    **dict.fromkeys(("gemma", "gemma3"), GEMMA),
    **dict.fromkeys(("llama2", "mistral", "zephyr"), OLDER),
}
# The whole conversation as the model reads it in SFT; what counts stands between « and ».
IM = "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n«A1<|im_end|>»\n"
IM += "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n"
HEAD = "<|start_header_id|>{}<|end_header_id|>\n\n".format
USER, ASSISTANT = HEAD("user"), HEAD("assistant")
LLAMA = f"{USER}Q1<|eot_id|>{ASSISTANT}«A1<|eot_id|>»{USER}Q2<|eot_id|>{ASSISTANT}«A2<|eot_id|>»"
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
TURNS = "<start_of_turn>user\n{}Q1<end_of_turn>\n<start_of_turn>model\n«A1<end_of_turn>»\n"
TURNS += "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\n«A2<end_of_turn>»"
PHI_3 = "<|user|>\nQ1<|end|>\n<|assistant|>\n«A1<|end|>»\n<|user|>\nQ2<|end|>\n"
PHI_3 += "<|assistant|>\n«A2<|end|>»"
ZEPHYR = "<|user|>\nQ1</s>\n<|assistant|>\n«A1</s>»\n<|user|>\nQ2</s>\n<|assistant|>\n«A2</s>»"
WITHOUT_SYSTEM = {
    "chatml": f"{IM}«A2<|im_end|>»",
    "qwen2": f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{IM}«A2<|im_end|>»",
    "qwen2_5": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful"
    f" assistant.<|im_end|>\n{IM}«A2<|im_end|>»",
    # The last answer has an empty thought before it, which the model has to write itself.
    "qwen3": f"{IM}«<think>\n\n</think>\n\nA2<|im_end|>»",
    "qwen3_instruct_2507": f"{IM}«A2<|im_end|>»",
    "llama2": "<s>[INST] Q1 [/INST]« A1 </s>»<s>[INST] Q2 [/INST]« A2 </s>»",
    "llama3": f"<|begin_of_text|>{LLAMA}",
    "llama3_1": f"<|begin_of_text|>{HEAD('system')}{DATES}<|eot_id|>{LLAMA}",
    "mistral": "<s>[INST] Q1 [/INST]«A1</s>»[INST] Q2 [/INST]«A2</s>»",
    "gemma": f"<bos>{TURNS.format('')}",
    "gemma3": f"<bos>{TURNS.format('')}",
    "phi3": PHI_3,
    "phi3_5": PHI_3,
    "zephyr": ZEPHYR,
}
IM_SYSTEM = "<|im_start|>system\nS<|im_end|>\n"
WITH_SYSTEM = {
    "chatml": f"{IM_SYSTEM}{IM}«A2<|im_end|>»",
    "qwen2": f"{IM_SYSTEM}{IM}«A2<|im_end|>»",
    "qwen2_5": f"{IM_SYSTEM}{IM}«A2<|im_end|>»",
    "qwen3": f"{IM_SYSTEM}{IM}«<think>\n\n</think>\n\nA2<|im_end|>»",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST]« A1 </s>»"
    "<s>[INST] Q2 [/INST]« A2 </s>»",
    "llama3": f"<|begin_of_text|>{HEAD('system')}S<|eot_id|>{LLAMA}",
    "gemma3": f"<bos>{TURNS.format('S' + chr(10) * 2)}",
    "phi3": f"<|system|>\nS<|end|>\n{PHI_3}",
    "zephyr": f"<|system|>\nS</s>\n{ZEPHYR}",
}
SYSTEM = Message(role="system", content="S")


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """One token per byte and the family's special tokens; asked plainly, it puts BOS before."""
    bos, eos, *others = SPECIAL[name]
    backend = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(BYTES)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<pad>", *(token for token in (bos, eos, *others) if token)])
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    names = {"bos_token": bos} if bos else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token="<pad>", **names
    )
    made.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return made


def conversation(*turns: Message) -> Demonstration:
    """Q1, A1, Q2 and the answer A2, with other turns before them."""
    said = [("user", "Q1"), ("assistant", "A1"), ("user", "Q2")]
    messages = (*turns, *(Message(role=role, content=text) for role, text in said))  # type: ignore[arg-type]
    prompt = Prompt(prompt_id="p", messages=messages)
    return Demonstration(prompt=prompt, response="A2", every_turn=True)


def marked(tokenizer: Any, ids: Any, mask: Any) -> str:
    """The text of the tokens, with « and » around those that count."""
    text, open_ = "", False
    for start in range(len(ids)):
        if mask[start] != open_:
            text, open_ = text + ("«" if mask[start] else "»"), mask[start]
        text += tokenizer.decode([ids[start]])
    return text + "»" * open_


@pytest.mark.parametrize(
    ("name", "system", "expected"),
    [
        *((name, False, text) for name, text in WITHOUT_SYSTEM.items()),
        *((name, True, text) for name, text in WITH_SYSTEM.items()),
    ],
)
def test_every_answer_counts_with_its_end_of_turn(name: str, system: bool, expected: str) -> None:
    tokenizer = tokenizer_of(name)
    encoded = encode_demonstration(tokenizer, conversation(*[SYSTEM] * system), 10_000)
    assert marked(tokenizer, encoded.input_ids, encoded.response_mask) == expected


@pytest.mark.parametrize("name", WITHOUT_SYSTEM)
def test_without_every_turn_the_last_answer_alone_counts(name: str) -> None:
    tokenizer = tokenizer_of(name)
    demonstration = conversation().model_copy(update={"every_turn": False})
    encoded = encode_demonstration(tokenizer, demonstration, 10_000)
    before, _, last = WITHOUT_SYSTEM[name].rpartition("«")
    expected = before.replace("«", "").replace("»", "") + "«" + last
    assert marked(tokenizer, encoded.input_ids, encoded.response_mask) == expected


@pytest.mark.parametrize("name", WITHOUT_SYSTEM)
def test_training_begins_with_the_prompt_that_ppo_samples_from(name: str) -> None:
    """With more than one turn, and with a system message where the template takes one."""
    tokenizer = tokenizer_of(name)
    for system in [[], [SYSTEM]] if name in WITH_SYSTEM else [[]]:
        prompt = conversation(*system).prompt
        asked = encode_prompt(tokenizer, prompt, 10_000)
        example = encode_example(tokenizer, prompt, "A2", 10_000)
        assert list(example.input_ids[: len(asked)]) == asked
        assert not any(example.response_mask[: len(asked)])
        assert all(example.response_mask[len(asked) :])
        assert example.input_ids[-1] == end_of_turn(tokenizer)


@pytest.mark.parametrize("name", [name for name in WITHOUT_SYSTEM if SPECIAL[name][0]])
def test_bos_is_never_doubled(name: str) -> None:
    tokenizer = tokenizer_of(name)
    assert tokenizer.encode("x")[0] == tokenizer.bos_token_id  # what a plain call puts before
    ids = encode_demonstration(tokenizer, conversation(), 10_000).input_ids
    written = WITHOUT_SYSTEM[name].count(str(tokenizer.bos_token))
    assert ids.count(tokenizer.bos_token_id) == written
    assert not any(a == b == tokenizer.bos_token_id for a, b in pairwise(ids))


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("gemma", "<end_of_turn>"),
        ("phi3", "<|end|>"),
        ("llama3", "<|eot_id|>"),
        ("llama2", "</s>"),
        ("qwen3", "<|im_end|>"),
        ("zephyr", "</s>"),
    ],
)
def test_the_token_that_ends_a_turn(name: str, token: str) -> None:
    tokenizer = tokenizer_of(name)
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == token


def test_sampling_stops_at_the_end_of_a_turn_and_at_eos() -> None:
    for name, stops in (("gemma", ["<end_of_turn>", "<eos>"]), ("llama2", ["</s>"])):
        tokenizer = tokenizer_of(name)
        assert tokenizer.convert_ids_to_tokens(list(stop_tokens(tokenizer))) == stops


def test_a_model_without_a_template_gets_ours_by_name() -> None:
    tokenizer = tokenizer_of("zephyr")
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r'model\.chat_template = "chatml"'):
        encode_demonstration(tokenizer, conversation(), 10_000)
    install_template(tokenizer, "chatml")
    assert tokenizer.chat_template == CHATML
    encoded = encode_demonstration(tokenizer, conversation(), 10_000)
    # This tokenizer has no <|im_end|>: turns end with its letters, and the last one with EOS.
    expected = IM.replace("A1<|im_end|>»", "A1»<|im_end|>") + "«A2</s>»"
    assert marked(tokenizer, encoded.input_ids, encoded.response_mask) == expected


def test_a_template_that_takes_no_system_message_says_so() -> None:
    for name in ("gemma", "mistral"):
        with pytest.raises(UserError, match=r"refuses the messages \(system, user"):
            encode_demonstration(tokenizer_of(name), conversation(SYSTEM), 10_000)


def test_text_that_spells_a_special_token_stays_text_in_the_response() -> None:
    for name in ("chatml", "llama2"):
        tokenizer = tokenizer_of(name)
        response = f"a{tokenizer.eos_token}b"
        encoded = encode_example(tokenizer, conversation().prompt, response, 10_000)
        answer = [i for i, m in zip(encoded.input_ids, encoded.response_mask, strict=True) if m]
        assert answer.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(answer[:-1]).strip() == response


def test_a_template_that_strips_an_answer_is_followed() -> None:
    tokenizer = tokenizer_of("llama3")
    encoded = encode_example(tokenizer, conversation().prompt, "  A2 \n", 10_000)
    told = marked(tokenizer, encoded.input_ids, encoded.response_mask)
    assert told.endswith(f"{ASSISTANT}«A2<|eot_id|>»")


def test_a_thought_in_an_earlier_answer_is_left_out_as_the_template_does() -> None:
    tokenizer = tokenizer_of("qwen3")
    turns = list(conversation().prompt.messages)
    turns[1] = turns[1].model_copy(update={"content": "<think>\nhm\n</think>\n\nA1"})
    ids, mask = prompt_with_answers(tokenizer, turns)
    assert marked(tokenizer, ids, mask) == IM


def test_a_template_that_depends_on_an_answers_text_is_refused() -> None:
    tokenizer = tokenizer_of("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}<|im_end|>{% if 'A1' in m.content %}!{% endif %}"
        "{% endfor %}"
    )
    with pytest.raises(
        UserError, match="the text of an answer changes how the chat template writes"
    ) as caught:
        encode_demonstration(tokenizer, conversation(), 10_000)
    assert caught.value.where == 'the answer "A1"'


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "llama2", "phi3", "mistral"])
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(WORDS.filter(lambda text: bool(text.strip())), min_size=4, max_size=4))
def test_whatever_is_said_the_answers_and_nothing_else_count(name: str, texts: list[str]) -> None:
    tokenizer = tokenizer_of(name)
    roles = ("user", "assistant", "user")
    turns = tuple(
        Message(role=role, content=text)  # type: ignore[arg-type]
        for role, text in zip(roles, texts[:3], strict=True)
    )
    prompt = Prompt(prompt_id="p", messages=turns)
    demonstration = Demonstration(prompt=prompt, response=texts[3], every_turn=True)
    encoded = encode_demonstration(tokenizer, demonstration, 10_000)
    pairs = zip(encoded.input_ids, encoded.response_mask, strict=True)
    answers = tokenizer.decode([i for i, counts in pairs if counts])
    end = str(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)))
    first, second, rest = answers.split(end)
    assert [first.strip(), second.strip(), rest] == [texts[1].strip(), texts[3].strip(), ""]
    # What is not counted is the rest of what the template writes.
    assert (
        apply_template(tokenizer, turns, True)
        == list(encoded.input_ids)[
            : len(encoded.input_ids) - len(tokenizer.encode(second, add_special_tokens=False)) - 1
        ]
    )
