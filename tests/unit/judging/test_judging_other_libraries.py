"""Reward models of TRL, OpenRLHF and others: our score is what their own reading gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_support import (
    CHATML,
    END,
    END_OF_TEXT,
    ENDS_IN_EOS,
    TALKS,
    as_prompt,
    by_transformers,
    byte_tokenizer,
    change_config,
    change_tensors,
    conversation_ids,
    reward_at,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.judging.reward_models import RewardModel

PROMPTS = [as_prompt(asked) for asked, _ in TALKS]
ANSWERS = [answer for _, answer in TALKS]


def ours(folder: Path, config: ModelConfig, budget: int = 1000) -> list[float]:
    return RewardModel.load(folder, config, micro_batch_tokens=budget).scores(PROMPTS, ANSWERS)


@pytest.mark.parametrize("budget", [1, 1000])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(
    ("eos", "pad", "template", "side"),
    [
        (END, END_OF_TEXT, CHATML, "right"),
        (END, END, CHATML, "right"),  # SmolLM2-Instruct; the line break is read
        (END_OF_TEXT, END_OF_TEXT, CHATML, "left"),  # Qwen's base models
        (END_OF_TEXT, END_OF_TEXT, ENDS_IN_EOS, "right"),  # what is read stands before the end
        (END, END, ENDS_IN_EOS, "left"),
        (END_OF_TEXT, END, CHATML, "right"),  # PAD ends the turns, and is not EOS
    ],
)
def test_a_conversation_is_pooled_as_transformers_pools_it(
    eos: str,
    pad: str,
    template: str,
    side: str,
    family: str,
    budget: int,
    model_config: ModelConfig,
    tmp_path: Path,
) -> None:
    """The last token that is not the config's PAD, one at a time and in a batch."""
    tokenizer = byte_tokenizer(eos=eos, pad=pad, template=template)
    tokenizer.padding_side = side
    folder = reward_at(tmp_path / "rm", tokenizer, family)
    expected = by_transformers(folder)
    assert ours(folder, model_config, budget) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected}) == 3


def test_the_configs_pad_decides_and_not_the_tokenizers(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer(eos=END_OF_TEXT, pad=END_OF_TEXT, template=ENDS_IN_EOS)
    folder = reward_at(tmp_path / "rm", tokenizer)
    skipping = by_transformers(folder)
    for pad in (None, tokenizer.convert_tokens_to_ids(END)):  # None: whatever stands last is read
        change_config(folder, pad_token_id=pad)
        found = ours(folder, model_config)
        assert found == pytest.approx(by_transformers(folder), abs=1e-5)
        assert all(abs(one - other) > 1e-3 for one, other in zip(found, skipping, strict=True))


def test_a_text_of_padding_alone_is_read_at_its_first_token(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    """As transformers does: its search for the last other token then finds place 0."""
    only = "{% for m in messages %}{{ eos_token }}{% endfor %}"
    tokenizer = byte_tokenizer(eos=END, pad=END, template=only)
    folder = reward_at(tmp_path / "rm", tokenizer)
    assert ours(folder, model_config) == pytest.approx(by_transformers(folder), abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_tokenizer_without_pad_reads_single_texts(
    family: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=None), family)
    assert ours(folder, model_config) == pytest.approx(by_transformers(folder), abs=1e-5)


def test_a_bias_in_the_head_counts(model_config: ModelConfig, tmp_path: Path) -> None:
    """transformers' class has none, and drops it with a line in its log."""
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END))
    raw = by_transformers(folder)
    change_tensors(folder, **{"score.bias": torch.tensor([0.75])})
    assert ours(folder, model_config) == pytest.approx([x + 0.75 for x in raw], abs=1e-5)


@pytest.mark.parametrize(
    "name", ["score", "value_head", "v_head", "v_head.summary", "classifier", "reward_head"]
)
@pytest.mark.parametrize("bias", [0.0, -0.5])
def test_heads_of_other_names(
    name: str, bias: float, model_config: ModelConfig, tmp_path: Path
) -> None:
    """Of a class that transformers does not know; the last token is read, PAD or not."""
    tokenizer = byte_tokenizer(eos=END, pad=END, template=ENDS_IN_EOS)
    folder = reward_at(tmp_path / "rm", tokenizer)
    expected = at_the_last_token(folder, [conversation_ids(tokenizer, *talk) for talk in TALKS])
    change_tensors(folder, **{"score.weight": f"{name}.weight"})
    if bias:
        change_tensors(folder, **{f"{name}.bias": torch.tensor([bias])})
    change_config(folder, architectures=["MyScorer"], id2label=None, label2id=None)
    assert ours(folder, model_config) == pytest.approx([x + bias for x in expected], abs=1e-5)


