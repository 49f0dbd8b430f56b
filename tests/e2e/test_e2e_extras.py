"""A run where the extra `report` is not installed."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SENTENCE = (
    "report.html needs matplotlib, which is not installed. What to do: pip install"
    " 'alignloop[report]'"
)


def test_a_run_without_the_report_ends_with_its_summary(
    tiny: Any, straight: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    for name in ("report.html", "summary.json"):
        (run / name).unlink()
    for name in [name for name in sys.modules if name.startswith("alignloop.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = call(tiny.command("run", run))
    assert ended.code == 0, ended.err
    assert ended.err.count(SENTENCE) == 2  # before the first stage, and at the end
    assert ended.out.splitlines()[-1] == str(run / "summary.json")
    assert (run / "summary.json").is_file() and not (run / "report.html").exists()
    ended = call(tiny.command("report", run))
    assert (ended.code, ended.err) == (2, f"error: {SENTENCE}\n")
