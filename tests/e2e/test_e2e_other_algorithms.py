"""GRPO and DPO through the command line: stopped, gone on with, and compared with SFT."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

DPO = """\
 --dpo.learning_rate 1e-3 --dpo.batch_size 8 --dpo.max_steps 5 --dpo.max_tokens 128
 --dpo.save_every 2 --dpo.eval_every 2 --dpo.micro_batch_tokens 512
"""
GRPO = """\
 --rl.algorithm.name grpo --rl.algorithm.num_epochs 1 --rl.algorithm.group_size 3
 --rl.num_steps 3 --rl.save_every 1
"""


def with_models(straight: Path, run: Path) -> Path:
    """A new run folder with the models of the stages before."""
    for name in ("sft", "reward", "reward_held_out"):
        shutil.copytree(straight / name / "model", run / name / "model")
    return run


@pytest.mark.parametrize(("stage", "settings"), [("dpo", DPO), ("rl", GRPO)])
def test_a_stage_goes_on_and_its_policy_is_compared(
    stage: str,
    settings: str,
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    kill_at: Any,
    call: Any,
    curves: Any,
) -> None:
    words = [*settings.split(), "--dpo.pairs", str(tiny.folder / "pairs.jsonl")]
    once, again = (with_models(straight, tmp_path / name) for name in ("once", "again"))
    assert call(tiny.command(stage, once, *words)).code == 0
    kill_at(f"{stage}:log:3", tiny.command(stage, again, *words))
    ended = call(tiny.command(stage, again, *words))
    assert ended.code == 0, ended.err
    assert f"{stage}: resuming after step 2" in ended.err
    weights = [(run / stage / "model/model.safetensors").read_bytes() for run in (once, again)]
    assert weights[0] == weights[1]
    assert curves(once) == curves(again)

    for command in ("evaluate", "report"):
        ended = call(tiny.command(command, once, *words))
        assert ended.code == 0, ended.err
    lineage = json.loads((once / "lineage.json").read_text())["evaluate"]
    assert lineage["policy"] == str(once / stage / "model")
    summary = json.loads((once / "summary.json").read_text())
    assert summary["evaluate"]["prompts"].keys() >= {"sft", "policy", "win_rate"}
    assert summary["dpo"]["steps"] == 5 if stage == "dpo" else summary["rl"]["kl"] is None


def test_the_models_to_compare_may_be_named(
    tiny: Any, straight: Path, tmp_path: Path, call: Any
) -> None:
    models = {"baseline": straight / "rl/model", "policy": straight / "sft/model"}
    run = with_models(straight, tmp_path / "run")
    words = [word for name, m in models.items() for word in (f"--evaluate.{name}", str(m))]
    ended = call(tiny.command("evaluate", run, *words))
    assert ended.code == 0, ended.err
    lineage = json.loads((run / "lineage.json").read_text())["evaluate"]
    assert (lineage["sft"], lineage["policy"]) == tuple(map(str, models.values()))


def test_pairs_of_another_world_are_refused(tiny: Any, tmp_path: Path, call: Any) -> None:
    words = tiny.command("dpo", tmp_path / "run", "--dpo.model", str(tiny.model))
    ended = call(words)
    assert ended.code == 2
    assert "dpo.pairs" in ended.err and "--dpo.pairs FILE" in ended.err


def test_dpo_before_sft_is_told(tiny: Any, tmp_path: Path, call: Any) -> None:
    ended = call(tiny.command("dpo", tmp_path / "run"))
    assert ended.code == 2
    assert "run `alignloop sft` first" in ended.err and "dpo.model" in ended.err
