"""The textbook in one file and the library are the same algorithm: same seed, same numbers.

Equal exactly: seeds, the prompts of each step, every sampled token. Equal up to 1e-5 (absolute):
scores, KL, losses, weights. There the operations differ in their order: the library sorts rows by
length and cuts them into micro-batches, runs right-padded batches without a mask, computes logits
at response tokens alone, and adds tokens up in another order.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from alignloop.config import ModelConfig, RlConfig
from alignloop.records import Prompt
from alignloop.rl.build import Parts, build
from alignloop.rl.experience import Experience
from alignloop.run import derive_seed
from alignloop.training.optimiser import linear_schedule

FILE = Path(__file__).parents[3] / "examples" / "ppo_one_file.py"
SEED = 5


@pytest.fixture(scope="module")
def one_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ppo_one_file", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prompts_file(prompts: list[Prompt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("".join(p.model_dump_json() + "\n" for p in prompts), encoding="utf-8")
    return file


def library_steps(parts: Parts, config: RlConfig) -> Iterator[dict[str, Any]]:
    """The loop of the library without its logging."""
    rate = linear_schedule(config.num_steps)
    for step in range(1, config.num_steps + 1):
        rollouts = parts.sampler.generate(parts.stream.at(step), parts.stream.seeds(step))
        scored = parts.scorer.score(rollouts)
        algorithm = parts.learner.algorithm
        credit = algorithm.credit(scored, algorithm.start)
        experience = Experience(scored=scored, credit=credit)
        metrics = parts.learner.update(experience, seed=SEED, step=step, rate=rate(step))
        kl = (scored.old_logprobs - scored.ref_logprobs).sum() / len(rollouts)
        yield metrics | {
            "scores": scored.scores,
            "kl": float(kl),
            "answers": [list(rollout.response_ids) for rollout in rollouts],
        }


def assert_same_weights(one: Any, other: Any) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "temperature"), [("llama", 1.0), ("qwen2", 0.8), ("gpt2", 1.0)])
def test_same_seed_same_numbers(
    family: str,
    temperature: float,
    one_file: ModuleType,
    prompts_file: Path,
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    # Micro-batches of 60 tokens: the library cuts what the textbook runs at once.
    sampling = {"max_new_tokens": 8, "batch_size": 4, "temperature": temperature}
    config = rl_config(sampling=sampling, micro_batch_tokens=60)
    inputs = rl_inputs(family)
    parts = build(config, model_config, inputs, seed=SEED, observer=None)
    before = {k: v.clone() for k, v in parts.learner.policy.state_dict().items()}
    settings = one_file.Settings(
        num_steps=3, batch_size=6, max_new_tokens=8, temperature=temperature,
        learning_rate=1e-3, critic_learning_rate=2e-3, seed=SEED,
    )  # fmt: skip
    policy, *rest = one_file.load(inputs.policy_dir, inputs.reward_dir, prompts_file)
    critic = None
    textbook = one_file.train(settings, policy, *rest)
    for ours, theirs in zip(library_steps(parts, config), textbook, strict=True):
        assert ours["answers"] == theirs["answers"]
        torch.testing.assert_close(
            ours["scores"], torch.tensor(theirs["scores"]), rtol=0, atol=1e-5
        )
        for name in ("kl", "policy_loss", "value_loss"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name
        assert theirs["first_ratio"] == 1.0
        assert ours["first_ratio"] == pytest.approx(1.0, abs=1e-6)  # a sum of shares of 1
        critic = theirs["critic"]
    assert_same_weights(parts.learner.policy, policy)
    assert_same_weights(parts.learner.critic, critic)
    moved = [float((v - before[k]).abs().max()) for k, v in policy.state_dict().items()]
    assert max(moved) > 1e-3, "weights that hardly move would agree in any case"


def test_seeds_are_derived_as_the_library_does(one_file: ModuleType) -> None:
    for names in ((), ("rollout", 3), ("rollout", "3"), ("天气",)):
        assert one_file.derive_seed(7, *names) == derive_seed(7, *names)


def test_it_is_short_and_stands_alone() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert "import alignloop" not in text and "from alignloop" not in text


def test_help_tells_the_options(one_file: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        one_file.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--policy", "--reward-model", "--prompts", "--kl-coef", "--num-steps"):
        assert option in shown


def test_directories_come_together_or_not_at_all(
    one_file: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        one_file.main(["--policy", str(tmp_path)])
    assert caught.value.code == 2
    assert "together" in capsys.readouterr().err


def test_it_runs_on_directories_and_saves(
    one_file: ModuleType,
    prompts_file: Path,
    tmp_path: Path,
    rl_inputs: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = rl_inputs("llama")
    arguments = {
        "--policy": inputs.policy_dir, "--reward-model": inputs.reward_dir,
        "--prompts": prompts_file, "--save": tmp_path / "saved", "--num-steps": 1,
        "--batch-size": 2, "--max-new-tokens": 3,
    }  # fmt: skip
    one_file.main([str(part) for pair in arguments.items() for part in pair])
    assert capsys.readouterr().out.startswith("step    1 score")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.slow
def test_the_toy_learns(one_file: ModuleType) -> None:
    """From the score of random answers to answers that say "good" and end."""
    settings = one_file.Settings(**one_file.TOY | {"num_steps": 20})
    steps = list(one_file.train(settings, *one_file.toy_models(0)))
    assert steps[-1]["score"] > steps[0]["score"] + 5
