"""Reward models from elsewhere: their own tokenizer, their own template, their own kind of head."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedTokenizerFast,
)

from alignloop.config import ModelConfig
from alignloop.data.tokenise import encode_example
from alignloop.errors import UserError
from alignloop.judging.reward_models import RewardModel
from alignloop.models import RewardScale, save_model
from alignloop.records import Prompt

OTHER = "{% for m in messages %}{{ m['content'] + ' <unk> ' }}{% endfor %}"
RESPONSES = ["very good tea", "no", "the rain is cold very"]


@pytest.fixture
def asked(make_prompt: Callable[..., Prompt]) -> list[Prompt]:
    return [make_prompt("why"), make_prompt("how is the moon"), make_prompt("红茶好吗")]


def shuffled(tokenizer: Any, template: str | None) -> Any:
    """The same words under other numbers, and another way to write a conversation."""
    from tokenizers import Tokenizer, models

    words = sorted(tokenizer.get_vocab(), reverse=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    special = [word for word in words if word.startswith("<")]
    backend.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=template,
    )


def saved(folder: Path, model: Any, tokenizer: Any, scale: RewardScale | None = None) -> Path:
    folder.mkdir()
    save_model(folder, model, tokenizer, scale=scale)
    return folder


@pytest.fixture
def classifier(reward_dirs: dict[str, Path]) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(reward_dirs["llama"]).eval()


@pytest.mark.parametrize("budget", [1, 1000])
def test_a_conversation_is_written_by_its_own_template(
    budget: int,
    classifier: Any,
    tokenizer: Any,
    asked: list[Prompt],
    model_config: ModelConfig,
    tmp_path: Path,
) -> None:
    other = shuffled(tokenizer, OTHER)
    folder = saved(tmp_path / "rm", classifier, other)
    model = RewardModel.load(folder, model_config, micro_batch_tokens=budget)
    found = model.scores(asked, RESPONSES)
    for prompt, response, score in zip(asked, RESPONSES, found, strict=True):
        ids = other.encode(f"{prompt.text} <unk> {response} <unk> ")
        assert len(ids) > 3 and ids[-1] == other.unk_token_id
        expected = float(classifier(torch.tensor([ids])).logits[0, 0].detach())
        assert score == pytest.approx(expected, abs=1e-5)
    assert len(set(found)) == 3


def test_one_of_ours_is_read_as_it_was_trained_and_scaled(
    classifier: Any,
    tokenizer: Any,
    asked: list[Prompt],
    model_config: ModelConfig,
    tmp_path: Path,
) -> None:
    other = shuffled(tokenizer, tokenizer.chat_template)
    scale = RewardScale(bias=0.5, scale=2.0)
    folder = saved(tmp_path / "rm", classifier, other, scale)
    model = RewardModel.load(folder, model_config, micro_batch_tokens=99)
    for prompt, response in zip(asked, RESPONSES, strict=True):
        ids = encode_example(other, prompt, response, 999).input_ids
        raw = float(classifier(torch.tensor([ids])).logits[0, 0].detach())
        assert model.scores([prompt], [response])[0] == pytest.approx((raw - 0.5) / 2, abs=1e-5)


def test_an_encoder_without_template_reads_two_texts(
    tokenizer: Any, asked: list[Prompt], model_config: ModelConfig, tmp_path: Path
) -> None:
    other = shuffled(tokenizer, None)
    config = BertConfig(
        vocab_size=len(other),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=1,
        initializer_range=0.25,
        pad_token_id=other.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bert = AutoModelForSequenceClassification.from_config(config).eval()
    folder = saved(tmp_path / "rm", bert, other)
    model = RewardModel.load(folder, model_config, micro_batch_tokens=1000)
    found = model.scores(asked, RESPONSES)
    for prompt, response, score in zip(asked, RESPONSES, found, strict=True):
        code = other(prompt.text, response, return_tensors="pt")
        assert score == pytest.approx(float(bert(**code).logits[0, 0].detach()), abs=1e-5)
    assert len(set(found)) == 3
    with pytest.raises(UserError, match="whose context is 32") as caught:
        model.scores(asked[:1], ["very " * 40])
    assert '"p:why"' in caught.value.where


def test_without_any_template_it_is_refused_unless_one_is_named(
    classifier: Any,
    tokenizer: Any,
    asked: list[Prompt],
    model_config: ModelConfig,
    tmp_path: Path,
) -> None:
    folder = saved(tmp_path / "rm", classifier, shuffled(tokenizer, None))
    with pytest.raises(UserError, match="no chat template") as caught:
        RewardModel.load(folder, model_config, micro_batch_tokens=9)
    assert "model.chat_template" in caught.value.fix
    named = copy.copy(model_config).model_copy(update={"chat_template": "chatml"})
    assert len(RewardModel.load(folder, named, micro_batch_tokens=9).scores(asked, RESPONSES)) == 3
