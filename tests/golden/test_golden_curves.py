"""Same seed, same numbers: a refactoring changes none of the curves stored in curves.json.

Other processors add up in another order, so each quantity may differ by FACTOR times what it was
seen to differ by on other kernels and after rounding weights otherwise (spread.json). Bits are
compared on one machine alone: here, and between two builds by compare.py. Where a number is meant
to change, write both files anew and say why in the commit:

    PYTHONPATH=src python tests/golden/spread.py --write
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_run import RECIPE, Curves, run_all_stages
from golden_tolerance import strangers

from alignloop.data.batching import pad_batch
from alignloop.losses import last_true_index

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def read(name: str) -> Any:
    """A file beside this one."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def run(folder: Path, overrides: dict[str, str] | None = None) -> Curves:
    """The numbers of a run, whose draws near an edge fall as in the stored one."""
    return run_all_stages(folder, draws=read("curves.json")["draws"], overrides=overrides).curves


def strange(curves: Curves) -> list[str]:
    """Every number that is not the stored one, in words."""
    return strangers(read("curves.json")["curves"], curves, read("spread.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run of this module goes."""
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def curves(folder: Path) -> Curves:
    """The numbers of one run."""
    return run(folder)


def test_the_curves_are_those_stored(curves: Curves) -> None:
    assert strange(curves) == []


def test_a_second_run_gives_the_same_numbers(curves: Curves, tmp_path: Path) -> None:
    assert run(tmp_path) == curves


@pytest.mark.parametrize("stage", ["sft", "reward", "rl"])
def test_a_thousandth_of_a_learning_rate_shows(stage: str, tmp_path: Path) -> None:
    rate = float(RECIPE.split(f"[{stage}]\nlearning_rate = ")[1].split()[0])
    found = strange(run(tmp_path, {f"{stage}.learning_rate": str(rate * 1.001)}))
    assert [text for text in found if f"{stage}/" in text and "learning_rate" not in text]


@pytest.mark.parametrize(("module", "stage"), [("sft.train", "sft"), ("rollout.batch", "rl")])
def test_one_token_left_out_of_a_mask_shows(
    module: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"alignloop.{module}.pad_batch", without_the_first_rows_end(pad_batch))
    found = strange(run(tmp_path))
    assert [text for text in found if text.startswith(stage)]


def without_the_first_rows_end(pad: Callable[..., Any]) -> Callable[..., Any]:
    """`pad_batch`, but the last token of the first row's response is not one of the response."""

    def wrong(*args: Any) -> dict[str, torch.Tensor]:
        batch = pad(*args)
        mask = batch["response_mask"].clone()
        mask[0, last_true_index(mask)[0]] = False
        return {**batch, "response_mask": mask}

    return wrong


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
