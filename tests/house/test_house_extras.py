"""What is core and what is an extra: the core imports without any extra's packages."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "alignloop"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# Rooms that are an extra as a whole: every command that opens one says what is missing.
ROOMS_OF_EXTRAS = {"label": {"label", "postgres"}, "acquisition": {"label"}, "report": {"report"}}
# Extras that a room of the core asks for inside its functions, where the thing itself is asked for.
ASKED_FOR = {
    "ahead": {"lora"},
    "data": {"data"},
    "models": {"lora", "gguf"},
    "run": {"tensorboard"},
    "scoring": {"verifiable"},
}
NOT_IMPORTED = {"python-multipart"}  # fastapi reads forms with it
BY_HAND = {"bitsandbytes"}  # for GPUs: models/quantised.py says how it is installed
# Imports modules, as if nothing but `allowed` were installed beside Python's own.
PROBE = """\
import importlib, json, sys
from importlib.machinery import PathFinder

allowed, names = json.loads(sys.argv[1])

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        python = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        there = python or top in allowed
        return PathFinder.find_spec(name, path, target) if there else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def plain(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: Iterable[str]) -> set[str]:
    """The distributions that requirements name, those of this package's own extras included."""
    found: set[str] = set()
    for one in map(Requirement, requirements):
        if plain(one.name) == PROJECT["name"]:
            found |= names_of(text for extra in one.extras for text in EXTRAS[extra])
        elif one.marker is None or one.marker.evaluate({"extra": ""}):
            found.add(plain(one.name))
    return found


def closure(names: set[str]) -> set[str]:
    """The distributions, and all that they need."""
    found, queue = set(names), list(names)
    while queue:
        try:
            needed = names_of(metadata.requires(queue.pop()) or ())
        except metadata.PackageNotFoundError:
            continue
        queue += needed - found
        found |= needed
    return found


@cache
def distributions() -> dict[str, set[str]]:
    """Which distributions bring a top-level module, for all that are installed."""
    return {m: set(map(plain, d)) for m, d in metadata.packages_distributions().items()}


def modules() -> Iterator[tuple[str, str, Path]]:
    """Room, dotted name and file of each module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        dotted = [part for part in parts if part != "__init__"]
        yield (dotted or [""])[0], ".".join(("alignloop", *dotted)), path


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports from outside, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found - set(sys.stdlib_module_names) - {"alignloop"}


def failures(names: list[str]) -> dict[str, str]:
    """What cannot be imported where the core's requirements alone are installed."""
    core = closure(names_of(PROJECT["dependencies"]))
    allowed = [m for m, brought in distributions().items() if brought & core]
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([[*allowed, "alignloop"], names])],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_core_imports_without_any_extra() -> None:
    apart = {*ROOMS_OF_EXTRAS, "recipes", "__main__"}
    core = [name for room, name, _ in modules() if room not in apart]
    assert len(core) > 150
    assert failures(core) == {}


@pytest.mark.slow
def test_the_probe_sees_what_is_missing() -> None:
    failed = failures(["alignloop.report", "alignloop.label.commands", "alignloop.errors"])
    assert failed.keys() == {"alignloop.report", "alignloop.label.commands"}
    assert "matplotlib" in failed["alignloop.report"]


def test_every_import_is_declared_in_the_core_or_in_an_extra_of_its_room() -> None:
    undeclared = []
    for room, name, path in modules():
        extras = ROOMS_OF_EXTRAS.get(room, set()) | ASKED_FOR.get(room, set())
        declared = names_of([*PROJECT["dependencies"], *(t for e in extras for t in EXTRAS[e])])
        for module in imported(path) - BY_HAND:
            if not distributions().get(module, {plain(module)}) & declared:
                undeclared.append(f"{name} imports {module}")
    assert not undeclared


def test_every_requirement_is_imported_somewhere() -> None:
    used = {
        one
        for _, _, path in modules()
        for module in imported(path)
        for one in distributions().get(module, set())
    }
    extras = [text for name, texts in EXTRAS.items() if name != "dev" for text in texts]
    assert names_of([*PROJECT["dependencies"], *extras]) - used == NOT_IMPORTED


def test_all_is_everything_and_dev_has_it() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all", "dev"}
    assert "alignloop[all]" in EXTRAS["dev"]
