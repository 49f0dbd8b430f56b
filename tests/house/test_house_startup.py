"""What loads when: an import or `--help` brings no torch, and is there at once."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = (
    "{'torch', 'transformers', 'tokenizers', 'safetensors', 'datasets', 'pyarrow', 'datasketch',"
    " 'pandas'}"
)
HEAVIER_THAN_NOTHING = (
    "{'torch', 'transformers', 'pydantic', 'numpy', 'scipy', 'matplotlib', 'datasets', 'pyarrow'}"
)
HELP_SECONDS = 0.5
LABEL = ["alignloop.label"] if (SOURCE / "alignloop" / "label").is_dir() else []


def loaded(statement: str, names: str) -> str:
    """Which of the modules in `names` (a set, as source) are loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(sorted({names} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    return found.stdout.strip()


def environment() -> dict[str, str]:
    """Enough to find the package, installed or not; nothing of the developer's settings."""
    return {"PYTHONPATH": str(SOURCE), "PATH": "", "COLUMNS": "100"}


def test_the_probe_sees_a_loaded_module() -> None:
    assert loaded("import numpy", "{'numpy'}") == "['numpy']"


@pytest.mark.parametrize("module", ["alignloop", "alignloop.cli"])
def test_importing_the_package_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}", HEAVIER_THAN_NOTHING) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "alignloop.records",
        "alignloop.config",
        "alignloop.data",
        "alignloop.run",
        "alignloop.stats",
        "alignloop.pipeline",
        "alignloop.report",
        "alignloop.playground.gold",
        "alignloop.playground.annotators",
        *LABEL,
    ],
)
def test_rooms_without_models_load_no_torch(module: str) -> None:
    assert loaded(f"import {module}", HEAVY) == "[]"


def test_the_public_names_load_on_first_use() -> None:
    assert loaded("import alignloop; alignloop.Prompt; alignloop.Pipeline", HEAVY) == "[]"


def test_help_is_there_at_once() -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        command = [sys.executable, "-m", "alignloop.cli", "--help"]
        shown = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment()
        )
        seconds.append(time.perf_counter() - began)
        assert "evaluate" in shown.stdout
    assert min(seconds) < HELP_SECONDS, seconds


@pytest.mark.parametrize("command", ["run", "plan", "sft", "evaluate"])
def test_a_recipe_that_is_not_there_is_refused_before_torch_loads(command: str) -> None:
    asked = (
        f"import alignloop.cli as c\ntry: c.main(['{command}', 'nowhere'])\nexcept SystemExit: pass"
    )
    assert loaded(asked, HEAVY) == "[]"
