"""A run's folder: one holder at a time, real kills, settings, lineage, finished stages."""

import hashlib
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


def test_config_is_what_was_written_last(tmp_path):
    run = RunFolder(tmp_path)
    for text in ("seed = 1\n", "seed = 1\n", "seed = 2\n"):
        run.write_config(text)
        assert (tmp_path / "config.toml").read_text() == text


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
    with pytest.raises(UserError, match="file not found"):
        fingerprint(tmp_path / "none")


def test_what_a_stage_has_written_is_kept_as_checksums(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        stage = run.stage("sft")
        (stage.path / "checkpoints").mkdir()
        (stage.path / "best").mkdir()
        (stage.path / "card.json").write_bytes(b"abc")
        stage.finish({"steps": 1})
    assert stage.done()["outputs"] == {"card.json": hashlib.sha256(b"abc").hexdigest()}


def test_begun_is_what_has_something_to_lose(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        stage = run.stage("sft")
        assert not stage.begun
        (stage.checkpoints / "step-000004").mkdir(parents=True)
        assert stage.begun and not stage.finished
        stage.discard()
        assert not stage.begun and stage.path.is_dir()


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "null", "[" * 100_000, '{"facts": 3}'])
def test_a_done_json_of_another_shape_is_named(tmp_path, content):
    stage = RunFolder(tmp_path).stage("sft")
    stage.path.mkdir()
    (stage.path / "done.json").write_text(content)
    with pytest.raises(UserError) as caught:
        stage.facts()
    assert caught.value.where == str(stage.path / "done.json") and "delete" in caught.value.fix


@pytest.mark.parametrize("path", ["a\0b", "/proc/nowhere/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_made_is_an_error_for_people(path):
    with pytest.raises(UserError) as caught:
        RunFolder.create(path)
    assert "folder" in caught.value.fix and "\0" not in str(caught.value)
