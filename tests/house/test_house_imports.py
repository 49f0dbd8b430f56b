"""The architecture: who may import whom, read from the source without running it."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FLOOR = {"errors", "extras", "measures"}
TOOLS = {
    "shapes",
    "tensors",
    "protocols",
    "records",
    "config",
    "losses",
    "data",
    "fastpath",
    "models",
    "rollout",
    "judging",
    "scoring",
    "parallel",
    "run",
    "stats",
    "training",
}
STAGES = {"sft", "reward", "dpo", "rl", "evaluate"}
# What every room may import besides itself and the floor.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "extras": set(),
    "measures": set(),
    "shapes": set(),
    "tensors": set(),
    "protocols": set(),
    "records": set(),
    "stats": set(),
    "fonts": set(),
    "config": {"records"},
    "losses": {"shapes"},
    "data": {"records", "config"},
    "fastpath": {"shapes", "tensors", "protocols"},
    "models": {"shapes", "tensors", "protocols", "config", "data", "fastpath", "parallel"},
    "parallel": {"tensors"},
    "rollout": {"shapes", "tensors", "protocols", "config", "data", "models", "fastpath"},
    "scoring": {"records", "data", "stats"},
    # how good an answer is: reward models, functions; a world brings its own judge
    "judging": {"records", "tensors", "config", "data", "models", "rollout", "run", "scoring"},
    "run": {"records", "config", "parallel", "tensors"},
    "training": {"shapes", "tensors", "config", "data", "models", "parallel", "run"},
    "sft": TOOLS - {"stats"},
    "dpo": TOOLS - {"stats"},
    "reward": TOOLS,
    "rl": TOOLS,
    "evaluate": TOOLS,
    "label": {"records", "config", "data", "run", "stats", "fonts"},
    "report": {"records", "config", "run", "stats", "fonts"},
    "playground": {
        "records",
        "tensors",
        "config",
        "data",
        "rollout",
        "models",
        "run",
        "stats",
        "judging",
    },
    "plan": {"config", "tensors", "models"},
    "recipes": {"records", "data", "run"},  # their scripts
    # where the core and the playground meet, and nowhere else but in the command line
    "worlds": {"records", "config", "judging", "run", "playground"},
    # inputs, judge_choice, ahead, counting, staging and summary are parts of the pipeline
    # samples from models and files what they said: the one room that knows torch and the label room
    "acquisition": TOOLS | {"label"},
    "inputs": TOOLS | {"label", "worlds"},
    "judge_choice": TOOLS | {"evaluate", "inputs", "worlds"},
    "ahead": TOOLS | STAGES | {"label", "inputs", "judge_choice", "worlds"},
    "counting": TOOLS | STAGES | {"plan", "inputs", "ahead"},
    "staging": {"config", "run"},
    "summary": {"run"},
    "pipeline": TOOLS
    | STAGES
    | {"report", "plan", "worlds"}
    | {"inputs", "judge_choice", "summary", "ahead", "staging", "counting"},
    "cli": TOOLS
    | STAGES
    | {"label", "report", "playground", "plan", "pipeline", ""}
    | {"cli_label", "cli_recipes", "commands"},
    "commands": set(),
    "cli_label": {"commands", "acquisition", "label", "playground"},
    "cli_recipes": {"commands", "config"},
    "__main__": {"cli"},  # python -m alignloop
    "": {"pipeline", "records"},  # the package itself, for its lazy public names
}
# what may load before a stage does
ALWAYS_THERE = {"config", "errors", "extras", "records", "measures", "run", "judging", "worlds"}
ALWAYS_THERE |= {"inputs", "cli_label", "cli_recipes", "judge_choice", "staging", "commands", ""}


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


def parts_of(module: str) -> list[str]:
    """A module below its folders: of `alignloop.a.b` the folder `alignloop`, then `alignloop.a`."""
    words = module.split(".")
    return [".".join(words[:depth]) for depth in range(1, len(words) + 1)]


def edges_by_folder(found: Iterable[Import]) -> dict[str, dict[str, set[str]]]:
    """For each folder: which of the files and folders directly in it imports which other one.

    A folder's own `__init__` is one of its files.
    """
    edges: dict[str, dict[str, set[str]]] = {}
    for one in found:
        mine, other = parts_of(one.importer), parts_of(one.imported)
        shared = sum(a == b for a, b in zip(mine, other, strict=False))
        folder, end = mine[shared - 1], f"{mine[shared - 1]}.__init__"
        importer, imported = (part[shared] if part[shared:] else end for part in (mine, other))
        if importer != imported:
            edges.setdefault(folder, {}).setdefault(importer, set()).add(imported)
    return edges


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    """The first cycle found, from a node back to itself; [] if there is none."""
    done: set[str] = set()

    def visit(node: str, path: tuple[str, ...]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for following in sorted(edges.get(node, set())):
                if found := visit(following, (*path, node)):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, ()))), [])


def test_no_cycle_in_any_folder() -> None:
    """Neither between rooms, nor between the folders or files of one room at any depth."""
    cycles = {folder: cycle_in(edges) for folder, edges in edges_by_folder(ours()).items()}
    assert {"alignloop", "alignloop.label", "alignloop.label.store"} <= set(cycles)
    assert not any(cycles.values()), [" -> ".join(found) for found in cycles.values() if found]


def test_the_search_for_cycles_finds_one_between_folders() -> None:
    pairs = [("a.web.app", "a.pages.i18n"), ("a.pages.lead", "a.web.guards"), ("a.x", "a.web")]
    found = [
        Import(importer=one, imported=other, line=1, lazy=False, for_types=False)
        for one, other in pairs
    ]
    assert cycle_in(edges_by_folder(found)["a"]) == ["a.pages", "a.web", "a.pages"]
    assert cycle_in(edges_by_folder([found[0], found[2]])["a"]) == []


@pytest.mark.parametrize("room", ["label", "acquisition"])
def test_only_the_store_speaks_sql(room: str) -> None:
    found = [o for o in imports() if o.imported.split(".")[0] in {"sqlalchemy", "alembic"}]
    assert len(found) > 10
    mine = [o for o in found if room_of(o.importer) == room]
    assert not show(o for o in mine if not o.importer.startswith("alignloop.label.store."))


def test_training_reads_labels_without_quality_pages_or_exports() -> None:
    door = reached("alignloop.label.training_pairs")
    assert "alignloop.label.labels.pairs" in door
    assert not [m for m in door if m.startswith(("alignloop.label.quality", "alignloop.label.e"))]


def test_the_label_room_has_one_class_of_each_name() -> None:
    """Counted over the room itself and the rooms that it may import."""
    homes: dict[str, list[str]] = {}
    for module, tree in modules().items():
        if room_of(module) in MAY_IMPORT["label"] | {"label"}:
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(room_of(module))
    assert len(homes) > 100
    assert not [name for name, rooms in homes.items() if len(rooms) > 1 and "label" in rooms]


def test_nobody_imports_the_cli() -> None:
    found = [one for one in ours() if room_of(one.imported) == "cli"]
    assert {one.importer for one in found} <= {"alignloop.__main__"}, show(found)


@pytest.mark.parametrize(
    "room",
    [
        "pipeline",
        "inputs",
        "judge_choice",
        "worlds",
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
    "module",
    [
        "pipeline",
        "inputs",
        "judge_choice",
        "worlds",
        "summary",
        "cli",
        "judging.protocol",
        "judging.registry",
        "judging.of_run",
        "measures",
    ],
)
def test_pipeline_and_cli_load_no_torch_at_the_top(module: str) -> None:
    found = [o for o in imports() if o.importer == f"alignloop.{module}" and not o.lazy]
    eager = {one.imported.split(".")[0] for one in found if not one.for_types}
    assert not eager & {"torch", "transformers", "numpy", "scipy", "matplotlib"}


def test_stats_stands_on_numpy_and_scipy_alone() -> None:
    allowed = {"numpy", "scipy", "alignloop"} | set(sys.stdlib_module_names)
    foreign = [o for o in imports() if room_of(o.importer) == "stats"]
    assert foreign
    assert not show(o for o in foreign if o.imported.split(".")[0] not in allowed)


@pytest.mark.parametrize(
    "room", ["report", "label", "config", "records", "measures", "errors", "stats"]
)
def test_rooms_without_torch_name_no_torch(room: str) -> None:
    heavy = {"torch", "transformers", "safetensors", "tokenizers"}
    found = [o for o in imports() if room_of(o.importer) == room]
    assert not show(o for o in found if o.imported.split(".")[0] in heavy)


def test_nobody_outside_the_parallel_room_asks_for_a_rank() -> None:
    """Nor for the number of processes, a launcher's environment, or torch's collectives."""
    asks = re.compile(
        r"world\.(rank|size)|get_(rank|world_size)|(WORLD_SIZE|LOCAL_RANK|MASTER_ADDR)"
    )
    elsewhere = {name: tree for name, tree in modules().items() if room_of(name) != "parallel"}
    found = [
        f"{name}: {what[0]}"
        for name, tree in elsewhere.items()
        for what in asks.finditer(ast.unparse(tree))
    ]
    found += [
        f"{o.importer}:{o.line}"
        for o in imports()
        if "torch.distributed" in o.imported and room_of(o.importer) != "parallel"
    ]
    assert not found, found


GOLD, DOOR = "alignloop.playground.gold", "alignloop.playground.source"
# Words of the playground's rubric and prompts: no measure, no category and no source of the core.
WORDS = {"playground", "harmful", "lookalike", "howto", "fairness", "wordings", "intents"}
WORDS |= {"helpfulness", "harmful_compliance", "over_refusal", "gold rubric", "validation_gold"}
MEETS = {"playground", "worlds", "cli", "cli_label"}


def test_only_the_playgrounds_door_imports_the_gold_judge() -> None:
    assert GOLD in modules()
    assert {one.importer for one in ours() if one.imported == GOLD} == {DOOR}


def test_no_training_room_reaches_the_gold_judge() -> None:
    tools = {"data", "models", "fastpath", "rollout", "judging", "scoring", "losses", "run"}
    trains = STAGES - {"evaluate"} | tools | {"acquisition"}
    starts = [name for name in modules() if room_of(name) in trains]
    assert len(starts) > 20
    leaks = [reached(start)[GOLD] for start in starts if GOLD in reached(start)]
    assert not leaks
    assert GOLD in reached("alignloop.pipeline")  # the search does find what is there


def test_the_rest_of_the_playground_does_not_reach_the_gold_judge() -> None:
    others = {name for name in modules() if room_of(name) == "playground"} - {GOLD, DOOR}
    parts = ("corpus", "demonstrations", "annotators", "collect", "stage")
    assert {f"alignloop.playground.{part}" for part in parts} <= others
    assert not [reached(start)[GOLD] for start in others if GOLD in reached(start)]


def test_the_core_imports_no_playground() -> None:
    """It sits beside the core, as a world of a user's own would."""
    users = {room_of(one.importer) for one in ours() if room_of(one.imported) == "playground"}
    assert users == MEETS


def strings_of(tree: ast.Module) -> set[str]:
    """Every string in the code, documentation aside."""
    documented = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node not in documented
    }


def test_the_core_does_not_know_the_playgrounds_words() -> None:
    found = {
        (name, word)
        for name, tree in modules().items()
        if room_of(name) not in MEETS
        for word in strings_of(tree) & WORDS
    }
    # other people's files, refusals, and what annotators may say have such words of their own
    own = {"data", "stats", "label", "recipes"}
    assert not {(name, word) for name, word in found if room_of(name) not in own}
    assert "playground" in strings_of(modules()["alignloop.worlds"])  # the search does find them
