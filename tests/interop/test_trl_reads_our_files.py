"""TRL's trainers take the files that `data convert --to trl` writes, and mean the same by them."""

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from alignloop.data.convert import convert

HERE = Path(__file__).parent
SCORES = [(6, 9), (5, 5), (9, 2), (4, 3), (1, 8), (2, 2)]
RATED = [
    {"prompt": f"Question {n}?", "responses": [f"{a} a", f"{b} b"], "scores": [a, b]}
    for n, (a, b) in enumerate(SCORES)
]
PLAIN = {"prompt": "What is rent?", "chosen": "A payment.", "rejected": "A tree."}
TALK = [{"role": role, "content": f"{role} {n}"} for n in (1, 2) for role in ("user", "assistant")]


@pytest.fixture(scope="module")
def other_python() -> Path:
    """The interpreter with TRL, as `make interop` makes it; skips without one."""
    named = os.environ.get("ALIGNLOOP_TRL_PYTHON", "")
    found = Path(named) if named else HERE.parents[1] / ".venv-trl" / "bin" / "python"
    if not found.exists():
        pytest.skip("TRL is not installed: `make interop` does it")
    return found


@pytest.fixture(scope="module")
def told(other_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TRL's trainers said of our files."""
    folder = tmp_path_factory.mktemp("ours")
    inputs = {
        # a plain pair first: TRL looks at the first row for what all of them are
        "reward": [PLAIN, *RATED],
        "dpo": [*RATED, PLAIN],
        "sft": [{"prompt": "Q", "response": "A"}, {"messages": TALK}],
    }
    for work, rows in inputs.items():
        source = folder / f"{work}.rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        convert(str(source), folder / f"{work}.jsonl", "trl")
    names = ("PYTHON", "COVERAGE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            str(other_python),
            str(HERE / "train_on_our_files.py"),
            str(folder / "model"),
            str(folder),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_reward_trainer_takes_every_margin(told: dict[str, Any]) -> None:
    # two of six rated pairs are ties and left out; differences of points, 3 at most
    assert told["margins"] == [0.0, 3.0, 3.0, 1.0, 3.0]
    assert math.isfinite(told["reward"])


def test_the_dpo_trainer_takes_the_decided_pairs(told: dict[str, Any]) -> None:
    assert told["dpo_rows"] == 5
    # before it has moved a DPO model is at log 2; two steps at 1e-6 leave it there
    assert told["dpo"] == pytest.approx(math.log(2), abs=1e-3)


def test_the_sft_trainer_learns_each_answer_and_no_question(told: dict[str, Any]) -> None:
    assert told["learnt"] == ["A</s>", "assistant 1</s>", "assistant 2</s>"]
    assert math.isfinite(told["sft"])
