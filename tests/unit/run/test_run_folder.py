"""A run's folder: one holder at a time, real kills, settings, lineage, finished stages."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from alignloop.errors import UserError
from alignloop.run.folder import RunFolder, fingerprint

_HOLD = """
import sys, time
from alignloop.run.folder import RunFolder
run = RunFolder.create(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""

_HOLD_WITH_WORKER = """
import os, sys, time
from alignloop.run.folder import RunFolder
run = RunFolder.create(sys.argv[1])
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(60)
"""


def _start(script: str, path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.slow
def test_two_processes_cannot_hold_one_folder_and_a_kill_lets_it_go(tmp_path):
    process, said = _start(_HOLD, tmp_path / "run")
    try:
        assert said == "held"
        with pytest.raises(UserError, match=f"pid {process.pid} on ") as caught:
            RunFolder.create(tmp_path / "run")
        assert caught.value.where == str(tmp_path / "run")
        assert "another run folder" in caught.value.fix
    finally:
        _kill(process)
    assert process.returncode == -signal.SIGKILL
    with RunFolder.create(tmp_path / "run"):
        assert f"pid {os.getpid()} on " in (tmp_path / "run" / ".lock").read_text()


@pytest.mark.slow
def test_a_forked_worker_does_not_keep_the_folder(tmp_path):
    process, worker = _start(_HOLD_WITH_WORKER, tmp_path / "run")
    try:
        _kill(process)
        os.kill(int(worker), 0)  # the worker outlives its parent, or this raises
        # The fork handler may run a moment after the parent's print.
        deadline = time.monotonic() + 10
        while True:
            try:
                RunFolder.create(tmp_path / "run").close()
                break
            except UserError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        os.kill(int(worker), signal.SIGKILL)


def test_one_process_cannot_hold_it_twice(tmp_path):
    with (
        RunFolder.create(tmp_path / "run"),
        pytest.raises(UserError, match=f"pid {os.getpid()} "),
    ):
        RunFolder.create(tmp_path / "run")


def test_closing_lets_another_hold_it(tmp_path):
    first = RunFolder.create(tmp_path / "run")
    first.close()
    first.close()
    with RunFolder.create(tmp_path / "run") as second:
        assert second.path == tmp_path / "run"


def test_a_file_is_not_a_run_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="this is a file"):
        RunFolder.create(tmp_path / "run")


def test_reading_makes_nothing(tmp_path):
    stage = RunFolder(tmp_path / "run").stage("sft")
    assert not stage.finished
    assert not (tmp_path / "run").exists()


def test_stage_is_finished_when_it_says_so(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        stage = run.stage("sft")
        assert stage.path.is_dir() and stage.checkpoints == tmp_path / "run/sft/checkpoints"
        with pytest.raises(UserError, match="the stage sft is not finished"):
            stage.facts()
        stage.finish({"steps": 300, "loss": 1.25, "语言": "中文"})
    again = RunFolder(tmp_path / "run").stage("sft")
    assert again.finished
    assert again.facts() == {"steps": 300, "loss": 1.25, "语言": "中文"}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "SFT"])
def test_stage_names_stay_inside_the_run(tmp_path, name):
    with pytest.raises(AssertionError):
        RunFolder(tmp_path).stage(name)


def test_config_is_written_once(tmp_path):
    run = RunFolder(tmp_path)
    run.write_config("seed = 1\n")
    run.write_config("seed = 1\n")
    assert (tmp_path / "config.toml").read_text() == "seed = 1\n"


@pytest.mark.parametrize(
    ("new", "line", "shown"),
    [
        ("seed = 1\n[ppo]\nlr = 2\n", 3, "it has 'lr = 1', now asked 'lr = 2'"),
        ("seed = 1\n[ppo]\nlr = 1\nclip = 3\n", 4, "it has '', now asked 'clip = 3'"),
        ("seed = 1\n[ppo]\nlr = 1", 4, "it has '', now asked ''"),
    ],
)
def test_other_settings_are_refused_by_line(tmp_path, new, line, shown):
    run = RunFolder(tmp_path)
    run.write_config("seed = 1\n[ppo]\nlr = 1\n")
    with pytest.raises(UserError) as caught:
        run.write_config(new)
    assert caught.value.where == f"{tmp_path / 'config.toml'}:{line}"
    assert caught.value.problem.endswith(shown)
    assert (tmp_path / "config.toml").read_text() == "seed = 1\n[ppo]\nlr = 1\n"


def test_fingerprint_of_file_and_folder(tmp_path):
    (tmp_path / "m" / "sub").mkdir(parents=True)
    (tmp_path / "m" / "a").write_bytes(b"abc")
    # The published test vector of SHA-256 (FIPS 180-2, appendix B.1).
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint(tmp_path / "m" / "a") == abc
    assert fingerprint(tmp_path / "m") == hashlib.sha256(f"a {abc}\n".encode()).hexdigest()
    before = fingerprint(tmp_path / "m")
    (tmp_path / "m" / "a").rename(tmp_path / "m" / "sub" / "a")
    assert fingerprint(tmp_path / "m") != before
    with pytest.raises(UserError, match="no such file"):
        fingerprint(tmp_path / "none")


def test_lineage_keeps_every_stage(tmp_path):
    (tmp_path / "run" / "sft").mkdir(parents=True)
    (tmp_path / "run" / "sft" / "w").write_bytes(b"abc")
    (tmp_path / "data").write_bytes(b"")
    run = RunFolder(tmp_path / "run")
    run.lineage("sft", {"steps": 1})
    run.lineage("reward", {"steps": 2})
    run.lineage("sft", {"steps": 3}, inputs=[tmp_path / "data"], outputs=[tmp_path / "run/sft/w"])
    entries = json.loads((tmp_path / "run" / "lineage.json").read_text())
    assert {stage: entry["steps"] for stage, entry in entries.items()} == {"sft": 3, "reward": 2}
    assert entries["sft"]["inputs"] == {str(tmp_path / "data"): hashlib.sha256().hexdigest()}
    assert entries["sft"]["outputs"] == {"sft/w": hashlib.sha256(b"abc").hexdigest()}
    assert entries["sft"]["versions"]["python"] == sys.version.split()[0]
    assert "torch" in entries["sft"]["versions"]


def test_damaged_lineage_is_named(tmp_path):
    (tmp_path / "lineage.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        RunFolder(tmp_path).lineage("sft", {})
