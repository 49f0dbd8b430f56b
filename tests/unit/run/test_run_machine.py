"""What the last digits depend on: cores that may be used, and what has changed since."""

import json
import os
from pathlib import Path

import pytest

from alignloop.run import machine as room
from alignloop.run.chain import INPUTS, begin
from alignloop.run.folder import RunFolder
from alignloop.run.machine import available_cores, changes_of, machine


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group's file, as a test writes it; eight cores by taskset."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(room, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(room, "_QUOTA_1", (tmp_path / "quota", tmp_path / "period"))
    return tmp_path


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1600000 100000", 8),
        ("10000 100000", 1),
        ("", 8),
        ("100000 0", 8),
    ],
)
def test_a_containers_share_of_cores(share: Path, content: str, cores: int) -> None:
    (share / "cpu.max").write_text(content)
    assert available_cores() == cores


def test_control_groups_of_version_1(share: Path) -> None:
    (share / "quota").write_text("300000\n")
    (share / "period").write_text("100000\n")
    assert available_cores() == 3
    (share / "quota").write_text("-1\n")  # no limit
    assert available_cores() == 8


def test_taskset_counts(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert available_cores() == 1


def test_what_has_changed_is_named() -> None:
    now = machine(2)
    assert now["threads"] == 2 and now["processor"] and "python" in now["versions"]
    before = {**now, "threads": 1, "versions": {**now["versions"], "numpy": "1.0"}}
    assert changes_of(now, now) == []
    assert changes_of(before, now) == [
        "threads: 1, and now 2",
        f"numpy: 1.0, and now {now['versions']['numpy']}",
    ]
    assert changes_of("torn", now) == []


def test_a_stage_that_goes_on_says_what_its_machine_has_changed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    assert begin(folder, "sft", {}, threads=1) == []
    (folder.stage("sft").checkpoints / "step-3").mkdir(parents=True)
    assert begin(folder, "sft", {}, threads=1) == []
    assert begin(folder, "sft", {}, threads=2) == ["threads: 1, and now 2"]
    machines = json.loads((folder.stage("sft").path / INPUTS).read_text())["machines"]
    assert [one["threads"] for one in machines] == [1, 2]
