"""A whole run on a function of the user's own, from the command line, and its bad ends."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

FUNCTION = """\
def digits(prompts, responses):
    return [min(1.0, sum(c.isdigit() for c in r) / 4) for r in responses]

def moody(prompts, responses):
    if len(responses) == 8:
        raise ValueError("not eight")
    return [0.0] * len(responses)

def far(prompts, responses):
    return [5.0] * len(responses)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_reward.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_reward", raising=False)


def test_a_run_needs_no_reward_model(tiny: Any, tmp_path: Path, call: Any) -> None:
    words = ("--rl.rewards", "own_reward:digits", "--rl.num_steps", "2")
    run = tmp_path / "run"
    ended = call(tiny.command("run", run, *words))
    assert ended.code == 0, ended.err
    assert not (run / "reward").exists() and (run / "report.html").exists()
    lineage = json.loads((run / "lineage.json").read_text())["rl"]
    assert lineage["reward_1"] == "own_reward:digits" and "reward_model" not in lineage
    results = json.loads((run / "evaluate" / "results.json").read_text())
    assert results["judge"] == "function own_reward:digits" and results["judge_facts"]["climbed"]
    assert "RL optimised this very judge" in json.dumps(results["verdict"])


def test_an_error_of_the_function_is_one_line(tiny: Any, tmp_path: Path, call: Any) -> None:
    words = ("--rl.rewards", "own_reward:moody", "--rl.policy", str(tiny.model))
    ended = call(tiny.command("rl", tmp_path / "run", *words))
    assert ended.code == 2 and "Traceback" not in ended.err
    assert "raised ValueError: not eight (own_reward.py, line 6)" in ended.err
    assert "prompt_id" in ended.err


def test_a_function_that_is_not_there_is_missed_before_the_first_stage(
    tiny: Any, tmp_path: Path, call: Any
) -> None:
    run = tmp_path / "run"
    ended = call(tiny.command("run", run, "--rl.rewards", '["1 * nobody:knows"]'))
    assert ended.code == 2 and "there is no module 'nobody'" in ended.err
    assert not (run / "sft").exists()


def test_a_judge_stays_within_0_and_1(tiny: Any, tmp_path: Path, call: Any) -> None:
    run = tmp_path / "run"
    settings = ("--rl.rewards", "own_reward:far", "--rl.num_steps", "1")
    ended = call(tiny.command("run", run, *settings))
    assert ended.code == 2 and "evaluate.judge" in ended.err
    assert (run / "rl" / "done.json").exists()
