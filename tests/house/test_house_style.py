"""The house style: lengths, docstrings, no unpickling, no traces of a machine."""

import ast
import os
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION, LONGEST_FILE, MEDIAN_FUNCTION, USUAL_FUNCTION = 80, 500, 15, 45
NOT_OURS = {
    ".git",
    ".venv",
    ".venv-trl",
    ".venv-newest",
    ".venv-oldest",
    ".venv-wheel",
    ".venv-docs",
    ".hypothesis",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "runs",
    "dist",
    "build",
    "node_modules",
    "shared",
}
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".json",
    ".j2",
    ".jinja",
    ".html",
    ".css",
    ".js",
    ".yml",
    ".yaml",
    ".cfg",
    ".sh",
    ".csv",
    ".jsonl",
    "",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """The Python files below some folders of the repository."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if not NOT_OURS & set(path.relative_to(ROOT).parts))


def our_files() -> Iterator[Path]:
    """Every file of the repository; folders that are not ours are not entered."""
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [name for name in inside if name not in NOT_OURS]
        yield from (Path(folder) / name for name in files if name not in NOT_OURS)


@cache
def parse(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(*folders: str) -> dict[str, int]:
    """Lines of every function, by `file:line name`."""
    return {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or 0)
        - node.lineno
        + 1
        for path in python_files(*folders)
        for node in ast.walk(parse(path))
        if isinstance(node, Function)
    }


def test_functions_are_short() -> None:
    lengths = functions("src")
    assert len(lengths) > 300
    assert not {where: n for where, n in lengths.items() if n > LONGEST_FUNCTION}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION
    assert sum(n <= USUAL_FUNCTION for n in lengths.values()) >= 0.9 * len(lengths)


def test_functions_of_tests_and_examples_are_not_endless() -> None:
    lengths = functions("tests", "examples", "benchmarks")
    assert not {where: n for where, n in lengths.items() if n > LONGEST_FUNCTION}


def test_files_are_short() -> None:
    paths = python_files("src", "tests", "examples", "benchmarks")
    assert len(paths) > 50
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in paths
    }
    assert not {path: n for path, n in lengths.items() if n > LONGEST_FILE}


def public_things(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_things(node.body, f"{node.name}.")


def test_everything_public_has_a_docstring() -> None:
    silent = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in python_files("src")
        for name, node in [("the module", parse(path)), *public_things(parse(path).body)]
        if not ast.get_docstring(node)  # type: ignore[arg-type]
    ]
    assert not silent


PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNPICKLERS = {"torch.load", "torch.save", "torch.serialization.load"}


def unsafe_loading(tree: ast.AST) -> Iterator[str]:
    """Every import of a pickling library and every call that unpickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in PICKLES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & UNPICKLERS
            if node.module.split(".")[0] in PICKLES:
                yield node.module
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLERS:
            yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield f"allow_pickle={ast.unparse(node.value)}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import pickle", ["pickle"]),
        ("from torch import load", ["torch.load"]),
        ("torch.load(path)", ["torch.load"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle=True"]),
        ("from safetensors.torch import load_file\njson.load(file)", []),
    ],
)
def test_the_search_for_unpickling_finds_it(code: str, expected: list[str]) -> None:
    assert list(unsafe_loading(ast.parse(code))) == expected


def test_nothing_is_unpickled() -> None:
    found = {str(p.relative_to(ROOT)): list(unsafe_loading(parse(p))) for p in python_files("src")}
    assert not {path: names for path, names in found.items() if names}


# Absolute paths below somebody's home or workplace; a URL's path has a host before it.
PERSONAL = re.compile(r"(?<![\w.:>)}-])/(?:work|root|home|Users)/[\w.-]+")


@pytest.mark.parametrize(
    ("text", "names_one"),
    [
        ("see " + "/work" + "/main/src", True),
        ("`" + "/home" + "/ann/run`", True),
        ("https://host.org" + "/home" + "/index.html", False),
        ("teamwork/life and net/work/flow", False),
    ],
)
def test_the_search_for_personal_paths_finds_them(text: str, names_one: bool) -> None:
    assert bool(PERSONAL.search(text)) is names_one


def test_no_text_file_names_a_personal_path() -> None:
    named = []
    for path in sorted(our_files()):
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8", errors="replace")
            named += [f"{path.relative_to(ROOT)}: {found}" for found in PERSONAL.findall(text)]
    assert not named
