"""The model from before SFT stands beside the two that are compared and changes nothing there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import EvaluateConfig, ModelConfig, Recipe
from alignloop.errors import UserError
from alignloop.evaluate.compare import Known, compare_policies
from alignloop.inputs import base_to_show
from alignloop.judging.protocol import Answer, JudgeFacts, Rater
from alignloop.measures import Measure, score_by
from alignloop.records import Preference, Prompt, Verdict

VOWELS = Measure(key="vowels", english="Vowels", chinese="元音", unit=False, style="plain")


class Lengths(Rater):
    """A judge that likes long answers and counts their vowels; an answer costs 2."""

    facts = JudgeFacts(
        name="ruler", kind="gold", measures=(VOWELS, score_by("ruler")), cost_unit="cents"
    )
    asked: list[int]

    def __init__(self) -> None:
        self.asked = []

    def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
        self.asked.append(len(answers))
        return [
            Verdict(
                reward=len(one.text),
                score=min(1.0, len(one.text) / 100),
                marks={"vowels": sum(letter in "aeiou" for letter in one.text)},
                cost=2.0,
            )
            for one in answers
        ]


class Coin(Lengths):
    """Sees both answers at once, and prefers whichever is shown first."""

    facts = replace(Lengths.facts, pairwise=True)

    def compare(
        self, prompts: Sequence[Prompt], first: Sequence[Answer], second: Sequence[Answer]
    ) -> list[Preference]:
        return [Preference(first=1.0, cost=5.0) for _ in prompts]


KNOWN = Known(judge=Lengths.facts, rl={}, taught={}, near_duplicate=0.8)


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
        found.append(compare_policies(config, model, models, sets, Lengths, KNOWN, run))
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


def compared(judge: Any, lm_dirs: dict[str, Path], prompts: list[Prompt], run: Any) -> Any:
    """The results of two models on three prompts, as this judge sees them."""
    config = EvaluateConfig.model_validate({"sampling": {"max_new_tokens": 6}})
    two = {"sft": lm_dirs["llama"], "policy": lm_dirs["qwen2"]}
    known = replace(KNOWN, judge=judge.facts)
    model, sets = ModelConfig(path=str(lm_dirs["llama"])), {"prompts": prompts[:3]}
    return compare_policies(config, model, two, sets, lambda: judge, known, run)


def test_measures_and_cost_are_the_judges(
    lm_dirs: dict[str, Path], prompts: list[Prompt], stage_run: Callable[..., Any]
) -> None:
    """A batch per model, 2 cents for each of 6 answers; the names come from the judge alone."""
    judge = Lengths()
    run = stage_run("evaluate")
    found = compared(judge, lm_dirs, prompts, run)
    assert judge.asked == [3, 3]
    assert found["judge_cost"] == {"value": 12.0, "unit": "cents"}
    names = {one["key"]: one["english"] for one in found["measures"]}
    assert names["vowels"] == "Vowels" and names["judge_score"] == "Score by the ruler, 0 to 1"
    assert "helpfulness" not in names and "satisfaction" not in names
    lines = (run.path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    marks = [json.loads(line)["sft"]["marks"]["vowels"] for line in lines]
    assert found["sets"]["prompts"]["overall"]["sft"]["vowels"]["value"] == sum(marks) / 3
    assert found["judge"] == "ruler"


def test_who_sees_both_answers_is_asked_in_both_orders(
    lm_dirs: dict[str, Path], prompts: list[Prompt], stage_run: Callable[..., Any]
) -> None:
    """A judge that always takes the first one knows nothing: 50 %, and not 100."""
    found = compared(Coin(), lm_dirs, prompts, stage_run("evaluate"))
    assert found["win_rate"]["prompts"]["overall"]["value"] == 0.5
    assert found["judge_cost"]["value"] == 6 * 2.0 + 3 * 2 * 5.0


def test_a_judge_without_a_scale_of_0_to_1_is_told(
    lm_dirs: dict[str, Path], prompts: list[Prompt], stage_run: Callable[..., Any]
) -> None:
    class Far(Lengths):
        def rate(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Verdict]:
            return [Verdict(reward=7.0) for _ in answers]

    with pytest.raises(UserError, match="the ruler gave 7, but a judge's scores must lie in"):
        compared(Far(), lm_dirs, prompts, stage_run("evaluate"))


@pytest.mark.parametrize(
    ("settings", "baseline", "shown"),
    [
        (
            {"model": {"path": "playground"}},
            "runs/x/sft/model",
            None,
        ),  # a world's is nobody's model
        ({"model": {"path": "mine"}}, "runs/x/sft/model", "mine"),
        ({"model": {"path": "mine"}}, "./mine", None),  # it has its column already
        ({"model": {"path": "mine"}, "evaluate": {"base": None}}, "runs/x/sft/model", None),
        ({"evaluate": {"base": "other"}}, "runs/x/sft/model", "other"),
    ],
)
def test_which_model_it_is(settings: dict[str, Any], baseline: str, shown: str | None) -> None:
    found = base_to_show(Recipe.model_validate(settings), Path(baseline))
    assert found == (None if shown is None else Path(shown))
