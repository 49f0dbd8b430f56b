"""Whole or not at all: files, folders and appended lines on a full disk and after a kill."""

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignloop.errors import UserError
from alignloop.run.files import (
    append_jsonl,
    atomic_folder,
    atomic_write,
    read_jsonl,
    remove_folder,
    whole_lines,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def full_disk(monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(os, "fsync", fail)


@contextmanager
def small_files():
    """No file grows past 4096 bytes. Only around the write: pytest's own log may be a file too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    atomic_write(path, "早")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert _names(path.parent) == ["b.txt"]


def test_write_on_a_full_disk_leaves_the_old_file(tmp_path, full_disk):
    path = tmp_path / "config.toml"
    atomic_write(path, "old")
    full_disk()
    with pytest.raises(UserError, match="the disk is full") as caught:
        atomic_write(path, "new")
    assert caught.value.where == str(path)
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["config.toml"]


def test_write_that_the_kernel_stops_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    atomic_write(path, "old")
    with pytest.raises(OSError) as caught, small_files():
        atomic_write(path, b"x" * 10_000)
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["f"]


def test_other_errors_are_not_called_a_full_disk(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file" / "below", "x")


def test_folder_appears_whole_and_replaces(tmp_path):
    path = tmp_path / "model"
    for word in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / word).write_text(word)
            assert folder.name.startswith(".model.tmp-")
    assert _names(path) == ["two"]
    assert _names(tmp_path) == ["model"]


def test_folder_on_an_exception_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (path / "weights").read_text() == "old"
    assert _names(tmp_path) == ["model"]


def test_folder_on_a_full_disk_leaves_the_old_one(tmp_path, full_disk):
    path = tmp_path / "model"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("old")
    full_disk()
    with pytest.raises(UserError, match="the disk is full"), atomic_folder(path) as folder:
        (folder / "weights").write_text("new")
    assert (path / "weights").read_text() == "old"
    assert _names(tmp_path) == ["model"]


def test_folder_is_put_back_when_the_second_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "model"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("old")
    rename = Path.rename

    def fail_once_moved_aside(self, target):
        if ".tmp-" in self.name:
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once_moved_aside)
    with pytest.raises(OSError, match="input/output"), atomic_folder(path):
        pass
    assert (path / "weights").read_text() == "old"
    assert _names(tmp_path) == ["model"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    dead = _dead_pid()
    (tmp_path / f".step-1.tmp-{dead}-{dead}").mkdir()
    (tmp_path / f".step-2.tmp-{os.getpid()}-1").mkdir()
    (tmp_path / ".step-3.notes").mkdir()
    with atomic_folder(tmp_path / "step-4"):
        pass
    assert _names(tmp_path) == [f".step-2.tmp-{os.getpid()}-1", ".step-3.notes", "step-4"]


def test_a_folder_killed_between_its_renames_is_put_back(tmp_path):
    dead = _dead_pid()
    (tmp_path / f".model.old-{dead}-{dead}").mkdir()
    (tmp_path / f".model.old-{dead}-{dead}" / "weights").write_text("old")
    with atomic_folder(tmp_path / "other"):
        pass
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert _names(tmp_path) == ["model", "other"]


@pytest.mark.slow
def test_a_kill_while_filling_leaves_the_old_folder(tmp_path):
    path = tmp_path / "model"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("old")
    script = (
        "import os, signal, sys\n"
        "from alignloop.run.files import atomic_folder\n"
        "with atomic_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'weights').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)])
    assert killed.returncode == -9
    assert (path / "weights").read_text() == "old"
    assert len(_names(tmp_path)) == 2, "the kill left its temporary folder"
    with atomic_folder(path) as folder:
        (folder / "weights").write_text("new")
    assert (path / "weights").read_text() == "new"
    assert _names(tmp_path) == ["model"]


def test_remove_folder_leaves_nothing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_folder(tmp_path / "a")
    assert _names(tmp_path) == []


def test_append_adds_lines_in_order(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    append_jsonl(path, [{"n": 1}, {"n": 2, "text": "一\u2028二\n三"}])
    append_jsonl(path, [{"n": 3}])
    append_jsonl(path, [])
    assert path.read_bytes().count(b"\n") == 3
    assert read_jsonl(path) == [{"n": 1}, {"n": 2, "text": "一\u2028二\n三"}, {"n": 3}]


def test_append_of_nothing_makes_no_file(tmp_path):
    append_jsonl(tmp_path / "log.jsonl", [])
    assert read_jsonl(tmp_path / "log.jsonl") == []
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"n": 1}\n{"n": 2, "te', b'{"n": 1}\n{"n": 3}\n'),
        (b'{"n": 1}\n{"n": 2}', b'{"n": 1}\n{"n": 2}\n{"n": 3}\n'),
        (b'{"n"', b'{"n": 3}\n'),
        (b'{"n": 1}\n"\xe4\xb8', b'{"n": 1}\n{"n": 3}\n'),
    ],
)
def test_append_after_a_torn_line(tmp_path, before, after):
    path = tmp_path / "log.jsonl"
    path.write_bytes(before)
    append_jsonl(path, [{"n": 3}])
    assert path.read_bytes() == after


def test_append_on_a_full_disk_keeps_what_was_there(tmp_path, full_disk):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"n": 1}])
    full_disk()
    with pytest.raises(UserError, match="the disk is full"):
        append_jsonl(path, [{"n": 2}])
    assert path.read_bytes() == b'{"n": 1}\n'


def test_append_that_the_kernel_stops_half_way_keeps_what_was_there(tmp_path):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"n": 1}])
    with pytest.raises(OSError) as caught, small_files():
        append_jsonl(path, [{"text": "x" * 10_000}])
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b'{"n": 1}\n'


def test_append_refuses_nan_before_it_writes(tmp_path):
    path = tmp_path / "log.jsonl"
    with pytest.raises(ValueError):
        append_jsonl(path, [{"n": 1}, {"n": float("nan")}])
    assert not path.exists()


def test_reading_leaves_out_a_torn_last_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n{"n')
    assert read_jsonl(path) == [{"n": 1}, {"n": 2}]
    assert whole_lines(path) == [b'{"n": 1}', b'{"n": 2}']


@pytest.mark.parametrize("bad", ["not json", "[1]", "3"])
def test_reading_names_the_bad_line(tmp_path, bad):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"n": 1}) + f"\n{bad}\n" + '{"n": 3}\n')
    with pytest.raises(UserError) as caught:
        read_jsonl(path)
    assert caught.value.where == f"{path}:2"
