"""The fast decoder computes what transformers computes, for every family that it takes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_support import NEW_TOKENS, STOPS, answers, greedy_by_generate
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from alignloop.config import SamplingConfig
from alignloop.fastpath import supports
from alignloop.fastpath.llama_decoder import LlamaDecoder
from alignloop.rollout import LlamaSampler, TransformersSampler

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # sharp enough for a wrong position or mask to change the tokens
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama 3 rope": LlamaConfig(**SHAPE, rope_parameters=LLAMA3),
    "yarn": LlamaConfig(**SHAPE, rope_parameters={**YARN, "original_max_position_embeddings": 64}),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
}
PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16], [5, 6, 7], [20, 21]]


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name]).eval()


def both_samplers(model: Any, **sampling: Any) -> tuple[LlamaSampler, TransformersSampler]:
    config = SamplingConfig.model_validate(
        {"max_new_tokens": NEW_TOKENS, "batch_size": 3, **sampling}
    )
    fast = LlamaSampler(model=model, stop_ids=STOPS, config=config)
    slow = TransformersSampler(model=model, stop_ids=STOPS, pad_token_id=0, config=config)
    return fast, slow


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_are_those_of_generate(name: str) -> None:
    model = make_model(name)
    assert supports(model)
    fast, _ = both_samplers(model, temperature=1e-5)
    asked = [(str(i), prompt) for i, prompt in enumerate(PROMPTS)]
    for rollout, prompt in zip(answers(fast, asked, 0), PROMPTS, strict=True):
        assert list(rollout.input_ids) == greedy_by_generate(model, prompt)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_draws_are_those_of_the_transformers_sampler(name: str) -> None:
    """The same uniform numbers give the same responses, however rows are refilled."""
    # float64: in float32 a cumulative probability may round to the other side of a uniform number
    model = make_model(name).double()
    fast, slow = both_samplers(model, temperature=2.0)
    asked = [(str(i), PROMPTS[i % len(PROMPTS)]) for i in range(40)]
    ours = answers(fast, asked, 1)
    theirs = answers(slow, asked, 1)
    assert len({len(rollout.response_ids) for rollout in ours}) >= 3, "lengths must vary"
    for one, other in zip(ours, theirs, strict=True):
        assert one.input_ids == other.input_ids
        assert one.finish_reason == other.finish_reason
        assert one.rollout_logprobs == pytest.approx(other.rollout_logprobs, abs=1e-5)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(4, 96), min_size=1, max_size=9), max_size=12),
    rows=st.integers(1, 6),
    limit=st.integers(1, 12),
)
def test_any_prompts_in_any_number_of_rows(prompts: list[list[int]], rows: int, limit: int) -> None:
    fast, slow = both_samplers(WIDE_MODEL, batch_size=rows, max_new_tokens=limit)
    asked = [(str(i), prompt) for i, prompt in enumerate(prompts)]
    ours, theirs = answers(fast, asked, 2), answers(slow, asked, 2)
    assert [r.input_ids for r in ours] == [r.input_ids for r in theirs]
    assert [r.prompt_id for r in ours] == [prompt_id for prompt_id, _ in asked]


MODEL = make_model("qwen2")
WIDE_MODEL = make_model("qwen2").double()


def test_equal_prompts_are_read_once() -> None:
    read: list[int] = []
    handle = MODEL.get_decoder().embed_tokens.register_forward_hook(
        lambda module, args, output: read.append(args[0].numel())
    )
    LlamaDecoder(MODEL, rows=6, capacity=8).add([[5, 6], [7, 8, 9], [5, 6], [5, 6]])
    handle.remove()
    assert read == [2 + 3]  # tokens: neither the padding nor the repetitions


@torch.no_grad()
def test_a_hook_before_an_mlp_runs_at_every_step() -> None:
    model, rows = make_model("llama"), list[int]()
    model.get_decoder().layers[0].mlp.register_forward_pre_hook(
        lambda module, args: rows.append(len(args[0]))
    )
    decoder = LlamaDecoder(model, rows=2, capacity=8)
    decoder.add([[5, 6], [7, 8]])
    rows.clear()
    decoder.step(torch.tensor([9, 10]))
    assert rows == [2]


def test_a_trained_weight_is_seen_at_once() -> None:
    """No copy outlives a call of `generate`."""
    model = make_model("llama")
    fast, _ = both_samplers(model)
    asked = [("a", [5, 6, 7])]
    before = answers(fast, asked, 0)
    with torch.no_grad():
        model.get_decoder().layers[0].mlp.up_proj.weight.mul_(-2.0)
    assert answers(fast, asked, 0) != before


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SHAPE, sliding_window=8),
        LlamaConfig(
            **SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        ),
    ],
    ids=["sliding window", "rope that depends on the length"],
)
def test_what_it_would_not_compute_is_left_to_transformers(config: PretrainedConfig) -> None:
    assert not supports(AutoModelForCausalLM.from_config(config))
