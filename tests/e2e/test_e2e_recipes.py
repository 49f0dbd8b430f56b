"""The recipes for real machines, each run for a step of every stage on a tiny model."""

from pathlib import Path
from typing import Any

import pytest

from alignloop.config import load_recipe

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[2] / "recipes"
REAL = ("laptop-0.5b", "24gb-7b-lora", "80gb-14b-lora", "80gb-7b-full")
# What a model with a context of 160 tokens and a test of seconds cannot have as it is.
SMALLER = """
model.device=cpu num_threads=1
sft.max_tokens=128 sft.max_steps=1 sft.batch_size=4
reward.max_tokens=128 reward.max_steps=1 reward.batch_size=4
rl.max_prompt_tokens=64 rl.sampling.max_new_tokens=8 rl.num_steps=1 rl.batch_size=4
rl.validation_size=2 evaluate.max_prompts=2 evaluate.sampling.max_new_tokens=8
"""


@pytest.mark.parametrize("name", REAL)
def test_a_recipe_runs_with_its_model_swapped_for_a_tiny_one(
    name: str, tiny: Any, tmp_path: Path, call: Any
) -> None:
    changes = [f"--{setting}" for setting in SMALLER.split()]
    changes += [f"--model.path={tiny.model}"]
    for setting, file in (
        ("sft.demonstrations", "demonstrations"),
        ("reward.pairs", "pairs"),
        ("dpo.pairs", "pairs"),
        ("rl.prompts", "prompts"),
        ("evaluate.prompts", "prompts"),
    ):
        changes.append(f"--{setting}={tiny.folder / file}.jsonl")
    run = tmp_path / name
    ended = call(["run", str(RECIPES / name), "--folder", str(run), *changes])
    assert ended.code == 0, ended.err
    adapts = load_recipe(RECIPES / name).lora.on
    assert (run / "rl/model/adapter_config.json").exists() is adapts
    assert (run / "rl/model/model.safetensors").exists() is not adapts
    assert (run / "report.html").is_file()
