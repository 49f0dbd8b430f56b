"""A tiny model of every dense family, with what makes it different at work.

Windows shorter than the texts, capped logits, learned positions, biases, projections around the
trunk, dropout.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "attention_dropout": 0.3,
    "initializer_range": 0.25,
}
GROUPED = SIZES | {"num_key_value_heads": 1}
GEMMA = GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}
FALCON: dict[str, Any] = {
    **{k: SIZES[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
    "initializer_range": 0.25,
    "hidden_dropout": 0.3,
    "attention_dropout": 0.3,
}
OPT: dict[str, Any] = {
    **{k: v for k, v in SIZES.items() if k not in ("intermediate_size", "initializer_range")},
    "ffn_dim": 32,
    "word_embed_proj_dim": 8,
    "dropout": 0.3,
    "layerdrop": 0.3,
    "init_std": 0.25,
}
GPT2: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
CAPS = {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen2-tied": ("Qwen2Config", GROUPED | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", GROUPED | {"head_dim": 8}),
    "llama": ("LlamaConfig", GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", GROUPED | {"sliding_window": 4}),
    "gemma2": ("Gemma2Config", GEMMA | CAPS),
    "gemma3": ("Gemma3TextConfig", GEMMA),
    "gemma3-capped": ("Gemma3TextConfig", GEMMA | {"final_logit_softcapping": 3.0}),
    "phi3": ("Phi3Config", GROUPED | {"sliding_window": 4, "resid_pdrop": 0.3, "embd_pdrop": 0.3}),
    "gpt2": ("GPT2Config", GPT2 | {"initializer_range": 0.25}),
    "gpt2-untied": ("GPT2Config", GPT2 | {"tie_word_embeddings": False}),
    "pythia": ("GPTNeoXConfig", SIZES | {"rotary_pct": 0.5, "hidden_dropout": 0.3}),
    "opt": ("OPTConfig", OPT),
    "opt-350m": ("OPTConfig", OPT | {"do_layer_norm_before": False}),
    "falcon": ("FalconConfig", FALCON),
    "falcon-new": ("FalconConfig", FALCON | {"new_decoder_architecture": True, "bias": True}),
    "falcon-alibi": ("FalconConfig", FALCON | {"alibi": True}),
}


def make_policy(family: str, tokenizer: Any, *, num_tokens: int | None = None) -> Any:
    """A causal model of the family with sharp random weights, the same at every call."""
    name, settings = FAMILIES[family]
    eos = tokenizer.eos_token_id
    names = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": eos, "bos_token_id": eos}
    size = num_tokens or len(tokenizer)
    config = getattr(transformers, name)(vocab_size=size, **names, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for key, value in model.named_parameters():
            if key.endswith("bias"):  # zeros at the start, which would hide a forgotten one
                torch.nn.init.normal_(value, std=0.2)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def family_dir(
    request: pytest.FixtureRequest, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model directory as plain transformers writes it."""
    folder = tmp_path_factory.mktemp(request.param)
    make_policy(request.param, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
