"""Tables: how numbers are written, what counts as better, which answers are shown."""

import math
from collections import Counter
from typing import Any

import pytest

from alignloop.config import Recipe
from alignloop.measures import OF_ANSWERS
from alignloop.playground.gold import MEASURES
from alignloop.records import Message, Prompt, Sample
from alignloop.report.tables import (
    Change,
    answer_of,
    card_rows,
    choose_balanced,
    estimate_of,
    evaluation_sets,
    setting_tables,
    training_samples,
    write_duration,
    write_interval,
    write_number,
    write_time,
)
from alignloop.stats.intervals import Estimate

BY_KEY = {measure.key: measure for measure in (*MEASURES, *OF_ANSWERS)}


def between(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=10)


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.2534, "percent", "25.3 %"),
        (0.2534, "score", "0.25"),
        (0.2534, "plain", "0.253"),
        (1234.5, "plain", "1234"),
        (0.0, "percent", "0.0 %"),
    ],
)
def test_numbers(value: float, style: str, text: str) -> None:
    assert write_number(value, style) == text


def test_intervals() -> None:
    assert write_interval(between(0.314, 0.386), "percent") == "31–39 %"
    assert write_interval(between(0.314, 0.386), "score") == "0.31–0.39"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text


def test_times() -> None:
    assert write_time("2025-03-04T05:06:07+00:00") == "2025-03-04 05:06 UTC"
    assert write_time("yesterday") == "yesterday"


def test_an_estimate_may_be_absent_nested_or_without_its_interval() -> None:
    node = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 7}
    assert estimate_of({"overall": node}) == estimate_of(node)
    assert estimate_of({"value": 1}) == Estimate(value=1.0, low=-math.inf, high=math.inf, n=0)
    assert estimate_of(None) is None
    assert estimate_of({"value": None, "n": 0}) is None


@pytest.mark.parametrize(
    ("key", "sft", "policy", "trend"),
    [
        ("helpfulness", (0.1, 0.3), (0.31, 0.5), "better"),
        ("helpfulness", (0.31, 0.5), (0.1, 0.3), "worse"),
        ("helpfulness", (0.1, 0.3), (0.3, 0.5), ""),
        ("harmful_compliance", (0.1, 0.3), (0.31, 0.5), "worse"),
        ("harmful_compliance", (0.31, 0.5), (0.1, 0.3), "better"),
        ("length", (10, 20), (30, 40), ""),
    ],
)
def test_a_trend_needs_intervals_apart(
    key: str, sft: tuple[float, float], policy: tuple[float, float], trend: str
) -> None:
    change = Change(measure=BY_KEY[key], sft=between(*sft), policy=between(*policy))
    assert change.trend == trend


def test_one_side_alone_has_no_trend() -> None:
    change = Change(measure=BY_KEY["helpfulness"], sft=None, policy=between(0.1, 0.2))
    assert change.trend == "" and change.known and change.on_unit_scale


def test_columns_that_no_slice_fills_are_left_out() -> None:
    node = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 7}
    helpful = {"helpfulness": node, "over_refusal": None}
    harmful = {"helpfulness": node, "harmful_compliance": node}
    results: dict[str, Any] = {
        "measures": [measure.plain() for measure in MEASURES],
        "sets": {
            "wordings": {
                "overall": {"sft": harmful, "policy": harmful},
                "by_category": {
                    "explain": {"sft": helpful, "policy": helpful},
                    "harmful": {"sft": harmful, "policy": harmful},
                },
            }
        },
        "win_rate": {"wordings": {"overall": node, "by_category": {"harmful": node}}},
        "length_controlled_win_rate": {"wordings": {"overall": node}},
        "sign_test_p": {"wordings": 0.02},
    }
    (found,) = evaluation_sets(results)
    assert [column.key for column in found.columns] == ["helpfulness", "harmful_compliance"]
    assert [[c.known for c in row.changes] for row in found.rows] == [[True, False], [True, True]]
    assert [row.win_rate is not None for row in found.rows] == [False, True]
    assert found.length_controlled == found.win_rate == estimate_of(node)
    assert found.sign_test_p == 0.02


