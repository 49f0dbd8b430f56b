"""The example notebook runs from its first cell to its last, and lies here without outputs."""

import json
from pathlib import Path
from typing import Any

import pytest
from label_support import missing

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_loop.ipynb"


def test_its_outputs_are_not_kept() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]]
    assert not [cell["id"] for cell in cells if cell["metadata"]]


@pytest.mark.slow
# nbclient's own event loop and sockets
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import ipykernel  # noqa: F401
        import nbformat
        from nbclient import NotebookClient
    except ImportError:
        missing("nbclient or ipykernel", "make install")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1] / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    said = "".join(
        output["text"]
        for cell in notebook.cells
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if output.get("name") == "stdout"
    )
    assert "step 4: score" in said
    assert "PPO's answer wins" in said
    assert (tmp_path / "runs/first-loop/evaluate/results.json").is_file()
