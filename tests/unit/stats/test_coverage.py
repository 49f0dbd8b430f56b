"""A small run of benchmarks/coverage.py: what docs/evaluation.md tables, by fewer samples."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[3] / "benchmarks" / "coverage.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


COVERAGE = load()
SMALL = [
    design
    for design in COVERAGE.designs()
    if design.size in ("10 prompts", "20 prompts", "30 units", "7 days")
]


def test_every_kind_of_interval_is_tried() -> None:
    kinds = {design.interval for design in COVERAGE.designs()}
    assert kinds == {
        "share",
        "share, clustered",
        "win rate",
        "mean score in 0..1",
        "mean without bounds",
        "win rate at equal length",
        "Krippendorff's alpha",
        "ability",
        "day of completion",
    }


@pytest.mark.slow
@pytest.mark.parametrize("design", SMALL, ids=lambda one: f"{one.interval}-{one.name}")
def test_nine_of_ten_hold_the_truth(design: object) -> None:
    # of 200 samples at 0.93, fewer than 0.87 come once in a thousand
    found = COVERAGE.measure(design, 200 * design.cost, seed=1)  # type: ignore[attr-defined]
    assert found.covered >= 0.87


@pytest.mark.slow
def test_an_ability_that_nobody_beat_is_covered() -> None:
    name = "(4.0, 0.0, 0.0), pairs"
    (design,) = [
        one
        for one in COVERAGE.designs()
        if (one.interval, one.size, one.name) == ("ability", "40 comparisons", name)
    ]
    assert COVERAGE.measure(design, 40 * design.cost, seed=1).covered >= 0.9


def test_an_interval_that_is_too_narrow_is_caught() -> None:
    narrow = COVERAGE.Design(
        interval="share", size="10", name="", draw=lambda rng: iter([(0.5, rng.random(), 1.0)])
    )
    assert COVERAGE.measure(narrow, 400, seed=0).covered == pytest.approx(0.5, abs=0.1)
