"""Same seed, same numbers: a refactoring changes none of the curves stored in curves.json.

Where a number is meant to change, write them anew and say why in the commit:

    PYTHONPATH=src python tests/golden/test_golden_curves.py
"""

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from alignloop.pipeline import Pipeline

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
STORED = HERE / "curves.json"

RECIPE = """\
name = "golden"
seed = 7
num_threads = 1

[model]
path = "{folder}/model"

[sft]
learning_rate = 3e-3
batch_size = 16
micro_batch_tokens = 1024
max_steps = 8
eval_every = 4

[playground]
num_prompts = 96
responses_per_prompt = 2
pairs_per_prompt = 1
sampling.max_new_tokens = 16

[reward]
learning_rate = 1e-3
batch_size = 8
max_steps = 3
labels = "shares"

[rl]
learning_rate = 1e-3
batch_size = 8
num_steps = 3
validation_size = 8
eval_every = 2
missing_eos = "subtract"
sampling.max_new_tokens = 16

[rl.algorithm]
num_epochs = 2
num_minibatches = 2

[evaluate]
max_prompts = 8
sampling.max_new_tokens = 16
"""


def run_all_stages(folder: Path) -> dict[str, dict[str, float]]:
    """Every number of metrics.jsonl as {"sft/1": {"loss": ...}}, clocks left out, and the judge's.

    The model is untrained and its tokenizer is made from the playground's demonstrations, so that
    the base model in the package may be made anew without touching these curves.
    """
    from alignloop.playground.export import export

    demonstrations = export(folder / "world", 7)[-1]
    _maker().make_model([demonstrations], folder / "model", vocab_size=600, context=640)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder.as_posix()), encoding="utf-8")
    pipeline = Pipeline(recipe, folder / "run")
    pipeline.run()
    curves: dict[str, dict[str, float]] = {}
    for text in (folder / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        place = f"{line.pop('stage')}/{line.pop('step')}"
        curves[place] = {k: v for k, v in line.items() if k != "time" and "second" not in k}
    summary = json.loads((folder / "run/summary.json").read_text(encoding="utf-8"))
    curves["reward/card"] = _numbers(summary["reward"])
    for name, measured in summary["evaluate"].items():
        curves[f"evaluate/{name}"] = _numbers(measured)
    return curves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of this module goes."""
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def curves(folder: Path) -> dict[str, dict[str, float]]:
    """The numbers of one run."""
    return run_all_stages(folder)


def test_the_curves_are_those_stored(curves: dict[str, dict[str, float]]) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert curves.keys() == stored.keys()
    for place, numbers in stored.items():
        # rel: other processors add up in another order. abs: for what is zero but for rounding.
        assert curves[place] == pytest.approx(numbers, rel=1e-4, abs=1e-6), place


def test_a_second_run_gives_the_same_numbers(
    curves: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    assert run_all_stages(tmp_path) == curves


@pytest.mark.usefixtures("curves")
def test_the_comparisons_have_their_lineage(folder: Path) -> None:
    lineage = json.loads((folder / "run/lineage.json").read_text(encoding="utf-8"))
    assert lineage["comparisons"]["inputs"] == lineage["sft"]["outputs"]
    files = lineage["comparisons"]["outputs"]
    assert {Path(name).name for name in files} == {
        "comparisons.jsonl", "judgements.jsonl", "pairs.jsonl"
    }  # fmt: skip
    assert (
        lineage["reward"]["inputs"].items()
        >= {name: digest for name, digest in files.items() if name.endswith("pairs.jsonl")}.items()
    )


def _numbers(measured: Any, prefix: str = "") -> dict[str, float]:
    """Nested numbers as {"sft.length": ...}."""
    found: dict[str, float] = {}
    pairs = measured.items() if isinstance(measured, dict) else enumerate(measured)
    for key, value in pairs:
        name = f"{prefix}{key}"
        if isinstance(value, dict | list):
            found |= _numbers(value, f"{name}.")
        elif value is not None:
            found[name] = value
    return found


def _maker() -> Any:
    path = HERE.parents[1] / "recipes/real-small/make_model.py"
    spec = importlib.util.spec_from_file_location("make_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        text = json.dumps(run_all_stages(Path(scratch)), indent=1, sort_keys=True)
    STORED.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {STORED}", file=sys.stderr)
