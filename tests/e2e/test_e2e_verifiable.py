"""The example of GRPO on rewards that can be checked, and what is missed before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignloop.scoring.verifiable import numeric_answer

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples/grpo_sums"
SMALL = """
model.device=cpu num_threads=1 rl.num_steps=2 rl.batch_size=2 rl.validation_size=2
rl.sampling.max_new_tokens=8 rl.max_prompt_tokens=128 rl.learning_rate=1e-3
"""


def test_the_example_runs_on_a_tiny_model(
    tiny: Any, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE)
    changes = [f"--{setting}" for setting in SMALL.split()]
    changes += [f"--model.path={tiny.model}", f"--rl.policy={tiny.model}"]
    run = tmp_path / "run"
    ended = call(["rl", str(EXAMPLE), "--folder", str(run), *changes])
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        assert "####" in row["prompt"]["reference"] and row["prompt"]["category"]
        right = numeric_answer(row["response"], row["prompt"]["reference"])
        assert row["score"] == pytest.approx(right + 0.2, abs=1e-6)  # eight tokens: short enough


@pytest.mark.parametrize(
    ("row", "settings", "problem"),
    [
        ({"prompt": "what is good"}, ["verifiable:numeric_answer"], "there is no reference"),
        (
            {"prompt": "q", "answer": "many"},
            ["verifiable:numeric_answer"],
            "correct the prompt's reference",
        ),
        ({"prompt": "q", "answer": "3"}, ["verifiable:no_such_check"], "has no function"),
        ({"prompt": "q"}, ["verifiable:max_words(few)"], "invalid literal"),
    ],
)
def test_what_cannot_be_checked_is_missed_before_the_first_stage(
    row: Any, settings: list[str], problem: str, tiny: Any, tmp_path: Path, call: Any
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    more = [{"prompt": f"q{n}", "answer": "3"} for n in range(40)]
    prompts.write_text("".join(json.dumps(one) + "\n" for one in [*more, row]))
    run = tmp_path / "run"
    words = ["--rl.rewards", json.dumps(settings), f"--rl.prompts={prompts}"]
    words += [f"--rl.held_out_reward_model={tiny.model}"]
    ended = call(tiny.command("run", run, *words))
    assert ended.code == 2 and problem in ended.err, ended.err
    assert "Traceback" not in ended.err and not (run / "sft/model").exists()
