"""From the command line: exports, and stages that read a project themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignloop import cli, inputs
from alignloop.config import Recipe
from alignloop.data import read_pairs
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.store.database import Database
from alignloop.label.training_pairs import project_pairs
from alignloop.run import RunFolder


@pytest.fixture
def project(
    database: Database, store: Callable[..., int], some_labels: ProjectLabels, tmp_path: Path
) -> Path:
    store(database, some_labels)
    return tmp_path / "project"


def test_export_says_what_it_wrote(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", "export", str(project), str(tmp_path / "out"), "--format", "trl"]
    cli.main([*words, "--split", "train=0.5", "--split", "test=0.5"])
    told = capsys.readouterr().out
    pairs, digest = project_pairs(f"{project}#demo")
    assert f"content sha256 {digest}" in told
    assert "judgements: 24" in told and "annotators: 2" in told
    found = [*read_pairs(tmp_path / "out/train.jsonl"), *read_pairs(tmp_path / "out/test.jsonl")]
    assert sorted(map(repr, found)) == sorted(map(repr, pairs))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "train"], "is not a split"),
        (["--split", "train=0.5"], "sum 1"),
        (["--kind", "comparisons", "--format", "hh"], "are not pairs"),
        (["--kind", "ratings"], "there are no labels for this export yet"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    more: list[str],
    message: str,
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["label", "export", str(project), str(tmp_path / "out"), *more])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stage_reads_a_project_and_keeps_what_it_read(project: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"sft": {"demonstrations": "mine"}})
    with RunFolder.create(tmp_path / "run") as run:
        read: Any = inputs.preference_pairs
        pairs, file = read(recipe, "reward.pairs", f"label:{project}", Path("model"), run)
        _, other = read(recipe, "dpo.pairs", f"label:{project}", Path("model"), run)
    assert pairs == project_pairs(str(project))[0]
    assert Path(file) == tmp_path / "run" / "labels" / "pairs.jsonl"
    assert Path(other) == tmp_path / "run" / "labels_dpo" / "pairs.jsonl"


def test_pairs_for_short(
    lm_dirs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[reward]\nmodel = "{lm_dirs["llama"]}"\n')
    words = ["reward", str(recipe), "--folder", str(tmp_path / "run"), "--pairs", "label:nowhere"]
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "there is no labelling project here" in capsys.readouterr().err
    assert 'pairs = "label:nowhere"' in (tmp_path / "run/config.toml").read_text()
