"""Recipes that come with the package: by name, listed, copied."""

from pathlib import Path

import pytest

from alignloop import cli
from alignloop.cli_recipes import copy_recipe
from alignloop.config import load_recipe
from alignloop.config.packaged import packaged_recipes
from alignloop.errors import UserError


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_recipe_is_found_by_its_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_a_file_that_is_there_comes_before_a_name() -> None:
    Path("playground").mkdir()
    assert load_recipe("playground").name == "playground"  # no recipe.toml in it yet
    Path("playground/recipe.toml").write_text('name = "mine"\n', encoding="utf-8")
    assert load_recipe("playground").name == "mine"


@pytest.mark.parametrize("path", ["nothing", "x/playground", "../playground"])
def test_a_path_is_no_name(path: str) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(path)


def test_a_copy_has_all_files_and_the_name_of_its_folder(tmp_path: Path) -> None:
    copied = copy_recipe("smollm2", tmp_path / "我的")
    assert {file.name for file in copied.iterdir()} == {"README.md", "prepare.py", "recipe.toml"}
    ours, theirs = load_recipe(copied), load_recipe("smollm2")
    assert ours.name == "我的"
    assert ours == theirs.model_copy(update={"name": ours.name})


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no packaged recipe has this name"):
        copy_recipe("nothing", tmp_path / "new")
    with pytest.raises(UserError, match="nothing is overwritten"):
        copy_recipe("playground", tmp_path)
    with pytest.raises(UserError, match="name = 'my recipe'"):
        copy_recipe("playground", tmp_path / "my recipe")
    assert not list(tmp_path.iterdir())


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["recipes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(packaged_recipes())
    assert "playground     The embedded playground: a model of 3.4 million parameters" in lines[4]
    cli.main(["recipes", "copy", "playground", "mine"])
    assert capsys.readouterr().out == f"{tmp_path.resolve() / 'mine'}\n"
    assert (tmp_path / "mine/recipe.toml").is_file()
