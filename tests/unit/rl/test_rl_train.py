"""The loop: what it logs, when it stops, what it keeps, and that the same seed repeats it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from alignloop.config import ModelConfig, RlConfig
from alignloop.errors import UserError
from alignloop.rl import train_rl
from alignloop.rollout import LlamaSampler
from alignloop.run import read_metrics, read_samples
from alignloop.scoring import RewardFunction

# The metrics of docs/algorithms.md#ppo-31, by the names that the loop gives them.
EVERY_STEP = {
    "score", "score_std", "kl", "kl_reward", "kl_coef", "reward", "entropy", "approx_kl",
    "clip_fraction", "ratio", "first_ratio", "policy_loss", "value_loss", "value_clip_fraction",
    "explained_variance", "value", "response_length", "eos_rate", "repetition",
    "policy_gradient_norm", "critic_gradient_norm", "sampler_mismatch", "tokens_per_second",
    "rollout_tokens_per_second", "scoring_tokens_per_second", "update_tokens_per_second",
}  # fmt: skip
EVALUATION = {
    "validation_score", "validation_held_out_score", "validation_kl", "validation_length",
    "validation_eos_rate", "validation_held_out_std", "validation_surprise_95",
    "validation_outside",
}  # fmt: skip


@pytest.fixture
def run_rl(
    stage_run: Callable[..., Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
) -> Callable[..., tuple[Path, Path]]:
    """`run_rl("a", num_steps=2)`: (run folder, model folder)."""

    def make(name: str, **changes: Any) -> tuple[Path, Path]:
        run = stage_run("rl", run=name)
        model = train_rl(rl_config(**changes), model_config, rl_inputs(), run)
        return run.folder.path, model

    return make


def test_the_sampler_gets_the_weights_of_each_step(
    run_rl: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it samples: an engine elsewhere has to be sent them."""
    calls: list[int | str] = []
    generate = LlamaSampler.generate
    monkeypatch.setattr(LlamaSampler, "load", lambda self, policy, step: calls.append(step))
    monkeypatch.setattr(
        LlamaSampler, "generate", lambda *args: [calls.append("generate"), generate(*args)][1]
    )
    run_rl("a", num_steps=2, eval_every=2)
    validated, steps = [0, "generate"], [0, "generate", 1, "generate"]
    assert calls == [*validated, *steps, 2, "generate"]


def test_every_metric_is_logged_at_every_step(run_rl: Callable[..., tuple[Path, Path]]) -> None:
    """docs/algorithms.md#ppo-31; #ppo-22 and #ppo-26 by their numbers."""
    run, model = run_rl("a", num_steps=2, eval_every=2)
    lines = read_metrics(run, "rl")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[0].keys() >= EVALUATION
    assert lines[1].keys() >= EVERY_STEP
    assert not lines[1].keys() & EVALUATION
    assert lines[2].keys() >= EVERY_STEP | EVALUATION
    for line in lines[1:]:
        assert line["first_ratio"] == 1.0
        assert line["sampler_mismatch"] < 1e-5  # docs/algorithms.md#ppo-22: alarm above 0.01
        assert line["kl_reward"] == pytest.approx(-0.1 * line["kl"])
        assert line["reward"] == pytest.approx(line["score"] + line["kl_reward"], abs=1e-5)
        assert 0 < line["response_length"] <= 8
    assert lines[1]["kl"] == 0.0 and lines[2]["kl"] != 0.0
    assert {sample.step for sample in read_samples(run, "rl")} == {0, 2}
    assert AutoModelForCausalLM.from_pretrained(model).config.model_type == "llama"


def test_the_kl_reward_is_that_of_the_estimator(run_rl: Callable[..., tuple[Path, Path]]) -> None:
    """With k2 the charge is half a square and no difference: never a gain."""
    run, _ = run_rl("a", num_steps=2, learning_rate=1e-2, algorithm={"kl_estimator": "k2"})
    line = read_metrics(run, "rl")[-1]
    assert line["kl_reward"] < 0
    assert line["reward"] == pytest.approx(line["score"] + line["kl_reward"], abs=1e-5)


def facts_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "rl" / "done.json").read_text(encoding="utf-8"))["facts"]


@pytest.mark.slow
def test_the_kl_budget_ends_the_run(run_rl: Callable[..., tuple[Path, Path]]) -> None:
    run, _ = run_rl("a", num_steps=9, kl_budget=1e-6, learning_rate=1e-2)
    facts = facts_of(run)
    assert "the KL budget is spent" in facts["stopped_because"]
    assert facts["steps"] < 9


