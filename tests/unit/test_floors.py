"""What `make oldest` installs: each dependency at the lowest version that pyproject.toml allows."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUN = ("torch", "transformers", "peft", "datasets", "pydantic")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("floors", ROOT / "tests/floors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_floors_of_requirements(script: Any) -> None:
    text = """
        [project]
        name = "mine"
        dependencies = ["torch>=2.13,<2.14"]
        [project.optional-dependencies]
        page = ["python-multipart>=0.0.20", "nh3>=0.3"]
        all = ["mine[page]", "nh3>=0.3"]
        dev = ["pytest>=8.4"]
    """
    assert script.floors(text) == ["torch==2.13", "python-multipart==0.0.20", "nh3==0.3"]
    with pytest.raises(AssertionError, match="numpy has no floor"):
        script.floors(text.replace("torch>=2.13,<2.14", "numpy"))


def test_the_pinned_versions_lie_within_floor_and_ceiling() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name.lower(): version for name, version in (line.split("==") for line in lines)}
    extras = project["optional-dependencies"].items()
    named = [text for name, texts in extras if name not in ("all", "dev") for text in texts]
    for text in (*project["dependencies"], *named):
        if text.startswith("alignloop["):
            continue
        wanted = packaging.Requirement(text)
        assert pinned[wanted.name.lower()] in wanted.specifier, text
        operators = {part.operator for part in wanted.specifier}
        assert operators == ({">=", "<"} if wanted.name in RUN else {">="}), text
