"""The base model in the package: what it says of itself is true, and its build can be repeated."""

import hashlib
import json
from pathlib import Path

import pytest

from alignloop.playground import BASE_MODEL
from alignloop.playground.base import BaseRecipe, build_base

RECORDED = json.loads((BASE_MODEL / "base.json").read_text(encoding="utf-8"))
STEPS = 21  # enough for the losses of steps 0 and 20; the whole build takes some 15 minutes


def test_the_weights_are_those_that_were_recorded_and_small_enough() -> None:
    weights = (BASE_MODEL / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == RECORDED["sha256"]
    assert sum(file.stat().st_size for file in BASE_MODEL.iterdir()) <= 8 * 1024**2


def test_the_recorded_recipe_is_the_default_one() -> None:
    assert BaseRecipe.model_validate(RECORDED["recipe"]) == BaseRecipe()
    assert RECORDED["tokens_seen"] > 0 and RECORDED["wall_seconds"] > 0


@pytest.mark.slow
def test_building_again_gives_the_recorded_losses(tmp_path: Path) -> None:
    facts = build_base(BaseRecipe(), tmp_path, stop_after=STEPS, say=lambda _: None)
    again = dict(facts["losses"])
    recorded = dict(RECORDED["losses"])
    # Another processor may round otherwise; a changed text or seed moves the loss far more.
    assert again[0] == pytest.approx(recorded[0], rel=1e-3)
    assert again[20] == pytest.approx(recorded[20], rel=1e-3)
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (BASE_MODEL / name).read_bytes()
