"""The architecture: who may import whom, read from the source without running it."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FLOOR = {"errors", "extras"}
TOOLS = {
    "shapes",
    "records",
    "config",
    "losses",
    "data",
    "models",
    "rollout",
    "scoring",
    "parallel",
    "run",
    "stats",
}
STAGES = {"sft", "reward", "dpo", "rl", "evaluate"}
# What every room may import besides itself and the floor.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "extras": set(),
    "shapes": set(),
    "records": set(),
    "stats": set(),
    "fonts": set(),
    "config": {"records"},
    "losses": {"shapes"},
    "data": {"records", "config"},
    "models": {"shapes", "config", "data"},
    "parallel": {"shapes", "config"},
    "rollout": {"shapes", "records", "config", "data", "models", "parallel", "losses"},
    "scoring": {"shapes", "records", "config", "data", "models"},
    "run": {"records", "config"},
    "sft": TOOLS - {"stats"},
    "dpo": TOOLS - {"stats"},
    "reward": TOOLS,
    "rl": TOOLS,
    "evaluate": TOOLS,
    "label": {"records", "config", "data", "run", "stats", "fonts"},
    "report": {"records", "config", "run", "stats", "fonts"},
    "playground": {"records", "config", "data", "rollout", "models", "run", "stats"},
    "plan": {"config", "models"},
    "recipes": {"records", "data", "run"},  # their scripts
    # sources, judging and summary are parts of the pipeline in files of their own
    # samples from models and files what they said: the one room that knows torch and the label room
    "asking": TOOLS | {"label"},
    "sources": TOOLS | STAGES | {"label", "playground"},
    "ahead": TOOLS | STAGES | {"label", "sources", "judging"},
    "judging": TOOLS | STAGES | {"playground", "sources"},
    "counting": TOOLS | STAGES | {"plan", "sources", "judging", "ahead"},
    "staging": {"config", "run"},
    "summary": {"run"},
    "pipeline": TOOLS
    | STAGES
    | {"label", "report", "playground", "plan"}
    | {"sources", "judging", "summary", "ahead", "staging", "counting"},
    "cli": TOOLS
    | STAGES
    | {"label", "report", "playground", "plan", "pipeline", ""}
    | {"cli_label", "cli_recipes"},
    "cli_label": {"asking", "label", "playground"},
    "cli_recipes": {"config"},
    "__main__": {"cli"},  # python -m alignloop
    "": {"pipeline", "records"},  # the package itself, for its lazy public names
}
# what may load before a stage does
ALWAYS_THERE = {"config", "errors", "extras", "records", "run", "judging", "staging", ""}
ALWAYS_THERE |= {"cli_label", "cli_recipes"}


@dataclass(frozen=True, kw_only=True)
class Import:
    """`importer` imports `imported`, both by dotted module name."""

    importer: str
    imported: str
    line: int
    lazy: bool
    for_types: bool


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    found: dict[str, ast.Module] = {}
    for path in sorted((SOURCE / "alignloop").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def room_of(module: str) -> str:
    """`alignloop.rl.train` lives in `rl`; the package itself in ""."""
    return [*module.split("."), ""][1]


def names_in(node: ast.AST) -> list[str]:
    """The modules that an import statement names; `from a import b` may mean the module a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import in line {node.lineno}"
        assert node.module is not None
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in modules() else node.module for name in below]
    return []


def walk_imports(
    importer: str, nodes: Iterable[ast.AST], *, lazy: bool = False, for_types: bool = False
) -> Iterator[Import]:
    """Every import below `nodes`, with whether it stands in a function or under TYPE_CHECKING."""
    for node in nodes:
        for name in dict.fromkeys(names_in(node)):
            yield Import(
                importer=importer,
                imported=name,
                line=getattr(node, "lineno", 0),
                lazy=lazy,
                for_types=for_types,
            )
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = for_types or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        yield from walk_imports(importer, ast.iter_child_nodes(node), lazy=inside, for_types=typing)


@cache
def imports() -> tuple[Import, ...]:
    """Every import statement of the package."""
    return tuple(one for name, tree in modules().items() for one in walk_imports(name, [tree]))


def ours() -> list[Import]:
    """The imports of our own modules."""
    return [one for one in imports() if one.imported.split(".")[0] == "alignloop"]


def show(found: Iterable[Import]) -> list[str]:
    """Readable, for the assertion's message."""
    return [f"{one.importer}:{one.line} imports {one.imported}" for one in found]


def reached(start: str) -> dict[str, list[str]]:
    """Modules that `start` may load at run time, lazily or not, each with the path to it."""
    edges: dict[str, set[str]] = {}
    for one in ours():
        if not one.for_types:
            parts = one.imported.split(".")
            parents = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
            edges.setdefault(one.importer, set()).update(parents & set(modules()))
    paths, queue = {start: [start]}, [start]
    while queue:
        module = queue.pop()
        for following in edges.get(module, set()) - set(paths):
            paths[following] = [*paths[module], following]
            queue.append(following)
    return paths


