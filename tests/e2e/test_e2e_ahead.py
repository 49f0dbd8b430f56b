"""What a later stage cannot work with is refused before the first one; chains without stage 1."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LONG = " ".join(str(number) for number in range(200))
PAIR = {"prompt": "What is 1 plus 1?", "chosen": "It is 2.", "rejected": "It is 3."}


def rows(path: Path, *found: dict[str, str]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


def assert_refused_at_once(run: Path, words: list[str], call: Any, *parts: str) -> None:
    began = time.monotonic()
    ended = call(words)
    seconds = time.monotonic() - began
    assert ended.code == 2 and "Traceback" not in ended.err, ended.err
    for part in parts:
        assert part in ended.err, ended.err
    assert seconds < 10
    assert not (run / "metrics.jsonl").exists() and not (run / "config.toml").exists()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["evaluate.sampling.max_new_tokens=160"], ["no room", "evaluate.sampling.max_new_tokens"]),
        (["rl.max_prompt_tokens=150"], ["162 tokens", "rl.max_prompt_tokens"]),
        (["evaluate.prompts=nowhere.jsonl"], ["nowhere.jsonl", "file not found"]),
        (["rl.validation_prompts=nowhere.jsonl"], ["nowhere.jsonl", "rl.validation_prompts"]),
        (["data.exclude=nowhere.jsonl"], ["nowhere.jsonl", "data.exclude"]),
        (["evaluate.prompts={tmp}/empty.jsonl"], ["empty.jsonl", "the file is empty"]),
        (["evaluate.prompts={tmp}/pair.csv"], ["pair.csv"]),
        (["evaluate.prompts={tmp}/long.jsonl"], ["rows are too long", "the model's context"]),
        (["rl.prompts={tmp}/long.jsonl"], ["rl.max_prompt_tokens allows 64"]),
        (["rl.prompts={tmp}/few.jsonl"], ["1 prompts are too few", "rl.prompts"]),
        (["reward.pairs={tmp}/few.jsonl"], ["1 pairs leave none for", "reward.pairs"]),
        (["reward.pairs={tmp}/ties.jsonl"], ["pairs for the report card are ties"]),
        (["rl.rewards=nowhere"], ["no model found here", "rl.rewards"]),
        (["rl.held_out_reward_model=nowhere"], ["no model found here", "rl.held_out_reward_model"]),
        (["evaluate.baseline=nowhere"], ["no model found here", "evaluate.baseline"]),
        (['rl.rewards=["1 * nowhere"]'], ["no model found here", "rl.rewards"]),
    ],
)
def test_the_last_stage_is_looked_at_before_the_first(
    settings: list[str], parts: list[str], tiny: Any, tmp_path: Path, call: Any
) -> None:
    rows(tmp_path / "few.jsonl", PAIR)
    rows(tmp_path / "long.jsonl", *({"prompt": f"{n} {LONG}"} for n in range(40)))
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "pair.csv").write_text("a,b\n1,2\n")
    tie = {"response_a": "1", "response_b": "2", "winner": "tie"}
    rows(tmp_path / "ties.jsonl", *({"prompt": f"What is {n}?", **tie} for n in range(40)))
    run = tmp_path / "run"
    words = tiny.command("run", run, *(f"--{one.format(tmp=tmp_path)}" for one in settings))
    assert_refused_at_once(run, words, call, *parts)


def test_what_was_refused_can_be_mended_in_the_same_folder(
    tiny: Any, tmp_path: Path, call: Any
) -> None:
    run = tmp_path / "run"
    wrong = ("--evaluate.sampling.max_new_tokens", "160")
    assert_refused_at_once(run, tiny.command("run", run, *wrong), call, "no room")
    ended = call(tiny.command("run", run, "--sft.max_steps", "2", "--rl.num_steps", "1"))
    assert ended.code == 0, ended.err


OWN = """\
name = "own"
num_threads = 1
model.path = "{model}"
{sft}
[reward]
pairs = "{folder}/mine.judge.jsonl"
learning_rate = 1e-3
batch_size = 8
max_steps = 2
max_tokens = 128
[dpo]
pairs = "{folder}/mine.dpo.jsonl"
learning_rate = 1e-3
batch_size = 8
max_steps = 3
max_tokens = 128
[rl]
prompts = "{folder}/mine.dpo.jsonl"
num_steps = 1
batch_size = 4
max_prompt_tokens = 64
validation_size = 2
sampling.max_new_tokens = 8
[evaluate]
prompts = "{folder}/mine.held_out.jsonl"
max_prompts = 4
sampling.max_new_tokens = 8
"""


@pytest.fixture
def only_pairs(tiny: Any, tmp_path: Path, call: Any) -> Any:
    """A model and pairs, shared out as the README says; `only_pairs(sft)` writes the recipe."""
    shares = ("dpo=0.5", "judge=0.4", "held_out=0.1")
    splits = [word for share in shares for word in ("--split", share)]
    pairs = str(tiny.folder / "pairs.jsonl")
    ended = call(["data", "convert", pairs, str(tmp_path / "mine.jsonl"), "--to", "pairs", *splits])
    assert ended.code == 0, ended.err

    def write(sft: str) -> str:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(OWN.format(model=tiny.model, folder=tmp_path, sft=sft))
        return str(recipe)

    return write


def test_what_no_recipe_names_is_told_at_once(only_pairs: Any, tmp_path: Path, call: Any) -> None:
    run = tmp_path / "run"
    recipe = only_pairs("")
    words = ["run", recipe, "--folder", str(run)]
    named = ("no data given for: sft.demonstrations", "--sft.demonstrations FILE")
    assert_refused_at_once(run, words, call, *named)
    ended = call(["sft", recipe, "--folder", str(run)])
    assert ended.code == 2 and "no data given for: sft.demonstrations" in ended.err


def test_a_recipe_without_any_data_is_told_all_of_it(tmp_path: Path, call: Any) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "empty"\n', encoding="utf-8")
    ended = call(["run", str(recipe), "--folder", str(tmp_path / "run")])
    assert ended.code == 2 and "Traceback" not in ended.err
    for setting in ("model.path", "sft.demonstrations", "reward.pairs", "rl.prompts"):
        assert f"--{setting} " in ended.err
    assert not (tmp_path / "run" / "config.toml").exists()


def test_rl_is_never_given_the_gold_judge(tiny: Any, tmp_path: Path, call: Any) -> None:
    run = tmp_path / "run"
    for rewards in ("playground", '["1 * playground"]'):
        words = tiny.command("run", run, "--rl.rewards", rewards)
        assert_refused_at_once(run, words, call, "RL must not use a world's gold judge")
    ended = call(tiny.command("rl", run, "--rl.rewards", "playground"))
    assert ended.code == 2 and "RL must not use a world's gold judge" in ended.err


def test_only_pairs_by_dpo_up_to_the_evaluation(
    only_pairs: Any, tiny: Any, tmp_path: Path, call: Any
) -> None:
    recipe, run = only_pairs('sft.demonstrations = "none"'), tmp_path / "run"
    for stage in ("dpo", "reward", "evaluate", "report"):
        ended = call([stage, recipe, "--folder", str(run)])
        assert ended.code == 0, ended.err
    assert not (run / "sft").exists()
    lineage = json.loads((run / "lineage.json").read_text())
    assert lineage["dpo"]["model"] == lineage["evaluate"]["sft"] == str(tiny.model)
    assert lineage["evaluate"]["policy"] == str(run / "dpo/model")
    assert lineage["evaluate"]["judge"] == str(run / "reward_judge/model")
    assert lineage["dpo"]["pairs"] != lineage["reward_held_out"]["pairs"]
    assert "sft" not in lineage


def test_only_pairs_by_ppo(only_pairs: Any, tiny: Any, tmp_path: Path, call: Any) -> None:
    recipe, run = only_pairs('sft.demonstrations = "none"'), tmp_path / "run"
    ended = call(["run", recipe, "--folder", str(run)])
    assert ended.code == 0, ended.err
    assert not (run / "sft").exists()
    lineage = json.loads((run / "lineage.json").read_text())
    assert lineage["rl"]["policy"] == lineage["reward"]["model"] == str(tiny.model)
    ended = call(["sft", recipe, "--folder", str(run)])
    assert ended.code == 2 and "these settings turn SFT off" in ended.err
