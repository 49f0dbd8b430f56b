"""What writes no text is no policy: refused by name before its weights are read, tied or not."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from foreign_support import byte_tokenizer, change_config, change_tensors, policy_at, reward_at
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForTokenClassification

from alignloop.config import LoraConfig, ModelConfig
from alignloop.errors import UserError
from alignloop.models import load_policy, load_tokenizer
from alignloop.models.initialise import init_policy, load_policy_to_sample
from alignloop.models.kinds import is_reward_model, require_policy


def reward_model(folder: Path, tied: bool, family: str) -> str:
    reward_at(folder, byte_tokenizer(pad="<|endoftext|>"), family, tie_word_embeddings=tied)
    return r"ForSequenceClassification, a reward model or classifier: it cannot be a policy"


def token_classifier(folder: Path, tied: bool, family: str) -> str:
    policy_at(folder, byte_tokenizer(pad="<|endoftext|>"), family, tie_word_embeddings=tied)
    AutoModelForTokenClassification.from_pretrained(folder).save_pretrained(folder)
    return r"ForTokenClassification, a reward model or classifier: it cannot be a policy"


def headless(folder: Path, tied: bool, family: str) -> str:
    policy_at(folder, byte_tokenizer(pad="<|endoftext|>"), family, tie_word_embeddings=tied)
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    return r"(Llama|GPT2)Model, not a causal LM: it cannot be a policy"


def openrlhf(folder: Path, tied: bool, family: str) -> str:
    reward_model(folder, tied, family)
    change_config(folder, architectures=["RewardModel"], id2label=None, label2id=None)
    return "this is a RewardModel, a reward model or classifier: it cannot be a policy"


def another_name(folder: Path, tied: bool, family: str) -> str:
    reward_model(folder, tied, family)
    change_tensors(folder, **{"score.weight": "value_head.weight"})
    change_config(folder, architectures=["MyModel"])
    return "this is a MyModel, a reward model or classifier: it cannot be a policy"


def unnamed(folder: Path, tied: bool, family: str) -> str:
    reward_model(folder, tied, family)
    change_config(folder, architectures=None)
    return r"have a reward model's head \(score\) and no output layer"


def misnamed(folder: Path, tied: bool, family: str) -> str:
    reward_model(folder, tied, family)
    change_config(folder, architectures=["LlamaForCausalLM"])
    return r"have a reward model's head \(score\) and no output layer"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "make",
    [reward_model, token_classifier, headless, openrlhf, another_name, unnamed, misnamed],
)
def test_what_writes_no_text_is_no_policy(
    make: Any, tied: bool, family: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    problem = make(folder, tied, family)
    tokenizer = load_tokenizer(folder)
    for read in (load_policy, load_policy_to_sample):
        with pytest.raises(UserError, match=problem) as caught:
            read(folder, tokenizer, model_config)
        assert caught.value.where == str(folder) and "causal language model" in caught.value.fix
    with pytest.raises(UserError, match=problem):
        init_policy(folder, tokenizer, model_config, LoraConfig(rank=2), 1)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
@pytest.mark.parametrize("task", ["SEQ_CLS", None])
def test_an_adapter_with_a_head_is_no_policy(
    task: Any, model_config: ModelConfig, tmp_path: Path
) -> None:
    base = policy_at(tmp_path / "base", byte_tokenizer(pad="<|endoftext|>"))
    from transformers import AutoModelForSequenceClassification as Scorer

    shape = peft.LoraConfig(
        r=2, target_modules=["q_proj"], task_type=task, modules_to_save=["score"]
    )
    model = peft.get_peft_model(Scorer.from_pretrained(base, num_labels=1), shape)
    model.save_pretrained(str(tmp_path / "adapter"))
    assert is_reward_model(tmp_path / "adapter")
    tokenizer = load_tokenizer(tmp_path / "adapter")
    for read in (load_policy, load_policy_to_sample):
        with pytest.raises(UserError, match="this adapter is a reward model"):
            read(tmp_path / "adapter", tokenizer, model_config)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")
def test_an_adapter_of_a_reward_model_is_no_policy(
    model_config: ModelConfig, tmp_path: Path
) -> None:
    """Its base is what writes no text."""
    base = policy_at(tmp_path / "base", byte_tokenizer(pad="<|endoftext|>"))
    shape = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), shape)
    model.save_pretrained(str(tmp_path / "adapter"))
    tokenizer = load_tokenizer(tmp_path / "adapter")
    assert load_policy(tmp_path / "adapter", tokenizer, model_config)
    reward_at(base, byte_tokenizer(pad="<|endoftext|>"), tie_word_embeddings=True)
    with pytest.raises(UserError, match="ForSequenceClassification"):
        load_policy(tmp_path / "adapter", tokenizer, model_config)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architectures": None},
        {"architectures": ["RenamedForCausalLM"]},
        {"architectures": ["ChatGLMModel"], "auto_map": {"AutoModelForCausalLM": "m.C"}},
    ],
)
def test_language_models_are_policies_whatever_they_are_called(
    changes: Any, family: str, tmp_path: Path
) -> None:
    folder = policy_at(tmp_path / "m", byte_tokenizer(pad="<|endoftext|>"), family)
    change_config(folder, **changes)
    require_policy(folder)
    assert not is_reward_model(folder)


def test_a_policy_with_a_value_head_beside_it_stays_one(tmp_path: Path) -> None:
    """As TRL's PPO left them: a causal language model, and `v_head` among its tensors."""
    tokenizer = byte_tokenizer(pad="<|endoftext|>")
    folder = policy_at(tmp_path / "m", tokenizer, tie_word_embeddings=True)
    change_tensors(folder, **{"v_head.summary.weight": torch.ones(1, 16)})
    require_policy(folder)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"alpha": 4.0}, "alpha = 4.0"),
        ({"dropout": 0.1}, "dropout = 0.1"),
        ({"target_modules": ("q_proj",)}, "target_modules"),
        ({"load_in_4bit": True}, "load_in_4bit = True"),
    ],
)
def test_settings_of_adapters_change_nothing_without_a_rank(changes: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*changes nothing without lora.rank"):
        LoraConfig.model_validate(changes)
    assert LoraConfig.model_validate({**changes, "rank": 2})