@pytest.mark.slow
def test_the_best_step_by_the_held_out_score_is_kept(
    run_rl: Callable[..., tuple[Path, Path]], lm_dirs: dict[str, Path]
) -> None:
    run, model = run_rl("a", num_steps=3, patience=9)
    facts = facts_of(run)
    lines = read_metrics(run, "rl")
    scores = {line["step"]: line["validation_held_out_score"] for line in lines}
    assert set(scores) == {0, 1, 2, 3}
    price = 0.02 * (lines[0]["validation_held_out_std"] or 1.0)
    paid = [price * max(line["validation_kl"], 0.0) for line in lines]
    values = {step: scores[step] - paid[step] for step in scores}
    assert facts["best_step"] == max(values, key=lambda step: (values[step], -step))
    assert facts["best_held_out_score"] == scores[facts["best_step"]]
    assert lines[0]["validation_outside"] <= 0.25  # the 95 % quantile of four answers
    assert facts["stopped_because"] == "all 3 steps are done"
    kept = AutoModelForCausalLM.from_pretrained(model).state_dict()
    start = AutoModelForCausalLM.from_pretrained(lm_dirs["llama"]).state_dict()
    unmoved = all(torch.equal(value, start[name]) for name, value in kept.items())
    assert unmoved is (facts["best_step"] == 0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curves(run_rl: Callable[..., tuple[Path, Path]]) -> None:
    curves = []
    for name in ("a", "b"):
        run, _ = run_rl(name, num_steps=2)
        curves.append(read_metrics(run, "rl"))
    for one, other in zip(*curves, strict=True):
        for key in one.keys() - {"time"}:
            if not key.endswith(("_seconds", "_per_second")):
                assert one[key] == other[key], key


@pytest.mark.slow
def test_the_adaptive_coefficient_moves(run_rl: Callable[..., tuple[Path, Path]]) -> None:
    """PPO-10: KL 0 is far below the target, so the price falls by 0.2 * 6 / 60 = 2 %."""
    run, _ = run_rl("a", num_steps=2, algorithm={"adaptive_kl": {"target": 6.0, "horizon": 60}})
    lines = read_metrics(run, "rl")
    assert lines[1]["kl_coef"] == pytest.approx(0.1)
    assert lines[2]["kl_coef"] == pytest.approx(0.098)


def low(prompts: list[str], responses: list[str]) -> list[float]:
    """Every answer is far below the default penalty."""
    return [-50.0 - len(response) for response in responses]


def test_a_penalty_that_would_pay_is_replaced_at_step_0(
    stage_run: Callable[..., Any],
    model_config: ModelConfig,
    rl_inputs: Callable[..., Any],
    rl_config: Callable[..., RlConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And the held-out score that chooses the checkpoint has no penalty in it."""
    found = RewardFunction(name="mine:low", function=low)
    monkeypatch.setattr("alignloop.scoring.functions.load_function", lambda *_: found)
    config = rl_config(rewards="mine:low", num_steps=1)
    run = stage_run("rl", run="a")
    train_rl(config, model_config, rl_inputs(reward_dir=None), run)
    lines = read_metrics(run.folder.path, "rl")
    penalty = lines[0]["missing_eos_penalty"]
    assert penalty < -50.0 and "would reward never ending" in capsys.readouterr().err
    for line in (line for line in lines if "validation_eos_rate" in line):
        held_out = line["validation_held_out_score"]
        assert held_out <= -50.0
        if line["validation_eos_rate"] == 0:
            assert line["validation_score"] == pytest.approx(penalty)


def broken_norms(monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> None:
    """The gradients of these optimiser steps, counted from 1, are not finite."""
    from alignloop.training.optimiser import descend

    calls = iter(range(1, 1000))

    def with_faults(optimizer: torch.optim.Optimizer, **options: Any) -> float:
        if next(calls) not in broken:
            return descend(optimizer, **options)
        optimizer.zero_grad(set_to_none=True)
        return float("inf")

    monkeypatch.setattr("alignloop.rl.update.descend", with_faults)


ONE_EPOCH = {"name": "grpo", "group_size": 2}  # one optimiser step, no critic


def test_steps_left_out_are_counted_and_shown(
    run_rl: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_norms(monkeypatch, {2, 3})
    run, _ = run_rl("a", num_steps=4, patience=9, algorithm=ONE_EPOCH)
    lines = read_metrics(run, "rl")[1:]
    assert [line.get("skipped_steps") for line in lines] == [None, 1.0, 2.0, 2.0]
    assert lines[1]["policy_gradient_norm_not_finite"] is True
    assert facts_of(run)["stopped_because"] == "all 4 steps are done"


def test_three_steps_without_effect_end_the_stage(
    run_rl: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_norms(monkeypatch, {2, 3, 4})
    with pytest.raises(UserError, match="not finite at step 4 and all 2 before it") as caught:
        run_rl("a", num_steps=9, patience=9, algorithm=ONE_EPOCH)
    assert "rl.learning_rate" in str(caught.value.fix)


def test_a_policy_that_was_lost_at_once_is_no_result(
    run_rl: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the first policy would be kept, the stage has failed."""
    monkeypatch.setattr("alignloop.rl.train.is_finite", lambda _: False)
    with pytest.raises(UserError, match="diverged: a value was not finite at step 1"):
        run_rl("a", num_steps=3, eval_every=3)


def test_a_kl_that_is_not_finite_ends_the_stage_with_what_was_saved(
    run_rl: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no number that a checkpoint could keep, nor one that the next price could follow."""
    from alignloop.rl import train

    whole = train._describe
    monkeypatch.setattr(train, "_describe", lambda *given: {**whole(*given), "kl": math.nan})
    with pytest.raises(UserError, match="diverged: a value was not finite at step 1"):
        run_rl("a", num_steps=3, algorithm={"adaptive_kl": {"target": 6.0}})
    (saved,) = (tmp_path / "a/rl/checkpoints").glob("step-*/state.json")
    state = json.loads(saved.read_text(encoding="utf-8"))["state"]
    assert state["memory"]["algorithm"] == {"kl_coef": 0.1}
    assert state["memory"]["last_kl"] is None and state["memory"]["last_step"] == 1
