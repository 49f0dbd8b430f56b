"""Tries the wheel as a stranger does: in an empty folder, with the core's packages alone.

PYTHON tests/wheel.py, where PYTHON is of an environment that holds the wheel without any extra.
Runs every stage of the playground's recipe, with few steps.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FEW = """
num_threads=1 sft.max_steps=2 sft.eval_every=0
comparisons.num_prompts=160 comparisons.responses_per_prompt=2
comparisons.sampling.max_new_tokens=16
reward.batch_size=16 reward.max_steps=2
rl.num_steps=2 rl.batch_size=8 rl.validation_size=4 rl.sampling.max_new_tokens=16
evaluate.max_prompts=6 evaluate.sampling.max_new_tokens=16
"""
ALIGNLOOP = Path(sys.executable).parent / "alignloop"
REPORT = "report.html needs matplotlib, which is not installed. What to do: pip install"


def call(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    """Run `alignloop` in the folder, see how it ends, and return what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [ALIGNLOOP, *words], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, (words, ended.returncode, ended.stderr[-3000:])
    print(f"alignloop {words[0]}: exit code {code}, as it should be", flush=True)
    return ended.stdout, ended.stderr


def main() -> None:
    """Assert what the wheel promises; ends with a traceback where it breaks that."""
    assert importlib.util.find_spec("matplotlib") is None, "this is to run without the extras"
    package = Path(str(importlib.util.find_spec("alignloop").origin)).parent  # type: ignore[union-attr]
    assert "site-packages" in package.parts, f"not the wheel's: {package}"
    assert (package / "py.typed").is_file()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert "recipes" in call(folder, "--help")[0]
        assert "playground" in call(folder, "recipes")[0]
        call(folder, "recipes", "copy", "playground", "mine")
        kept = {file.name for file in (folder / "mine").iterdir()}
        assert {"recipe.toml", "README.md"} <= kept, kept
        settings = [f"--{setting}" for setting in FEW.split()]
        out, err = call(folder, "run", "playground", *settings)
        assert out.splitlines()[-1].endswith("runs/playground/summary.json"), out
        assert err.count(REPORT) == 2 and "alignloop[tensorboard]" in err, err
        assert json.loads((folder / "runs/playground/summary.json").read_text())
        assert (folder / "runs/playground/rl/model/config.json").is_file()
        assert REPORT in call(folder, "report", "mine", "--folder", "runs/playground", code=2)[1]
        page = call(folder, "label", "serve", code=2)[1]
        assert "the annotation page needs" in page and "pip install 'alignloop[label]'" in page
    print("the wheel works in an empty folder")


if __name__ == "__main__":
    main()