def test_the_walk_sees_lazy_and_typing_imports() -> None:
    found = {(one.imported, one.lazy, one.for_types) for one in imports()}
    assert ("alignloop.pipeline", True, False) in found  # cli, inside a function
    assert ("alignloop.pipeline", False, True) in found  # the package, for type checkers
    assert ("alignloop.errors", False, False) in found


def test_every_room_is_in_the_table() -> None:
    assert {room_of(name) for name in modules()} <= set(MAY_IMPORT)


def test_rooms_import_only_what_the_table_allows() -> None:
    broken = [
        one
        for one in ours()
        if room_of(one.imported) not in FLOOR | {room_of(one.importer)}
        and room_of(one.imported) not in MAY_IMPORT[room_of(one.importer)]
    ]
    assert not broken, show(broken)


def test_stages_never_import_each_other() -> None:
    assert not any(MAY_IMPORT[stage] & STAGES for stage in STAGES)
    broken = [one for one in ours() if {room_of(one.importer), room_of(one.imported)} <= STAGES]
    broken = [one for one in broken if room_of(one.importer) != room_of(one.imported)]
    assert not broken, show(broken)


def test_no_cycle_between_rooms() -> None:
    edges: dict[str, set[str]] = {}
    for one in ours():
        edges.setdefault(room_of(one.importer), set()).add(room_of(one.imported))
    done: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, " -> ".join((*path, room))
        if room not in done:
            for following in sorted(edges.get(room, set()) - {room}):
                visit(following, (*path, room))
            done.add(room)

    for room in sorted(edges):
        visit(room, ())


def test_nobody_imports_the_cli() -> None:
    found = [one for one in ours() if room_of(one.imported) == "cli"]
    assert {one.importer for one in found} <= {"alignloop.__main__"}, show(found)


@pytest.mark.parametrize(
    "room",
    [
        "pipeline",
        "sources",
        "judging",
        "ahead",
        "staging",
        "summary",
        "cli",
        "cli_label",
        "cli_recipes",
    ],
)
def test_stages_load_lazily(room: str) -> None:
    eager = [
        one
        for one in ours()
        if room_of(one.importer) == room
        and not (one.lazy or one.for_types)
        and room_of(one.imported) not in ALWAYS_THERE
    ]
    assert not eager, show(eager)


@pytest.mark.parametrize(
    "module", ["alignloop.pipeline", "alignloop.sources", "alignloop.summary", "alignloop.cli"]
)
def test_pipeline_and_cli_load_no_torch_at_the_top(module: str) -> None:
    eager = {o.imported.split(".")[0] for o in imports() if o.importer == module and not o.lazy}
    assert not eager & {"torch", "transformers", "numpy", "scipy", "matplotlib"}


def test_stats_stands_on_numpy_and_scipy_alone() -> None:
    allowed = {"numpy", "scipy", "alignloop"} | set(sys.stdlib_module_names)
    foreign = [o for o in imports() if room_of(o.importer) == "stats"]
    assert foreign
    assert not show(o for o in foreign if o.imported.split(".")[0] not in allowed)


@pytest.mark.parametrize("room", ["report", "label", "config", "records", "errors", "stats"])
def test_rooms_without_torch_name_no_torch(room: str) -> None:
    heavy = {"torch", "transformers", "safetensors", "tokenizers"}
    found = [o for o in imports() if room_of(o.importer) == room]
    assert not show(o for o in found if o.imported.split(".")[0] in heavy)


GOLD = "alignloop.playground.gold"


def test_only_the_pipeline_imports_the_gold_judge() -> None:
    assert GOLD in modules()
    assert {one.importer for one in ours() if one.imported == GOLD} <= {
        "alignloop.pipeline",
        "alignloop.sources",
        "alignloop.judging",
    }


def test_no_training_room_reaches_the_gold_judge() -> None:
    tools = {"data", "models", "rollout", "scoring", "losses", "run"}
    trains = STAGES - {"evaluate"} | tools | {"asking"}
    starts = [name for name in modules() if room_of(name) in trains]
    assert len(starts) > 20
    leaks = [reached(start)[GOLD] for start in starts if GOLD in reached(start)]
    assert not leaks
    assert GOLD in reached("alignloop.pipeline")  # the search does find what is there


def test_the_rest_of_the_playground_does_not_reach_the_gold_judge() -> None:
    others = {name for name in modules() if room_of(name) == "playground"} - {GOLD}
    parts = ("corpus", "demonstrations", "annotators", "collect", "stage")
    assert {f"alignloop.playground.{part}" for part in parts} <= others
    assert not [reached(start)[GOLD] for start in others if GOLD in reached(start)]


def test_the_playground_is_imported_by_pipeline_and_cli_alone() -> None:
    users = {room_of(one.importer) for one in ours() if room_of(one.imported) == "playground"}
    assert users - {"playground"} <= {"pipeline", "sources", "judging", "cli", "cli_label"}
