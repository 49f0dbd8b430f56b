"""A run that is stopped and goes on ends with the same weights, to the bit, and the same curves."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

pytestmark = pytest.mark.slow

REWARD_MODELS = ("reward_held_out", "reward_judge", "reward")
STEPS = {"sft": range(11), **dict.fromkeys(REWARD_MODELS, range(1, 7)), "rl": range(9)}


def steps_on_disk(run: Path, stage: str) -> list[str]:
    return sorted(path.name for path in (run / stage / "checkpoints").iterdir())


def assert_same_run(one: Path, other: Path, curves: Any, weights: Any) -> None:
    assert set(weights(other)) == set(STEPS)
    assert weights(one) == weights(other)
    assert curves(one) == curves(other)
    for name in ("samples.jsonl", "evaluate/answers.jsonl"):
        assert (one / name).read_text() == (other / name).read_text()


def test_a_run_has_every_step_once(straight: Path, curves: Any) -> None:
    wanted = [(stage, step) for stage, steps in STEPS.items() for step in steps]
    assert [(line["stage"], line["step"]) for line in curves(straight)] == wanted
    samples = [json.loads(line) for line in (straight / "samples.jsonl").read_text().splitlines()]
    assert [s["step"] for s in samples] == [0, 0, 3, 3, 6, 6, 8, 8]


def test_killed_in_every_stage(
    tiny: Any, straight: Path, tmp_path: Path, kill_at: Any, call: Any, curves: Any, weights: Any
) -> None:
    run = tmp_path / "run"
    words = tiny.command("run", run)
    kill_at("sft:log:9", words)
    assert curves(run)[-1]["step"] == 9
    assert steps_on_disk(run, "sft") == ["step-000004", "step-000008"]

    kill_at("reward:save:4", words)
    assert steps_on_disk(run, "reward")[-1] == "step-000002"
    finished = {s: (run / s / "done.json").stat().st_mtime_ns for s in ("sft", *REWARD_MODELS[:2])}

    kill_at("rl:log:7", words)  # the policy of step 6 is kept as best, the checkpoint is of step 4
    assert steps_on_disk(run, "rl") == ["step-000004"]
    finished["reward"] = (run / "reward/done.json").stat().st_mtime_ns

    ended = call(words)
    assert ended.code == 0, ended.err
    assert "rl: resuming after step 4" in ended.err
    assert {s: (run / s / "done.json").stat().st_mtime_ns for s in finished} == finished
    assert_same_run(run, straight, curves, weights)


def test_a_finished_run_is_not_repeated(straight: Path, tiny: Any, call: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in straight.glob("*/done.json")}
    assert call(tiny.command("run", straight)).code == 0
    assert {path: path.stat().st_mtime_ns for path in straight.glob("*/done.json")} == before
    assert len(before) == 6


@pytest.mark.parametrize("damage", ["truncate", "alter"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: str,
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Any,
    weights: Any,
) -> None:
    run = tmp_path / "run"
    words = tiny.command("sft", run)
    with monkeypatch.context() as patch:
        full_disk_at(patch, "model")  # the stage ends without its model, all checkpoints are there
        assert call(words).code == 2
    file = run / "sft/checkpoints/step-000010/tensors.safetensors"
    content = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ended = call(words)
    assert ended.code == 0, ended.err
    assert "resuming after step 8" in ended.err
    assert weights(run)["sft"] == weights(straight)["sft"]


def full_disk_at(patch: pytest.MonkeyPatch, name: str) -> None:
    """Syncing any file of the folder that is to become `name` says that no space is left."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if f".{name}.tmp-" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    patch.setattr(os, "fsync", full)


def test_a_full_disk_spoils_no_checkpoint(
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Any,
    weights: Any,
) -> None:
    run = tmp_path / "run"
    words = tiny.command("sft", run)
    with monkeypatch.context() as patch:
        full_disk_at(patch, "step-000008")
        ended = call(words)
    assert ended.code == 2
    assert "the disk is full" in ended.err and "Traceback" not in ended.err
    assert steps_on_disk(run, "sft") == ["step-000004"]
    ended = call(words)
    assert ended.code == 0, ended.err
    assert "resuming after step 4" in ended.err
    assert weights(run)["sft"] == weights(straight)["sft"]


