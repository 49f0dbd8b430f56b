"""The model from before SFT stands beside the two that are compared and changes nothing there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import EvaluateConfig, ModelConfig, Recipe
from alignloop.evaluate.compare import Known, compare_policies
from alignloop.evaluate.judges import JudgeFacts
from alignloop.records import Prompt, Verdict
from alignloop.sources import base_to_show


class Lengths:
    """A judge that likes long answers."""

    name = "lengths"

    def judge(self, prompt: Prompt, answer: str, *, finished: bool) -> Verdict:
        return Verdict(score=min(1.0, len(answer) / 100), rating=1 + finished)


KNOWN = Known(judge=JudgeFacts(name="lengths", kind="gold"), rl={}, taught={}, near_duplicate=0.8)


def test_three_columns_and_the_same_two_answers(
    lm_dirs: dict[str, Path], prompts: list[Prompt], stage_run: Callable[..., Any]
) -> None:
    config = EvaluateConfig.model_validate({"sampling": {"max_new_tokens": 6}})
    two = {"sft": lm_dirs["llama"], "policy": lm_dirs["qwen2"]}
    found, rows = [], []
    for name, models in (("two", two), ("three", {**two, "base": lm_dirs["gpt2"]})):
        run = stage_run("evaluate", run=name)
        sets = {"prompts": prompts[:4]}
        model = ModelConfig(path=str(lm_dirs["llama"]))
        found.append(compare_policies(config, model, models, sets, Lengths(), KNOWN, run))
        lines = (run.path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        rows.append([json.loads(line) for line in lines])
    without, beside = found
    assert set(beside["sets"]["prompts"]["overall"]) == {"base", "sft", "policy"}
    for who in two:
        ours = (r["sets"]["prompts"]["overall"][who] for r in found)
        assert next(ours) == next(ours)
    assert without["win_rate"] == beside["win_rate"]
    assert [{k: row[k] for k in ("sft", "policy")} for row in rows[1]] == [
        {k: row[k] for k in ("sft", "policy")} for row in rows[0]
    ]
    assert all(row["base"]["num_tokens"] >= 1 for row in rows[1])


@pytest.mark.parametrize(
    ("settings", "baseline", "shown"),
    [
        ({}, "runs/x/sft/model", None),  # the playground's is nobody's model
        ({"model": {"path": "mine"}}, "runs/x/sft/model", "mine"),
        ({"model": {"path": "mine"}}, "./mine", None),  # it has its column already
        ({"model": {"path": "mine"}, "evaluate": {"base": None}}, "runs/x/sft/model", None),
        ({"evaluate": {"base": "other"}}, "runs/x/sft/model", "other"),
    ],
)
def test_which_model_it_is(settings: dict[str, Any], baseline: str, shown: str | None) -> None:
    found = base_to_show(Recipe.model_validate(settings), Path(baseline))
    assert found == (None if shown is None else Path(shown))
