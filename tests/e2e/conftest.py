"""Whole runs on a tiny model and tiny files, through the command line."""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alignloop import cli

REPOSITORY = Path(__file__).parents[2]
MODELS = ("sft", "reward_held_out", "reward_judge", "reward", "rl")

RECIPE = """\
name = "tiny"
num_threads = 1

[model]
path = "{folder}/model"

[sft]
demonstrations = "{folder}/demonstrations.jsonl"
learning_rate = 1e-3
batch_size = 8
num_epochs = 2
max_steps = 10
max_tokens = 128
eval_every = 5
save_every = 4

[reward]
pairs = "{folder}/pairs.jsonl"
learning_rate = 1e-3
batch_size = 8
num_epochs = 3
max_steps = 6
max_tokens = 128
save_every = 2

[rl]
prompts = "{folder}/prompts.jsonl"
learning_rate = 1e-3
batch_size = 8
num_steps = 8
max_prompt_tokens = 64
validation_size = 4
eval_every = 3
save_every = 4
num_printed_samples = 2
sampling.max_new_tokens = 12
algorithm.num_epochs = 2

[evaluate]
prompts = "{folder}/prompts.jsonl"
max_prompts = 12
sampling.max_new_tokens = 12
"""

# Ends the process by SIGKILL at one exact place, so that no test depends on who is faster:
# "sft:log:9" just after step 9 was logged, "reward:save:4" just before checkpoint 4 gets its name.
KILLER = """\
import os, signal, sys
from alignloop import cli
from alignloop.run import files
from alignloop.run.metrics import MetricLog

stage, moment, step = sys.argv[1].split(":")
log, move = MetricLog.log, files._move_into_place

def log_then_die(self, number, metrics):
    log(self, number, metrics)
    if (moment, stage, int(step)) == ("log", self.stage, number):
        os.kill(os.getpid(), signal.SIGKILL)

def die_before_move(temporary, target):
    if moment == "save" and target.parts[-3:] == (stage, "checkpoints", f"step-{int(step):06d}"):
        os.kill(os.getpid(), signal.SIGKILL)
    move(temporary, target)

MetricLog.log, files._move_into_place = log_then_die, die_before_move
cli.main(sys.argv[2:])
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A model directory, record files and a recipe, all small enough for seconds."""

    folder: Path
    recipe: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def command(self, stage: str, run: Path, *settings: str) -> list[str]:
        return [stage, str(self.recipe), "--folder", str(run), *settings]


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """`make_model` of the recipe real-small: (files, out, **sizes) -> out."""
    path = REPOSITORY / "recipes/real-small/make_model.py"
    spec = importlib.util.spec_from_file_location("make_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Tiny:
    """Made once; nobody writes into it."""
    folder = tmp_path_factory.mktemp("tiny")
    write_lines(folder / "demonstrations.jsonl", demonstrations(64))
    write_lines(folder / "pairs.jsonl", pairs(96))
    write_lines(folder / "prompts.jsonl", [{"prompt": d["prompt"]} for d in demonstrations(48)])
    make_model(
        [folder / "demonstrations.jsonl", folder / "pairs.jsonl"],
        folder / "model",
        vocab_size=400,
        context=160,
    )
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder), encoding="utf-8")
    return Tiny(folder=folder, recipe=recipe)


@pytest.fixture(scope="session")
def straight(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run that was never stopped."""
    run = tmp_path_factory.mktemp("runs") / "straight"
    cli.main(tiny.command("run", run))
    return run


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], Ended]:
    """Run a command line in this process."""

    def run(words: Sequence[str]) -> Ended:
        capsys.readouterr()
        code = 0
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        seen = capsys.readouterr()
        return Ended(code=code, out=seen.out, err=seen.err)

    return run


@pytest.fixture(scope="session")
def kill_at() -> Callable[[str, Sequence[str]], None]:
    """Run a command line in a process of its own until it is killed at a place (see KILLER)."""

    def kill(place: str, words: Sequence[str]) -> None:
        ended = start([sys.executable, "-c", KILLER, place, *words])
        _, err = ended.communicate(timeout=120)
        assert ended.returncode == -9, f"it was not killed at {place}: {err[-2000:]}"

    return kill


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """A process with the package on its path and one thread, which ignores no signal.

    Whoever runs the tests may ignore some (nohup, a shell's background), and children inherit that.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    kept = {sent: signal.signal(sent, signal.SIG_DFL) for sent in (signal.SIGINT, signal.SIGHUP)}
    try:
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    finally:
        for sent, handler in kept.items():
            signal.signal(sent, handler)


@pytest.fixture(scope="session")
def start_cli() -> Callable[[Sequence[str]], "subprocess.Popen[str]"]:
    """Start `python -m alignloop.cli` with these words."""
    return lambda words: start([sys.executable, "-m", "alignloop.cli", *words])


@pytest.fixture(scope="session")
def weights() -> Callable[[Path], dict[str, str]]:
    """The sha256 of every final model's weights in a run folder, by stage."""

    def read(run: Path) -> dict[str, str]:
        files = {stage: run / stage / "model/model.safetensors" for stage in MODELS}
        return {
            stage: hashlib.sha256(file.read_bytes()).hexdigest()
            for stage, file in files.items()
            if file.exists()
        }

    return read


@pytest.fixture(scope="session")
def curves() -> Callable[[Path], list[dict[str, Any]]]:
    """metrics.jsonl without what a clock says."""

    def read(run: Path) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [
            {k: v for k, v in line.items() if k != "time" and "second" not in k} for line in lines
        ]

    return read


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def demonstrations(count: int) -> list[dict[str, str]]:
    """Sums, in two languages."""
    rows: list[dict[str, str]] = []
    for i in range(count):
        a, b = i % 12, (5 * i + i // 12) % 13
        asked = f"What is {a} plus {b}?" if i % 2 else f"{a}加{b}等于多少？"
        rows.append({"prompt": asked, "response": f"It is {a + b}." if i % 2 else f"是{a + b}。"})
    return rows


def pairs(count: int) -> list[dict[str, str]]:
    """The right sum is preferred to a wrong one."""
    return [
        {
            "prompt": row["prompt"],
            "chosen": row["response"],
            "rejected": f"It is {40 + i % 37}." if i % 2 else f"是{40 + i % 37}。",
        }
        for i, row in enumerate(demonstrations(count))
    ]