def test_a_disk_that_is_full_for_the_final_model(
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Any,
    weights: Any,
) -> None:
    def full(*_: Any, **__: Any) -> None:  # as safetensors says it: no OSError
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    run = tmp_path / "run"
    words = tiny.command("sft", run)
    with monkeypatch.context() as patch:
        patch.setattr("transformers.modeling_utils.safe_save_file", full)
        ended = call(words)
    assert ended.code == 2, ended.err
    assert "the disk is full" in ended.err and "Traceback" not in ended.err
    assert not (run / "sft/model").exists()
    ended = call(words)
    assert ended.code == 0, ended.err
    assert "resuming after step 10" in ended.err
    assert weights(run)["sft"] == weights(straight)["sft"]


def wait_for_line(process: Any, path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < end, f"nothing appeared in {path}"
        time.sleep(0.002)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_or_a_closed_terminal_stops_it(
    sent: signal.Signals,
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    start_cli: Callable[[Sequence[str]], Any],
    call: Any,
    weights: Any,
) -> None:
    run = tmp_path / "run"
    words = tiny.command("sft", run, "--sft.save_every", "0")
    process = start_cli(words)
    try:
        wait_for_line(process, run / "metrics.jsonl", seconds=300)
        process.send_signal(sent)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + sent, err
    assert "everything is saved" in err and "Traceback" not in err
    assert len(steps_on_disk(run, "sft")) == 1
    assert call(words).code == 0
    assert weights(run)["sft"] == weights(straight)["sft"]


MOODY = """\
import os, signal
from dataclasses import replace
from alignloop import cli
from alignloop.rl import train

evaluate = train.Watch.evaluated
def evaluated(self, seen):
    # a reward that is not deterministic: step 6 is the best before the kill, and the worst after
    scores = {0: 0.0, 3: 1.0, 6: float(os.environ["SIXTH"])}
    return evaluate(self, replace(seen, held_out=scores.get(seen.step, -2.0), kl=0.0, outside=0.0))
train.Watch.evaluated = evaluated

log = train.StageRun.log
def log_then_die(self, step, metrics, **more):
    log(self, step, metrics, **more)
    if step == int(os.environ["DIE"]):
        os.kill(os.getpid(), signal.SIGKILL)
train.StageRun.log = log_then_die
cli.main()
"""


def test_the_kept_policy_is_that_of_the_step_which_is_named(
    tiny: Any, straight: Path, tmp_path: Path, weights: Any
) -> None:
    run, third = tmp_path / "run", tmp_path / "third"
    for folder in (run, third):
        for name in ("sft", *REWARD_MODELS):
            shutil.copytree(straight / name, folder / name)

    def ended(folder: Path, die: int, sixth: float, *more: str) -> int:
        environment = {**os.environ, "DIE": str(die), "SIXTH": str(sixth), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
        words = tiny.command("rl", folder, *more)
        done = subprocess.run([sys.executable, "-c", MOODY, *words], env=environment, check=False)
        return done.returncode

    assert ended(run, 7, 2.0) == -signal.SIGKILL  # best is step 6, the checkpoint is of step 4
    assert ended(run, -1, -1.0) == 0  # now step 3 stays the best
    facts = json.loads((run / "rl/done.json").read_text())["facts"]
    assert facts["best_step"] == 3
    assert ended(third, -1, -1.0) == 0  # never stopped
    assert weights(run)["rl"] == weights(third)["rl"]
    assert not (run / "rl/best").exists()


def test_a_held_folder_and_ctrl_c(
    tiny: Any,
    straight: Path,
    tmp_path: Path,
    start_cli: Callable[[Sequence[str]], Any],
    call: Any,
    curves: Any,
    weights: Any,
) -> None:
    run = tmp_path / "run"
    words = tiny.command("run", run)
    first = start_cli(words)
    try:
        wait_for_line(first, run / "metrics.jsonl")
        first.send_signal(signal.SIGSTOP)  # so that it holds the folder as long as we need
        second = call(words)
        assert second.code == 2
        assert (
            f"pid {first.pid} " in second.err and "another run is using this folder" in second.err
        )
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 130, err
    assert "run the same command to resume" in err and "Traceback" not in err
    ended = call(words)
    assert ended.code == 0, ended.err
    assert "resuming after step" in ended.err
    assert_same_run(run, straight, curves, weights)
