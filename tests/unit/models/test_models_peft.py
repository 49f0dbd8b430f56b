"""Adapters that PEFT made: of every kind our numbers are PEFT's, merged, sampled and trained on."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from foreign_support import byte_tokenizer, policy_at
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignloop.config import LoraConfig, ModelConfig
from alignloop.errors import UserError
from alignloop.models import load_policy, load_reward_model, load_tokenizer, save_model
from alignloop.models.initialise import init_policy, load_policy_to_sample
from alignloop.models.merging import merge_adapter

pytestmark = pytest.mark.filterwarnings(
    # PeftModel asks transformers by an older name, and warns of tied layers; nothing of ours does
    "ignore:.is_gradient_checkpointing. is:FutureWarning",
    "ignore:.*tie_word_embeddings:UserWarning",
    "ignore:.*save_embedding_layers:UserWarning",
)
IDS = torch.tensor([[300 - 256 + i * 7 for i in range(9)]])
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "dora-rslora": {"use_dora": True, "use_rslora": True},
    "ranks": {"rank_pattern": {"q_proj": 1}, "alpha_pattern": {"up_proj": 9}},
    "by-pattern": {"target_modules": r".*\.1\..*(q_proj|o_proj)"},
    "all-linear": {"target_modules": "all-linear"},
    "first-layer": {"layers_to_transform": [0]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "with-output-layer": {"target_modules": ["q_proj", "lm_head"]},
    "with-embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "whole-output-layer": {"modules_to_save": ["lm_head"]},
    "whole-embedding": {"modules_to_save": ["embed_tokens"]},
    "biases": {"bias": "all"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
}
ON_A_TRUNK = list(KINDS)[:9]


def adapter_at(folder: Path, base: Path, task: str = "CAUSAL_LM", **changes: Any) -> Any:
    """An adapter that matters, saved by PEFT, and the model as PEFT reads it back."""
    scores = task == "SEQ_CLS"
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    options = {"num_labels": 1} if scores else {}
    settings = {"r": 2, "target_modules": ["q_proj", "up_proj"], **changes}
    shape = peft.LoraConfig(task_type=task, **settings)
    model = peft.get_peft_model(kind.from_pretrained(base, **options), shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    return peft.PeftModel.from_pretrained(kind.from_pretrained(base, **options), str(folder)).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits.float()


def base_at(folder: Path, tied: bool, bias: bool = False) -> Path:
    tokenizer = byte_tokenizer(pad="<|endoftext|>")
    return policy_at(folder, tokenizer, tie_word_embeddings=tied, attention_bias=bias)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_is_what_peft_computes(
    name: str, tied: bool, model_config: ModelConfig, tmp_path: Path
) -> None:
    """Merged, read apart from its base for sampling, and as a plain directory."""
    base = base_at(tmp_path / "base", tied, bias=name == "biases")
    expected = logits(adapter_at(tmp_path / "adapter", base, **KINDS[name]))
    plain = logits(AutoModelForCausalLM.from_pretrained(base).eval())
    assert float((expected - plain).abs().max()) > 0.05
    tokenizer = load_tokenizer(tmp_path / "adapter")
    for read in (load_policy, load_policy_to_sample):
        model = read(tmp_path / "adapter", tokenizer, model_config)
        if (role := getattr(model, "role", None)) is not None:
            role.shared.activate(role.adapter)
        torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    (tmp_path / "out").mkdir()
    merge_adapter(tmp_path / "adapter", tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_of_reward_adapter_is_what_peft_computes(
    name: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    if "output-layer" in name:
        pytest.skip("a reward model has no output layer")
    base = base_at(tmp_path / "base", tied=False, bias=name == "biases")
    expected = logits(adapter_at(tmp_path / "adapter", base, "SEQ_CLS", **KINDS[name]))
    tokenizer = load_tokenizer(tmp_path / "adapter", as_it_is=True)
    model = load_reward_model(tmp_path / "adapter", tokenizer, model_config)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)
    (tmp_path / "out").mkdir()
    merge_adapter(tmp_path / "adapter", tmp_path / "out")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", list(KINDS))
def test_an_adapter_is_trained_on_as_what_it_is_or_refused(
    name: str, model_config: ModelConfig, tmp_path: Path
) -> None:
    """What is saved after that, PEFT reads as ours computes it."""
    base = base_at(tmp_path / "base", tied=False, bias=name == "biases")
    by_peft = adapter_at(tmp_path / "adapter", base, **KINDS[name])
    tokenizer, lora = load_tokenizer(tmp_path / "adapter"), LoraConfig(rank=2)
    if name not in ON_A_TRUNK:
        with pytest.raises(UserError, match="cannot be trained further as an adapter") as caught:
            init_policy(tmp_path / "adapter", tokenizer, model_config, lora, 1)
        assert "alignloop merge" in caught.value.fix
        return
    policy = init_policy(tmp_path / "adapter", tokenizer, model_config, lora, 1)
    policy.role.shared.activate(policy.role.adapter)
    torch.testing.assert_close(logits(policy), logits(by_peft), rtol=0, atol=1e-5)
    with torch.no_grad():
        for parameter in policy.role.shared.parameters(policy.role.adapter).values():
            parameter.mul_(1.1)
    (tmp_path / "saved").mkdir()
    save_model(tmp_path / "saved", policy, tokenizer)
    plain = AutoModelForCausalLM.from_pretrained(base)
    again = peft.PeftModel.from_pretrained(plain, str(tmp_path / "saved")).eval()
    torch.testing.assert_close(logits(again), logits(policy), rtol=0, atol=1e-5)
    assert float((logits(policy) - logits(by_peft)).abs().max()) > 1e-3
