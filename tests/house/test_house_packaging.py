"""What a stranger meets first says the same everywhere."""

import os
import re
import tomllib
from pathlib import Path

import pytest

import alignloop

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def field(name: str) -> str:
    """A field of CITATION.cff."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    assert found is not None, name
    return found[1]


def test_version_and_licence_are_the_same_everywhere() -> None:
    project = PROJECT["project"]
    assert alignloop.__version__ == project["version"] == field("version")
    assert project["license"] == field("license")


def test_the_package_is_typed_and_holds_its_recipes() -> None:
    package = ROOT / "src/alignloop"
    assert (package / "py.typed").is_file()
    assert (package / "recipes/playground/recipe.toml").is_file()
    assert (ROOT / "recipes").resolve() == package / "recipes"
    assert "src/alignloop" in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]


def test_the_workflow_calls_what_runs_anywhere_else() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"- run: (.*)", text) == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("target", re.findall(r"make ([\w-]+)", (ROOT / ".ci/run").read_text()))
def test_every_target_that_ci_makes_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
