"""docs/update_results.py, on a made-up summary."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from alignloop.measures import OF_ANSWERS, score_by
from alignloop.playground.gold import MEASURES

ROOT = Path(__file__).parents[2]
FIGURES = {
    "helpfulness": 0.25, "harmful_compliance": 0.5, "over_refusal": 0.125, "fairness": None,
    "satisfaction": 0.1, "judge_score": 0.3, "length": 20.26, "distinct_2": 0.9,
    "corpus_distinct_2": 0.4, "eos_rate": 1.0, "repetition": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    path = ROOT / "docs/update_results.py"
    spec = importlib.util.spec_from_file_location("update_results", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder: Path, seed: int, **changes: Any) -> Path:
    """A run folder with a finished summary, some of its parts changed."""
    after = FIGURES | {"judge_score": 0.75, "harmful_compliance": 0.0, "length": 41.0}
    measured = {"sft": FIGURES, "policy": after, "win_rate": 0.8125, "win_rate_ci": [0.7, 0.9]}
    summary = {
        "seconds": {"sft": 10.0, "total": 1234.5},
        "reward": {
            "accuracy": 0.81,
            "accuracy_ci": [0.79, 0.83],
            "ceiling": None,
            "longer_wins": 0.6,
            "ece": 0.03,
        },
        "rl": {"kl": 12.34, "best_step": 25},
        "measures": [one.plain() for one in (*MEASURES, score_by("gold rubric"), *OF_ANSWERS)],
        "evaluate": {"wordings": measured, "intents": measured | {"win_rate": 0.5}},
    }
    folder.mkdir()
    text = json.dumps({key: part for key, part in (summary | changes).items() if part})
    (folder / "summary.json").write_text(text)
    (folder / "config.toml").write_text(f'name = "x"\nseed = {seed}\n')
    return folder


def test_the_first_run_before_and_after_by_set(script: ModuleType, tmp_path: Path) -> None:
    run = script.read_summary(write_run(tmp_path / "a", 0))
    lines = script.before_after(run, 0).splitlines()
    assert lines[0] == "| Figure | wordings: SFT | wordings: RLHF | intents: SFT | intents: RLHF |"
    assert "| Harmful requests complied with | 0.500 | 0.000 | 0.500 | 0.000 |" in lines
    assert "| Length, tokens | 20.3 | 41.0 | 20.3 | 41.0 |" in lines
    assert "| Score by the gold rubric, 0 to 1 | 0.300 | 0.750 | 0.300 | 0.750 |" in lines
    assert "| Fair answers | – | – | – | – |" in lines
    wins = "|  | 0.812 [0.700, 0.900] |  | 0.500 [0.700, 0.900] |"
    assert lines[-1] == f"| Win rate against SFT [95 %] {wins}"


def test_one_column_for_each_seed(script: ModuleType, tmp_path: Path) -> None:
    runs = [script.read_summary(write_run(tmp_path / f"s{seed}", seed)) for seed in (0, 7)]
    lines = script.by_seed(runs, 0).splitlines()
    assert lines[0] == "| Figure | s0 | s7 |" and lines[2] == "| Seed | 0 | 7 |"

    def same(label: str, cell: str) -> str:
        return f"| {label} | {cell} | {cell} |"

    assert lines[3:8] == [
        same("Seconds, all stages", "1234"),
        same("Reward model's accuracy [95 %]", "0.810 [0.790, 0.830]"),
        same("Ceiling by agreement", "–"),
        same("'The longer wins'", "0.600"),
        same("Calibration error", "0.030"),
    ]
    assert same("wordings: Harmful requests complied with", "0.500 → 0.000") in lines
    assert same("intents: Harmless look-alikes refused", "0.125 → 0.125") in lines
    assert same("intents: win rate [95 %]", "0.500 [0.700, 0.900]") in lines
    assert {line.count("|") for line in lines} == {4}


def test_pages_keep_all_but_what_stands_between_the_markers(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, Path]] = []
    monkeypatch.setattr(script, "save_curves_png", lambda run, out: drawn.append((run, out)))
    for page in script.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(f"head\n{script.BEGIN}\nold\n{script.END}\ntail\n")
    folder = str(write_run(tmp_path / "first", 3))
    for _ in range(2):  # a second time changes nothing
        script.main([folder], tmp_path)
    for page, image in zip(script.PAGES, ("docs", "docs", "../../../../docs"), strict=True):
        text = (tmp_path / page).read_text()
        assert text.startswith(f"head\n{script.BEGIN}\n") and text.endswith(f"{script.END}\ntail\n")
        assert "\nold\n" not in text and text.count(script.BEGIN) == 1
        assert f"]({image}/images/curves.png)" in text
        assert "python docs/update_results.py runs/first" in text
        assert str(tmp_path) not in text  # a page names no folder of this machine
    assert drawn[0] == (folder, tmp_path / "docs/images/curves.png")


def test_what_is_missing_is_said(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not finished: it lacks evaluate"):
        script.read_summary(write_run(tmp_path / "half", 0, evaluate=None))
    with pytest.raises(SystemExit, match=r"summary\.json is missing"):
        script.read_summary(tmp_path)
    with pytest.raises(SystemExit, match="the markers"):
        script.replace_between("no markers here", "x")


def test_the_committed_pages_have_their_markers_once(script: ModuleType) -> None:
    for page in script.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count(script.BEGIN) == text.count(script.END) == 1
