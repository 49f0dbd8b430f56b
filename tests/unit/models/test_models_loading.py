"""Loading: what would fail later in a puzzling way is told here; heads begin as published."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from alignloop.config import ModelConfig
from alignloop.errors import UserError
from alignloop.models import (
    RewardScale,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_critic,
    new_reward_model,
    read_reward_scale,
    save_model,
    sequence_scores,
    token_logprobs,
    token_values,
)
from alignloop.models.forward import hidden_states

FAMILIES = ("qwen2", "llama", "gpt2")
IDS = torch.tensor([[3, 12, 7, 4, 9, 6, 1], [3, 8, 4, 20, 11, 1, 0]])
ATTENTION = torch.tensor([[True] * 7, [True] * 6 + [False]])
RESPONSE = torch.tensor([[False] * 4 + [True] * 3, [False] * 3 + [True] * 3 + [False]])


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_no_model_there(tmp_path: Path, tokenizer: Any, model_config: ModelConfig) -> None:
    with pytest.raises(UserError, match="there is no model here") as caught:
        load_policy(tmp_path, tokenizer, model_config)
    assert caught.value.where == str(tmp_path)
    assert "save_pretrained" in caught.value.fix


def test_no_tokenizer_there(
    tmp_path: Path, lm_dirs: dict[str, Path], make_lm: Callable[..., Any]
) -> None:
    make_lm("qwen2").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "save_pretrained" in caught.value.fix


def test_unreadable_tokenizer(tmp_path: Path, lm_dirs: dict[str, Path]) -> None:
    folder = copy_of(lm_dirs["qwen2"], tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="the tokenizer cannot be read") as caught:
        load_tokenizer(folder)
    assert caught.value.where == str(folder)


def test_no_safetensors(
    tmp_path: Path, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    folder = copy_of(lm_dirs["qwen2"], tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors weights") as caught:
        load_policy(folder, tokenizer, model_config)
    assert caught.value.where == str(folder)


def test_damaged_safetensors(
    tmp_path: Path, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    folder = copy_of(lm_dirs["qwen2"], tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(UserError, match="the model cannot be loaded"):
        load_policy(folder, tokenizer, model_config)


def test_weights_that_lack_a_tensor(
    tmp_path: Path, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    folder = copy_of(lm_dirs["qwen2"], tmp_path / "m")
    edit_config(folder, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    with pytest.raises(UserError, match=r"lack 12 tensors .* model\.layers\.2\."):
        load_policy(folder, tokenizer, model_config)


def test_vocabulary_larger_than_embedding(
    tmp_path: Path, make_lm: Callable[..., Any], tokenizer: Any, model_config: ModelConfig
) -> None:
    make_lm("qwen2", num_tokens=10).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{len(tokenizer)} tokens .* only 10 rows") as caught:
        load_policy(tmp_path, tokenizer, model_config)
    assert "resize_token_embeddings" in caught.value.fix
    with pytest.raises(UserError, match="only 10 rows"):
        new_reward_model(tmp_path, tokenizer, model_config, seed=0)


def test_more_rows_than_tokens_is_fine(
    tmp_path: Path, make_lm: Callable[..., Any], tokenizer: Any, model_config: ModelConfig
) -> None:
    make_lm("qwen2", num_tokens=64).save_pretrained(tmp_path)
    assert load_policy(tmp_path, tokenizer, model_config).config.vocab_size == 64


@pytest.mark.parametrize("family", FAMILIES)
def test_a_policy_is_no_reward_model(
    family: str, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    with pytest.raises(UserError, match="this is not a reward model") as caught:
        load_reward_model(lm_dirs[family], tokenizer, model_config)
    assert "alignloop reward" in caught.value.fix


def test_a_classifier_of_three_labels_is_no_reward_model(
    tmp_path: Path, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(lm_dirs["llama"], num_labels=3)
    save_model(tmp_path, model, tokenizer)
    with pytest.raises(UserError, match="this is not a reward model"):
        load_reward_model(tmp_path, tokenizer, model_config)


def test_a_reward_model_with_another_tokenizer(
    tmp_path: Path, reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    folder = copy_of(reward_dirs["qwen2"], tmp_path / "m")
    other = PreTrainedTokenizerFast.from_pretrained(folder)
    other.add_tokens(["extra"])
    other.save_pretrained(folder)
    with pytest.raises(UserError, match="tokenizer differs from the policy's") as caught:
        load_reward_model(folder, tokenizer, model_config)
    assert caught.value.where == str(folder)


def test_the_tokenizer_comes_back_as_saved(lm_dirs: dict[str, Path], tokenizer: Any) -> None:
    # For families with a class of their own AutoTokenizer would split text in another way.
    for folder in lm_dirs.values():
        loaded = load_tokenizer(folder)
        text = "why 天气 very good"
        assert loaded.encode(text) == tokenizer.encode(text) == [13, 25, 26, 22, 5]
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded.pad_token_id != loaded.eos_token_id


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_even_in_training_mode(
    family: str, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 19: the config asks for dropout, the loaded model has none."""
    policy = load_policy(lm_dirs[family], tokenizer, model_config)
    assert not policy.training
    expected = token_logprobs(policy, IDS, ATTENTION, RESPONSE).logprobs
    policy.train()
    assert torch.equal(token_logprobs(policy, IDS, ATTENTION, RESPONSE).logprobs, expected)


