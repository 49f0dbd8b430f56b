"""A saved model stops where ours does, by transformers' own `generate`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from alignloop.config import LoraConfig, ModelConfig
from alignloop.data.templates import CHATML
from alignloop.data.turns import stop_tokens
from alignloop.models import load_policy, save_model
from alignloop.models.initialise import init_policy
from alignloop.models.merging import merge_adapter

CONFIG = ModelConfig(path="unused")
# The first token of all is the one that ends a turn, and EOS another, as in Qwen's base models.
SPECIAL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|pad|>"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head is zero: all tokens are as likely, and greedy takes the first."""
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={name: n for n, name in enumerate(names)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_end|>", "<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    torch.nn.init.zeros_(model.lm_head.weight)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokens_written(folder: Path) -> list[int]:
    """What plain transformers writes after a prompt, twenty tokens at most."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    mask = torch.ones_like(ids)
    found = model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False)
    return found[0, ids.shape[1] :].tolist()


def test_a_base_model_runs_on_and_what_we_save_of_it_stops(base: Path, tmp_path: Path) -> None:
    assert tokens_written(base) == [0] * 20
    tokenizer = AutoTokenizer.from_pretrained(base)
    policy = load_policy(base, tokenizer, CONFIG)
    save_model(tmp_path, policy, tokenizer)
    assert tokens_written(tmp_path) == [0]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert saved.eos_token_id == list(stop_tokens(tokenizer)) == [0, 2]
    assert saved.pad_token_id == tokenizer.pad_token_id
    assert policy.generation_config.eos_token_id == 2, "the model in memory stays as it was"


def test_ends_that_a_model_had_are_kept(base: Path, tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    policy = load_policy(base, tokenizer, CONFIG)
    policy.generation_config.eos_token_id = [1, 2]
    save_model(tmp_path, policy, tokenizer)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert saved.eos_token_id == [0, 2, 1]


def test_a_merged_adapter_stops(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    policy = init_policy(base, tokenizer, CONFIG, LoraConfig(rank=2), 0)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "merged").mkdir()
    save_model(tmp_path / "adapter", policy, tokenizer)
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert tokens_written(tmp_path / "merged") == [0]
