"""`alignloop plan` counts what a run would read, and refuses what a run would refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alignloop.cli import main
from alignloop.config import Recipe, load_recipe
from alignloop.config.load import check_recipe
from alignloop.counting import count_inputs
from alignloop.plan import speed as speeds
from alignloop.plan.memory import Shape
from alignloop.plan.speed import Speed, seconds_in_all
from alignloop.plan.stages import Rows, Work, stage_plans

SHAPE = Shape(
    family="llama",
    parameters=1000,
    head=0,
    linear=900,
    layers=2,
    hidden=10,
    mlp=20,
    heads=2,
    queries=10,
    keys=10,
    vocabulary=10,
    adapter_inputs=50,
    adapter_width=100,
)
CPU = Speed(device="cpu", products=2e6, training=1e6, bandwidth=1e6)


def plan_of(stage: str, settings: dict[str, Any], rows: Rows) -> Any:
    recipe = check_recipe({"model": {"device": "cpu"}, **settings})
    return next(p for p in stage_plans(recipe, SHAPE, {stage: rows}) if p.stage == stage)


def test_a_stage_that_learns_by_hand() -> None:
    """4 pairs are 8 texts of 10 tokens in 3 passes; 5 steps; 100 tokens read once.

    2 * (900 + 10 * 10) operations per token and pass.
    """
    rows = Rows(count=20, steps=5, tokens=10.0, read=100.0)
    plan = plan_of("reward", {"reward": {"batch_size": 4}}, rows)
    assert plan.typical == (Work(tokens=80.0, passes=3.0),) * 2
    found = seconds_in_all(plan, SHAPE, CPU)
    operations = 2000 * (5 * 80 * 3 + 100)
    assert found == pytest.approx((operations / 2e6, operations / 1e6))
    assert plan.tokens == 4 * 2 * 1024  # what memory is planned for stays the longest


def test_the_evaluation_asks_as_many_prompts_as_there_are() -> None:
    """24 of at most 100 prompts, three models, answers of 4 at the mean and of 16 at most."""
    rows = Rows(count=24, steps=1, tokens=10.0, answer=4.0, models=3)
    settings = {
        "evaluate": {"max_prompts": 100, "sampling": {"max_new_tokens": 16, "batch_size": 8}}
    }
    plan = plan_of("evaluate", settings, rows)
    short, long = plan.typical
    assert (short.tokens, short.drawn, short.rounds) == (72 * 14.0, 72 * 4.0, 9 * 4.0)
    assert (long.tokens, long.drawn, long.rounds) == (72 * 26.0, 72 * 16.0, 9 * 16.0)


def test_rl_with_its_validation_by_hand() -> None:
    """4 answers a step; validation at step 0 and after steps 2, 4 and 5: 3 prompts each."""
    rows = Rows(count=9, steps=5, tokens=6.0, answer=2.0, validation=3)
    sampling = {"max_new_tokens": 8, "batch_size": 4}
    rl = {"batch_size": 4, "num_steps": 5, "eval_every": 2, "sampling": sampling}
    plan = plan_of("rl", {"rl": rl}, rows)
    short, long = plan.typical
    assert (short.tokens, long.tokens) == (4 * 8.0, 4 * 14.0)
    assert (plan.beside.tokens, plan.beside.drawn) == (4 * 3 * 14.0, 4 * 3 * 8.0)
    assert plan.steps == 5


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path, lm_dirs: dict[str, Path]) -> Callable[..., Path]:
    """A recipe with files of its own: 30 demonstrations, 60 pairs, 40 prompts, 7 to be asked."""

    def make(**changes: str) -> Path:
        names = [f"what is thing {i}" for i in range(60)]
        files = {
            "demonstrations": [{"prompt": p, "response": "very good"} for p in names[:30]],
            "pairs": [{"prompt": p, "chosen": "good", "rejected": "bad"} for p in names],
            "prompts": [{"prompt": p} for p in names[:40]],
            "held_out": [{"prompt": f"and {p}"} for p in names[:7]],
        }
        paths = {name: write(tmp_path / f"{name}.jsonl", rows) for name, rows in files.items()}
        text = f"""