def test_a_value_head_in_a_file_beside_the_language_model(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    """As LLaMA-Factory leaves it: value_head.safetensors beside a causal language model."""
    tokenizer = byte_tokenizer(eos=END, pad=END)
    folder = reward_at(tmp_path / "rm", tokenizer)
    expected = at_the_last_token(folder, [conversation_ids(tokenizer, *talk) for talk in TALKS])
    weight = load_file(folder / "model.safetensors")["score.weight"].clone()
    names = {"v_head.summary.weight": weight, "v_head.summary.bias": torch.tensor([1.0])}
    save_file(names, folder / "value_head.safetensors")
    output = {"lm_head.weight": torch.zeros(len(tokenizer), 16), "score.weight": None}
    change_tensors(folder, **output)
    change_config(folder, architectures=["LlamaForCausalLM"], id2label=None, label2id=None)
    assert ours(folder, model_config) == pytest.approx([x + 1 for x in expected], abs=1e-5)


@torch.no_grad()
def at_the_last_token(folder: Path, ids: list[list[int]]) -> list[float]:
    """The head's number at the very last token, whatever that is."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    states = [model.base_model(torch.tensor([one])).last_hidden_state[0, -1] for one in ids]
    return [float(model.score(state)) for state in states]


def as_openrlhf(folder: Path, head: str, **settings: Any) -> None:
    change_tensors(folder, **{"score.weight": f"{head}.weight"})
    change_config(folder, architectures=["RewardModel"], id2label=None, label2id=None, **settings)


@pytest.mark.parametrize("head", ["score", "value_head", "my_head"])
@pytest.mark.parametrize("eos", [END, END_OF_TEXT])
def test_openrlhf_reads_an_eos_last_and_normalises_by_its_config(
    eos: str, head: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    """No line break at the end; where EOS does not stand there, a space and EOS. (raw - mean) / std

    Source: openrlhf/datasets/reward_dataset.py and openrlhf/models/model.py.
    """
    tokenizer = byte_tokenizer(eos=eos, pad=eos)
    folder = reward_at(tmp_path / "rm", tokenizer)
    texts = [tokenizer.decode(conversation_ids(tokenizer, *talk)).rstrip("\n") for talk in TALKS]
    texts = [text if text.endswith(eos) else f"{text} {eos}" for text in texts]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert all(one[-1] == tokenizer.eos_token_id for one in ids)
    raw = at_the_last_token(folder, ids)
    prefix = {"value_head_prefix": head} if head == "my_head" else {}
    as_openrlhf(folder, head, mean=0.5, std=2.0, **prefix)
    expected = [(score - 0.5) / 2 for score in raw]
    assert ours(folder, model_config) == pytest.approx(expected, abs=1e-5)
    change_config(folder, mean=None, std=None)
    assert ours(folder, model_config) == pytest.approx(raw, abs=1e-5)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_deviation_that_divides_nothing_is_told(
    std: float, model_config: ModelConfig, tmp_path: Path
) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END))
    as_openrlhf(folder, "score", mean=0.5, std=std)
    with pytest.raises(UserError, match="standard deviation") as caught:
        ours(folder, model_config)
    assert caught.value.where.endswith("config.json, std")


def test_bfloat16_files_are_read_as_asked(model_config: ModelConfig, tmp_path: Path) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END))
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    expected = by_transformers(folder)
    assert ours(folder, model_config) == pytest.approx(expected, abs=1e-5)
    half = model_config.model_copy(update={"dtype": "bfloat16"})
    assert ours(folder, half) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ({"score.weight": torch.ones(2, 16)}, "not a reward model"),  # two numbers for a text
        ({"score.weight": None}, "not a reward model"),  # none
        ({"score.weight": "mlp.0.weight"}, "not a reward model"),  # a head of several layers
    ],
)
def test_what_is_no_scalar_head_is_refused(
    damage: Any, problem: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END))
    change_tensors(folder, **damage)
    change_config(folder, architectures=["RewardModel"], id2label=None, label2id=None)
    with pytest.raises(UserError, match=problem):
        ours(folder, model_config)


def test_a_score_that_is_no_number_is_told(model_config: ModelConfig, tmp_path: Path) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END))
    change_tensors(folder, **{"score.weight": torch.full((1, 16), torch.nan)})
    with pytest.raises(UserError, match="score is nan") as caught:
        ours(folder, model_config)
    assert 'prompt_id "p:why is the tea cold"' in caught.value.where


def test_without_a_template_nothing_is_guessed(
    model_config: ModelConfig, tmp_path: Path, make_prompt: Callable[..., Any]
) -> None:
    folder = reward_at(tmp_path / "rm", byte_tokenizer(pad=END, template=None))
    with pytest.raises(UserError, match="no chat template"):
        ours(folder, model_config)
    named = model_config.model_copy(update={"chat_template": "chatml"})
    found = ours(folder, named)
    byte_tokenizer(pad=END, template=CHATML).save_pretrained(folder)
    assert found == pytest.approx(by_transformers(folder), abs=1e-5)