def test_dtype_is_the_config_s(lm_dirs: dict[str, Path], tokenizer: Any) -> None:
    config = ModelConfig(path="x", dtype="bfloat16")
    assert load_policy(lm_dirs["llama"], tokenizer, config).dtype == torch.bfloat16


@pytest.mark.slow
def test_the_head_is_drawn_with_the_published_width(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 6: N(0, 1/(d+1)); 100 heads of 16 numbers tell 1/sqrt(17) from 1/17 and from 0.02."""
    heads = [
        new_reward_model(lm_dirs["qwen2"], tokenizer, model_config, seed=seed).score.weight
        for seed in range(100)
    ]
    numbers = torch.cat([head.detach().flatten() for head in heads])
    expected = 1 / math.sqrt(17)
    # The standard error of a standard deviation of n numbers is s / sqrt(2 n); four of them.
    assert abs(float(numbers.std()) - expected) < 4 * expected / math.sqrt(2 * len(numbers))
    assert abs(float(numbers.mean())) < 4 * expected / math.sqrt(len(numbers))


def test_the_head_depends_on_the_seed_and_on_nothing_else(
    lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    torch.manual_seed(1)
    first = new_reward_model(lm_dirs["qwen2"], tokenizer, model_config, seed=5).score.weight
    torch.manual_seed(2)
    same = new_reward_model(lm_dirs["qwen2"], tokenizer, model_config, seed=5).score.weight
    other = new_reward_model(lm_dirs["qwen2"], tokenizer, model_config, seed=6).score.weight
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_critic_begins_with_the_reward_model_s_numbers(
    family: str, reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 7: value after the last token = normalised score; before it, the score so far."""
    folder = reward_dirs[family]
    model, scale = load_reward_model(folder, tokenizer, model_config), read_reward_scale(folder)
    critic = new_critic(model, scale=scale.scale, bias=scale.bias)
    values, final = token_values(critic, IDS, ATTENTION)
    scores = (sequence_scores(model, IDS, ATTENTION) - 0.25) / 2.0
    torch.testing.assert_close(final, scores, rtol=0, atol=1e-5)
    cut = (sequence_scores(model, IDS[:, :4], ATTENTION[:, :4]) - 0.25) / 2.0
    torch.testing.assert_close(values[:, 4], cut, rtol=0, atol=1e-5)


def test_training_the_critic_leaves_the_reward_model_alone(
    reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    model = load_reward_model(reward_dirs["qwen2"], tokenizer, model_config).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    critic = new_critic(model)
    assert all(parameter.requires_grad for parameter in critic.parameters())
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_policy_loads_without_us(
    family: str, tmp_path: Path, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    policy = load_policy(lm_dirs[family], tokenizer, model_config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    save_model(tmp_path, policy, tokenizer)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    positions = {"attention_mask": ATTENTION.long()}
    assert torch.equal(loaded(IDS, **positions).logits, policy(IDS, **positions).logits)
    assert load_tokenizer(tmp_path).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_reward_model_loads_without_us(
    family: str, reward_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 8: the raw number is transformers' own, and raw = score * scale + bias."""
    folder = reward_dirs[family]
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    raw = plain(IDS, attention_mask=ATTENTION.long()).logits.squeeze(-1)
    ours = sequence_scores(load_reward_model(folder, tokenizer, model_config), IDS, ATTENTION)
    torch.testing.assert_close(ours, raw, rtol=0, atol=1e-6)
    scale = read_reward_scale(folder)
    assert (scale.bias, scale.scale, scale.temperature) == (0.25, 2.0, 1.0)
    score = (ours - scale.bias) / scale.scale
    torch.testing.assert_close(score * 2.0 + 0.25, raw, rtol=0, atol=1e-6)


def test_the_scale_of_a_foreign_reward_model_is_trivial(tmp_path: Path) -> None:
    assert read_reward_scale(tmp_path) == RewardScale(bias=0.0, scale=1.0, temperature=1.0)


def test_a_damaged_scale_is_told(tmp_path: Path) -> None:
    (tmp_path / "reward_scale.json").write_text('{"bias": 0, "scale": 0}')
    with pytest.raises(UserError, match="damaged") as caught:
        read_reward_scale(tmp_path)
    assert caught.value.where.endswith("reward_scale.json")


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_do_not_depend_on_the_side_of_padding(
    family: str, lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> None:
    """Line 5: left padding shifts no position."""
    policy = load_policy(lm_dirs[family], tokenizer, model_config)
    alone = hidden_states(policy, IDS[1:, :6], ATTENTION[1:, :6])
    left_ids, left_mask = torch.roll(IDS[1:], 1, dims=1), torch.roll(ATTENTION[1:], 1, dims=1)
    left = hidden_states(policy, left_ids, left_mask)
    right = hidden_states(policy, IDS[1:], ATTENTION[1:])
    torch.testing.assert_close(left[:, 1:], alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(right[:, :6], alone, rtol=0, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(lm_dirs: dict[str, Path], tokenizer: Any) -> None:
    with pytest.raises(UserError, match="no GPU"):
        load_policy(lm_dirs["qwen2"], tokenizer, ModelConfig(path="x", device="cuda"))
