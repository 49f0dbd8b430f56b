"""Tiny models and a bilingual tokenizer, made from configs, for every test that needs a machine.

Heavy libraries are imported inside the fixtures: tests of light rooms do not pay for them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from alignloop.config import ModelConfig
from alignloop.records import Message, Prompt
from alignloop.run import RunFolder
from alignloop.run.stage_run import StageRun

ENGLISH = ("good", "bad", "warm", "cold", "tea", "rain", "sun", "moon", "why")
ENGLISH += ("how", "is", "the", "a", "red", "blue", "yes", "no", "very")
CHINESE = tuple("你好天气很坏吗是不红蓝茶雨")
SPECIAL = ["<pad>", "<eos>", "<unk>", "<user>", "<assistant>"]
TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<' + m['role'] + '> ' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
THREADS = os.environ.get("ALIGNLOOP_TEST_THREADS", "1")
FAMILIES = ("qwen2", "llama", "gpt2")
# How long a machine takes to draw or to try an example says nothing of the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
MODEL = ModelConfig(path="unused: tests name their directories")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are slower on many threads; ALIGNLOOP_TEST_THREADS tries others.

    `--threads` of tests/golden/spread.py does the same for the golden run.
    """
    os.environ["OMP_NUM_THREADS"] = THREADS


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """One token per English word and per Chinese character; PAD is not EOS; a chat template."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(int(THREADS))
    words = [*SPECIAL, *ENGLISH, *CHINESE]
    backend = Tokenizer(
        models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")]
    )
    backend.add_special_tokens(SPECIAL)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="session")
def make_lm(tokenizer: Any) -> Callable[..., Any]:
    """`make_lm("gpt2", seed=0, num_tokens=None)`: a causal model with sharp random weights.

    Dropout is on in its config, so that forgetting to turn it off shows.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        GPT2Config,
        LlamaConfig,
        Qwen2Config,
        set_seed,
    )

    def make(family: str = "qwen2", *, seed: int = 0, num_tokens: int | None = None) -> Any:
        common: dict[str, Any] = {
            "vocab_size": num_tokens or len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.eos_token_id,
            "initializer_range": 0.25,
        }
        if family == "gpt2":
            config: Any = GPT2Config(
                n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.3, **common
            )
        else:
            kind = {"qwen2": Qwen2Config, "llama": LlamaConfig}[family]
            config = kind(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=64,
                attention_dropout=0.3,
                **common,
            )
        with torch.random.fork_rng():
            set_seed(seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

    return make


@pytest.fixture(scope="session")
def lm_dirs(
    make_lm: Callable[..., Any], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A saved causal model with its tokenizer for each family."""
    folders = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    for family, folder in folders.items():
        make_lm(family).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


@pytest.fixture(scope="session")
def reward_dirs(
    lm_dirs: dict[str, Path], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A saved reward model with a scale that is not trivial for each family."""
    from alignloop.models import RewardScale, new_reward_model, save_model

    folders = {family: tmp_path_factory.mktemp(f"{family}-reward") for family in lm_dirs}
    for family, folder in folders.items():
        model = new_reward_model(lm_dirs[family], tokenizer, MODEL, seed=11)
        save_model(folder, model, tokenizer, scale=RewardScale(bias=0.25, scale=2.0))
    return folders


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    """float32, nothing remote; the path is given beside it where one is read."""
    return MODEL


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., Prompt]:
    """`make_prompt("why is the tea cold")`: one user turn, with the text as its id."""

    def make(text: str, **fields: str) -> Prompt:
        turn = Message(role="user", content=text)
        return Prompt(prompt_id=f"p:{text}", messages=(turn,), **fields)

    return make


@pytest.fixture
def stage_run(tmp_path: Path) -> Iterator[Callable[..., StageRun]]:
    """`stage_run("rl", seed=7, run="a")`: a stage of a new run folder under tmp_path."""
    folders: list[RunFolder] = []

    def make(name: str, *, seed: int = 7, run: str = "run") -> StageRun:
        folder = RunFolder.create(tmp_path / run)
        folders.append(folder)
        return StageRun(folder, name, seed)

    yield make
    for folder in folders:
        folder.close()


@pytest.fixture(scope="session")
def prompts(make_prompt: Callable[..., Prompt]) -> list[Prompt]:
    """Ten questions of different lengths, in two languages."""
    texts = ("why is the sun red", "tea", "how is the rain", "天气好吗", "moon", "why 雨")
    texts += ("is the tea warm", "你好吗", "红茶好吗", "very cold rain why")
    return [make_prompt(text, language="zh" if text[0] > "z" else "en") for text in texts]


@pytest.fixture
def rl_inputs(
    lm_dirs: dict[str, Path], reward_dirs: dict[str, Path], prompts: list[Prompt]
) -> Callable[..., Any]:
    """`rl_inputs("gpt2")`: what a reinforcement learning run of that family starts from."""
    from alignloop.rl.build import RlInputs

    def make(family: str = "llama", **changes: Any) -> Any:
        fields: dict[str, Any] = {
            "policy_dir": lm_dirs[family],
            "reward_dir": reward_dirs[family],
            "held_out_dir": None,
            "prompts": prompts,
            "validation_prompts": prompts[:4],
        }
        return RlInputs(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def rl_config() -> Callable[..., Any]:
    """`rl_config(num_steps=2, algorithm={"kl_coef": 0.2})`: PPO settings for tiny models."""
    from alignloop.config import RlConfig

    def make(**changes: Any) -> Any:
        fields: dict[str, Any] = {
            "batch_size": 6,
            "num_steps": 3,
            "sampling": {"max_new_tokens": 8, "batch_size": 4},
            "learning_rate": 1e-3,
            "critic_learning_rate": 2e-3,
            "max_prompt_tokens": 16,
            "validation_size": 4,
            "eval_every": 1,
            "save_every": 0,
        }
        return RlConfig.model_validate({**fields, **changes})

    return make