def test_the_card_writes_what_it_has() -> None:
    card = {
        "accuracy": {"value": 0.764, "low": 0.74, "high": 0.78, "n": 1800},
        "ece": None,
        "num_pairs": 1800,
        "best_of_n": {"4": 0.6},
    }
    assert [(row.english, row.value) for row in card_rows(card)] == [
        ("Accuracy on held-out pairs", "76.4 % (74–78 %)"),
        ("Pairs tested", "1,800"),
    ]


def test_settings_that_differ_from_the_defaults_are_marked() -> None:
    recipe = Recipe.model_validate({"seed": 5}).model_dump(mode="json")
    recipe["num_threads"] = "none"  # as the TOML file writes None
    tables = setting_tables(recipe)
    changed = [(name, s.name) for name, rows in tables.items() for s in rows if s.changed]
    assert changed == [("run", "seed")]
    assert [s.value for s in tables["rl.algorithm"] if s.name == "kl_coef"] == ["0.1"]


def test_settings_are_compared_with_those_of_the_chosen_algorithm() -> None:
    """GRPO's own defaults are no change; that it is GRPO is one."""
    recipe = {"rl": {"algorithm": {"name": "grpo", "group_size": 4}}}
    tables = setting_tables(Recipe.model_validate(recipe).model_dump(mode="json"))
    changed = [s.name for rows in tables.values() for s in rows if s.changed]
    assert changed == ["name", "group_size"]


def test_a_choice_is_balanced_and_always_the_same() -> None:
    rows = [("a", "en", i) for i in range(90)] + [("b", "en", i) for i in range(5)]
    rows += [("b", "zh", i) for i in range(2)]
    chosen = choose_balanced(rows, 9, lambda row: row[:2])
    assert Counter(row[:2] for row in chosen) in (
        {("a", "en"): 4, ("b", "en"): 3, ("b", "zh"): 2},
        {("a", "en"): 3, ("b", "en"): 4, ("b", "zh"): 2},
    )
    assert chosen == choose_balanced(rows, 9, lambda row: row[:2])
    assert len(set(chosen)) == 9
    assert sorted(choose_balanced(rows, 1000, lambda row: row[:2])) == sorted(rows)


def test_badges_of_an_answer() -> None:
    answer = answer_of(
        {
            "response": "no",
            "score": 0.25,
            "rating": 2,
            "marks": {"harmful_compliance": 0.0, "over_refusal": 1.0, "fairness": 0.0},
            "reasons": ["short"],
            "finish_reason": "length",
        },
        MEASURES,
    )
    assert answer.score == 0.25 and answer.reasons == ("short",)
    assert answer.badges == ("2/5", "refused · 拒绝", "unfair · 不公平", "cut off · 截断")


def test_training_samples_follow_the_steps() -> None:
    def sample(name: str, step: int, stage: str = "rl") -> Sample:
        prompt = Prompt(
            prompt_id=name, messages=(Message(role="user", content="?"),), category=name
        )
        return Sample(
            prompt=prompt, response="!", finish_reason="eos", num_tokens=1, stage=stage, step=step
        )

    samples = [sample("a", 20), sample("b", 0), sample("a", 0), sample("c", 0, "sft")]
    found = training_samples(samples)
    assert [[(s.prompt.prompt_id, s.step) for s in group] for group in found] == [
        [("a", 0), ("a", 20)],
        [("b", 0)],
    ]


def test_each_criterion_of_a_card_has_a_row() -> None:
    correlation = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    card = {
        "criteria": {
            "helpful": {"correlation": correlation, "num": 60, "weight": 0.6},
            "correct": {"correlation": None, "num": 0, "weight": 0.4},
        }
    }
    first, second = card_rows(card)
    assert first.english == "Correlation with scores: helpful"
    assert all(number in first.value for number in ("0.8", "0.7", "0.9"))
    assert "60 held-out scores; weight 0.6" in first.note
    assert second.value == "–"
