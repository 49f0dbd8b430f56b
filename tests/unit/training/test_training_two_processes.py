"""Two processes that share a step and add up their gradients learn what one would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import one_by_one, together

from alignloop.config import DpoConfig, ModelConfig, RewardConfig, RlConfig, SftConfig
from alignloop.data.pairs import PairStore, TextCodes
from alignloop.data.tokenise import LengthLimit, encode_example
from alignloop.dpo.train import Reader, Reference, pair_losses
from alignloop.models import load_policy, new_reward_model
from alignloop.parallel import SINGLE, World
from alignloop.records import Demonstration, PreferencePair, Prompt
from alignloop.reward.train import ranking
from alignloop.rl.build import build
from alignloop.rl.experience import Experience
from alignloop.run import RunFolder, read_metrics
from alignloop.run.stage_run import StageRun
from alignloop.sft import train as sft_stage
from alignloop.sft import train_sft
from alignloop.sft.train import _step
from alignloop.training.loop import Step, accumulate
from alignloop.training.pairs import pair_step

TOKENS = 60  # several micro-batches, of which no two processes get the same lengths
ANSWERS = ("very good", "bad", "the sun is red", "no")
Found = tuple[dict[str, float], torch.Tensor]


@pytest.fixture
def pairs(prompts: list[Prompt]) -> list[PreferencePair]:
    return [
        PreferencePair(prompt=prompt, chosen=ANSWERS[i % 3], rejected=ANSWERS[i % 3 + 1])
        for i, prompt in enumerate(prompts)
    ]


def learn(model: Any, step: Step, world: World) -> Found:
    """Metrics and gradients of a step, as every process has them after the sums."""
    metrics = accumulate(step, world)
    world.add_gradients(list(model.parameters()))
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return metrics, torch.cat(gradients)


@pytest.fixture
def stages(
    pairs: list[PreferencePair], lm_dirs: dict[str, Path], tokenizer: Any, model_config: ModelConfig
) -> dict[str, Callable[[World], Found]]:
    limit = LengthLimit.of("reward.max_tokens", 64, None, "refuse")
    store = PairStore.of(pairs, TextCodes(tokenizer=tokenizer, limit=limit))
    rows = range(len(pairs))
    batch = [encode_example(tokenizer, pair.prompt, pair.chosen, 64) for pair in pairs]

    def sft(world: World) -> Found:
        policy = one_by_one(load_policy)(lm_dirs["llama"], tokenizer, model_config)
        return learn(policy, _step(policy, batch, 0, SftConfig(micro_batch_tokens=TOKENS)), world)

    def reward(world: World) -> Found:
        model = one_by_one(new_reward_model)(lm_dirs["llama"], tokenizer, model_config, seed=1)
        config = RewardConfig(micro_batch_tokens=TOKENS)
        return learn(model, ranking(config, model, store, 0, 1).step(rows), world)

    def preference(name: str) -> Callable[[World], Found]:
        def work(world: World) -> Found:
            policy = one_by_one(load_policy)(lm_dirs["llama"], tokenizer, model_config)
            config = DpoConfig.model_validate({"objective": {"name": name}})
            reader = Reader(policy=policy, pad_id=0, micro_batch_tokens=TOKENS)
            losses = pair_losses(config, store, Reference.of(store, rows, reader))
            with torch.no_grad():  # away from the reference
                policy.lm_head.weight.mul_(1.1)
            return learn(policy, pair_step(store, rows, reader.logprobs, losses, TOKENS), world)

        return work

    return {"sft": sft, "reward": reward, "dpo": preference("dpo"), "ipo": preference("ipo")}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ipo"])
def test_the_gradient_is_that_of_one_process(
    stage: str, size: int, stages: dict[str, Callable[[World], Found]]
) -> None:
    metrics, gradient = stages[stage](SINGLE)
    assert float(gradient.norm()) > 1e-3
    for others, found in together(size, stages[stage]):
        assert others == pytest.approx(metrics, abs=1e-5)
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "ppo", "num_epochs": 2, "num_minibatches": 2, "target_kl": 1e-9},
        {"name": "grpo", "group_size": 3, "kl_coef": 0.1},
        {"name": "rloo", "group_size": 3},
    ],
    ids=lambda algorithm: algorithm["name"],
)
def test_reinforcement_learning_takes_the_steps_of_one_process(
    algorithm: dict[str, Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> None:
    """Scores, whitened advantages, minibatches, weights; and all stop early at the same place."""
    config = rl_config(batch_size=5, micro_batch_tokens=40, algorithm=algorithm, missing_eos="off")

    def work(world: World) -> tuple[Any, dict[str, float], torch.Tensor]:
        inputs = rl_inputs()
        parts = one_by_one(build)(config, model_config, inputs, seed=7, observer=None, world=world)
        rollouts = parts.sampler.generate(parts.stream.at(1), parts.stream.seeds(1))
        scored, plan = parts.scorer.score(rollouts), parts.learner.algorithm
        experience = Experience(scored=scored, credit=plan.credit(scored, plan.start))
        metrics = parts.learner.update(experience, seed=7, step=1, rate=1.0)
        weights = [p.detach().flatten() for p in parts.learner.policy.parameters()]
        return experience, metrics, torch.cat(weights)

    alone, metrics, weights = work(SINGLE)
    assert len(alone.micro_batches(range(len(alone)), 40)) > 2
    found = together(2, work)
    for experience, others, ours in found:
        for name, value in (vars(alone.scored) | vars(alone.credit)).items():
            other = (vars(experience.scored) | vars(experience.credit))[name]
            torch.testing.assert_close(other, value, rtol=0, atol=1e-4, msg=name)
        assert others == pytest.approx(metrics, rel=1e-3, abs=1e-4)
        torch.testing.assert_close(ours, weights, rtol=0, atol=1e-4)
    assert torch.equal(found[0][2], found[1][2])  # to the bit: they have the same sums


def test_one_of_two_processes_writes_and_both_go_the_same_way(
    tmp_path: Path,
    prompts: list[Prompt],
    lm_dirs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole stage: one lock, one line per step, one model, and the same numbers in both."""
    for name in ("init_policy", "load_tokenizer", "context_of"):
        monkeypatch.setattr(sft_stage, name, one_by_one(getattr(sft_stage, name)))
    demonstrations = [Demonstration(prompt=prompt, response="very good") for prompt in prompts]
    config = SftConfig(
        max_steps=3,
        batch_size=4,
        learning_rate=1e-2,
        micro_batch_tokens=TOKENS,
        held_out_share=0.3,
    )

    def work(world: World) -> Path:
        with RunFolder.create(tmp_path / "run", world) as folder:
            run = StageRun(folder, "sft", 7)
            model = train_sft(config, ModelConfig(path=str(lm_dirs["llama"])), demonstrations, run)
            assert json.loads((run.path / "done.json").read_text())["facts"]["steps"] == 3
            return model

    assert len(set(together(2, work))) == 1
    lines = read_metrics(tmp_path / "run", "sft")
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    with RunFolder.create(tmp_path / "one") as folder:
        run = StageRun(folder, "sft", 7)
        train_sft(config, ModelConfig(path=str(lm_dirs["llama"])), demonstrations, run)
    for line, alone in zip(lines, read_metrics(tmp_path / "one", "sft"), strict=True):
        names = {"loss", "gradient_norm", "held_out_perplexity"}
        assert names & line.keys() == names & alone.keys() != set()
        for name in names & line.keys():
            assert line[name] == pytest.approx(alone[name], rel=1e-4)
