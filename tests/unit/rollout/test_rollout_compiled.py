"""A compiled decoding step computes what the other one does, and is compiled once."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from label_support import missing
from rollout_support import NEW_TOKENS, STOPS, greedy_by_generate
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from alignloop.config import SamplingConfig
from alignloop.data.batching import pad_batch
from alignloop.errors import UserError
from alignloop.inputs import check_compiler
from alignloop.models import token_logprobs
from alignloop.rollout import LlamaSampler, new_sampler, take_compile_seconds
from alignloop.run import generator

# PyTorch's compiler uses what PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

SHAPE: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # sharp enough for a wrong position or mask to change the tokens
}
CONFIGS: dict[str, PretrainedConfig] = {  # the first three share one compiled function
    "llama": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
}
PROMPTS = [[5, 6, 7], [9], list(range(11, 31)), [5, 6, 7], [20, 21], [30]]


@pytest.fixture(autouse=True)
def _forget_seconds() -> Iterator[None]:
    take_compile_seconds()
    yield
    take_compile_seconds()


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name]).eval()


def sampler(model: Any, *, compiled: bool = True, **sampling: Any) -> LlamaSampler:
    settings = {"max_new_tokens": NEW_TOKENS, "batch_size": 3, "compile": compiled, **sampling}
    config = SamplingConfig.model_validate(settings)
    return LlamaSampler(model=model, stop_ids=STOPS, config=config)


def asked(count: int = len(PROMPTS)) -> list[tuple[str, list[int]]]:
    return [(str(i), PROMPTS[i % len(PROMPTS)]) for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_compiled_step_draws_what_the_others_draw(name: str) -> None:
    """Greedy tokens are generate's; drawn ones the eager step's; logprobs the trainer's."""
    needs_a_compiler()
    model = make_model(name)
    for rollout, prompt in zip(
        sampler(model, temperature=1e-5).generate(asked(), generator(0)), PROMPTS, strict=True
    ):
        assert list(rollout.input_ids) == greedy_by_generate(model, prompt)
    drawn = sampler(model, temperature=2.0).generate(asked(20), generator(1))
    eager = sampler(model, compiled=False, temperature=2.0).generate(asked(20), generator(1))
    assert len({len(rollout.response_ids) for rollout in drawn}) >= 3, "lengths must vary"
    assert [one.input_ids for one in drawn] == [one.input_ids for one in eager]
    batch = pad_batch(drawn, 0)
    trainer = token_logprobs(model, **batch, temperature=2.0).logprobs
    own = torch.tensor([value for rollout in drawn for value in rollout.rollout_logprobs])
    torch.testing.assert_close(trainer[batch["response_mask"]], own, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_it_is_compiled_once_for_all_numbers_of_rows_and_places() -> None:
    """And another model of that shape, or the same after training, is no new function."""
    needs_a_compiler()
    sampler(make_model("qwen2")).generate(asked(), generator(0))
    take_compile_seconds()
    model = make_model("llama")
    before = sampler(model).generate(asked(), generator(0))
    for rows, count, limit in ((1, 2, 3), (2, 3, 60), (8, 20, 30)):
        config = {"batch_size": rows, "max_new_tokens": limit}
        found = sampler(model, **config).generate(asked(count), generator(0))
        eager = sampler(model, compiled=False, **config).generate(asked(count), generator(0))
        assert [one.input_ids for one in found] == [one.input_ids for one in eager]
    with torch.no_grad():
        model.get_decoder().layers[0].mlp.up_proj.weight.mul_(-2.0)
    assert sampler(model).generate(asked(), generator(0)) != before
    assert take_compile_seconds() == 0


def test_a_model_without_our_step_is_refused(tokenizer: Any) -> None:
    windows = AutoModelForCausalLM.from_config(MistralConfig(**SHAPE, sliding_window=8))
    with pytest.raises(UserError, match=r"sampling\.compile.*set it to false"):
        new_sampler(windows, tokenizer, SamplingConfig(compile=True))


def test_without_a_compiler_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compiler(("rl.sampling.compile", False))
    with pytest.raises(UserError, match=r"rl\.sampling\.compile: .*no-such-compiler.*install"):
        check_compiler(("evaluate.sampling.compile", False), ("rl.sampling.compile", True))


def needs_a_compiler() -> None:
    try:
        check_compiler(("this test", True))
    except UserError as error:
        missing("a C++ compiler", error.fix)