name = "counted"
num_threads = 1
model.path = "{lm_dirs["llama"]}"
sft.demonstrations = "{paths["demonstrations"]}"
sft.held_out_share = 0
sft.batch_size = 8
sft.num_epochs = 2
reward.pairs = "{paths["pairs"]}"
reward.batch_size = 4
rl.prompts = "{paths["prompts"]}"
rl.max_prompt_tokens = 40
rl.sampling.max_new_tokens = 8
evaluate.prompts = "{paths["held_out"]}"
evaluate.sampling.max_new_tokens = 8
"""
        file = tmp_path / "recipe.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return make


def test_what_is_counted(recipe: Callable[..., Path]) -> None:
    found = count_inputs(load_recipe(recipe()))
    assert (found["sft"].count, found["sft"].steps) == (30, 8)  # 2 epochs of 30 in batches of 8
    assert found["evaluate"].count == 7 and found["evaluate"].models == 3
    assert found["rl"].count + (found["rl"].validation or 0) == 40
    assert found["reward"].count == 3 * 40  # three models, each blind to a third of 60
    assert all((rows.tokens or 0) > 5 for rows in found.values())
    assert "dpo" not in found  # its pairs are not named


def test_a_run_without_sft_has_a_total_too(recipe: Callable[..., Path]) -> None:
    found = count_inputs(load_recipe(recipe(), {"sft.demonstrations": "none"}))
    assert found["sft"] == Rows(count=0, steps=0)
    assert found["rl"].answer is None  # nothing says how long answers will be: the longest
    assert found["rl"].tokens and found["reward"].steps


def test_a_config_alone_counts_what_is_there(
    recipe: Callable[..., Path], lm_dirs: dict[str, Path]
) -> None:
    config = str(lm_dirs["llama"] / "config.json")
    found = count_inputs(load_recipe(recipe(), {"model.path": config}))
    assert found["sft"] == Rows(count=30)
    missing = {"model.path": config, "reward.pairs": "nowhere.jsonl"}
    assert "reward" not in count_inputs(load_recipe(recipe(), missing))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sft.demonstrations", "nowhere.jsonl"], "nowhere.jsonl: file not found"),
        (["--reward.pairs", "nowhere.jsonl"], "nowhere.jsonl: file not found"),
        (["--sft.max_tokens", "8"], "30 of 30 rows are too long"),
        (["--rl.max_prompt_tokens", "2"], "rows are too long"),
        (["--rl.rewards", "nowhere:reward"], "nowhere"),
    ],
)
def test_it_refuses_what_the_run_refuses(
    recipe: Callable[..., Path],
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(recipe()), "--no-measure", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_totals_and_the_threads_of_the_run(
    recipe: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alignloop.plan.speed.SECONDS", 0.01)
    seen: list[int] = []
    training = speeds._training

    def noted(*given: Any) -> float:
        seen.append(torch.get_num_threads())
        return training(*given)

    monkeypatch.setattr(speeds, "_training", noted)
    before = torch.get_num_threads()
    main(["plan", str(recipe()), "--num_threads", "3"])
    assert (seen, torch.get_num_threads()) == ([3], before)
    printed = capsys.readouterr().out
    assert "30 demonstrations, " in printed and "8 steps" in printed
    assert "7 prompts, " in printed and "3 models answer" in printed
    assert "`alignloop run` in all: " in printed and "(cpu, 3 threads)" in printed


def test_the_playground_is_counted_as_far_as_it_is_written() -> None:
    short = {"max_prompt_tokens": 96, "sampling": {"max_new_tokens": 144}}
    evaluate = {"sampling": {"max_new_tokens": 144}}
    settings = {
        "model": {"path": "playground"},
        "sft": {"demonstrations": "playground"},
        "reward": {"pairs": "playground"},
        "rl": {**short, "prompts": "playground"},
        "evaluate": {**evaluate, "prompts": "playground", "judge": "playground"},
        "comparisons": {"sampling": {"max_new_tokens": 144}},
    }
    found = count_inputs(Recipe.model_validate(settings))
    assert "reward" not in found  # its comparisons are not made yet
    assert found["sft"].steps and found["rl"].tokens
