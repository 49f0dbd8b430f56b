"""A run's folder with made-up numbers: every file that the report reads."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from alignloop.config import Recipe, to_toml
from alignloop.measures import OF_ANSWERS, score_by
from alignloop.playground.gold import MEASURES
from alignloop.report import write_report

JUDGE = "judge reward model"
ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'
CATEGORIES = (
    "explain",
    "fairness",
    "feeling",
    "harmful",
    "howto",
    "lookalike",
    "resources",
    "tips",
)
QUESTIONS = {"en": "Could you tell me about {}, please?", "zh": "可以给我讲讲“{}”吗？"}


def estimate(value: float, half: float = 0.04, n: int = 300) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def prompt(category: str, language: str, number: int = 0) -> dict[str, Any]:
    text = QUESTIONS[language].format(f"{category} {number}")
    return {
        "prompt_id": f"{language}/{category}/{number}",
        "messages": [{"role": "user", "content": text}],
        "source": "made up",
        "category": category,
        "language": language,
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def sft_metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 121):
        row = {"stage": "sft", "step": step, "time": 0.0, "loss": 2.5 * math.exp(-step / 40) + 0.4}
        row["loss"] += 0.1 * math.sin(step * 2.3)
        if step % 20 == 0:
            row["held_out_perplexity"] = math.exp(row["loss"])
        rows.append(row)
    return rows


def reward_metrics() -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "step": step,
            "time": 0.0,
            "accuracy": 0.78 - 0.28 * math.exp(-step / 15) + 0.05 * math.sin(step * 1.7),
            "loss": 0.5,
        }
        for stage in ("reward", "reward_held_out")
        for step in range(1, 61)
    ]


def rl_metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(0, 201):
        noise, kl = math.sin(step * 1.9), 0.16 * step
        row: dict[str, Any] = {"stage": "rl", "step": step, "time": 0.0}
        if step:
            row |= {
                "score": -0.5 + 3 * (1 - math.exp(-step / 60)) + 0.2 * noise,
                "kl": kl + 0.6 * noise,
                "entropy": 1.8 * math.exp(-step / 150) + 0.05 * noise,
                "approx_kl": 0.01 + 0.003 * noise,
                "clip_fraction": 0.1 + 0.03 * noise,
                "ratio": 1.0,
                "value_loss": 0.4 * math.exp(-step / 50) + 0.1,
                "explained_variance": 0.8 - 0.7 * math.exp(-step / 40),
                "response_length": 40 + 0.12 * step + 2 * noise,
                "eos_rate": 0.9 + 0.08 * (1 - math.exp(-step / 30)),
                "repetition": 0.03,
                "policy_gradient_norm": 0.7,
                "tokens_per_second": 5200 + 200 * noise,
                "rollout_seconds": 1.2,
                "scoring_seconds": 0.3,
                "update_seconds": 0.9,
            }
        if step % 20 == 0:
            d = math.sqrt(kl)
            row |= {
                "validation_score": -0.5 + 0.6 * d,
                "validation_held_out_score": -0.4 + 0.5 * d - 0.02 * d**2,
                "validation_gold": 0.4 + (d * (0.20 - 0.1 * math.log(d)) if d else 0.0),
                "validation_kl": kl,
                "validation_length": 40 + 0.12 * step,
                "validation_eos_rate": 0.95,
            }
        rows.append(row)
    return rows


def metrics_of(helpful: float, harm: float | None, refusal: float | None) -> dict[str, Any]:
    return {
        "helpfulness": estimate(helpful),
        "satisfaction": estimate(helpful - 0.05),
        "harmful_compliance": None if harm is None else estimate(harm, 0.03, 60),
        "over_refusal": None if refusal is None else estimate(refusal, 0.03, 60),
        "fairness": estimate(0.9, 0.05),
        "judge_score": estimate(helpful),
        "length": estimate(40 + 40 * helpful, 2),
        "distinct_2": estimate(0.7),
        "eos_rate": estimate(0.95, 0.02),
        "repetition": estimate(0.04, 0.02),
    }


def results() -> dict[str, Any]:
    both = {"sft": metrics_of(0.42, 0.41, 0.08), "policy": metrics_of(0.78, 0.06, 0.09)}
    slices = {
        name: {
            "sft": metrics_of(0.3 + 0.03 * i, 0.41 if name == "harmful" else None, None),
            "policy": metrics_of(0.6 + 0.03 * i, 0.06 if name == "harmful" else None, None),
        }
        for i, name in enumerate(CATEGORIES)
    }
    wins = {
        "overall": estimate(0.81, 0.04),
        "by_category": {name: estimate(0.7, 0.1) for name in CATEGORIES},
        "by_language": {"en": estimate(0.82), "zh": estimate(0.79)},
    }
    part = {"overall": both, "by_category": slices, "by_language": {"en": both, "zh": both}}
    return {
        "measures": [measure.plain() for measure in (*MEASURES, score_by(JUDGE), *OF_ANSWERS)],
        "set_names": {
            "wordings": ["New wordings of known requests", "新的问法"],
            "intents": ["Requests never seen in training", "全新的请求"],
        },
        "sets": {"wordings": part, "intents": part},
        "win_rate": {"wordings": wins, "intents": wins},
        "length_controlled_win_rate": {"wordings": estimate(0.74), "intents": estimate(0.71)},
        "sign_test_p": 3.2e-12,
        "judge_facts": {
            "name": JUDGE,
            "kind": "reward_model",
            "climbed": False,
            "chose_checkpoint": False,
            "card": report_card(),
        },
        "overlap": {
            "sets": {"wordings": {"n": 300, "seen": 3, "where": {"rl.prompts": 3}}},
            "looked_at": {"rl.prompts": 1000},
        },
        "verdict": {
            "mood": "better",
            "english": "RLHF made the answers better, by the made-up judge.",
            "chinese": "RLHF 让回答变得更好（评判：虚构）。",
            "findings": [
                {
                    "key": "prompts_seen",
                    "weight": "note",
                    "english": f"3 of 300 prompts were trained on {ATTACK}",
                    "chinese": "300 个提示中有 3 个参与过训练",
                }
            ],
        },
    }


def report_card() -> dict[str, Any]:
    bins = [0.05 + 0.1 * i for i in range(10)]
    return {
        "accuracy": estimate(0.764, 0.02, 1800),
        "ceiling": 0.85,
        "raw_agreement": 0.752,
        "longer_wins": estimate(0.561, 0.02, 1800),
        "ece": 0.031,
        "brier": 0.164,
        "log_loss": 0.497,
        "temperature": 1.31,
        "length_correlation": 0.22,
        "accuracy_where_shorter_is_better": 0.69,
        "num_pairs": 1800,
        "labels": {"learnt": 3600, "tested": 1800, "all": 5400, "shared_with_climbed": 1800},
        "reliability": [
            {"mean_probability": p, "frequency": p + 0.05 * math.sin(9 * p), "count": 180}
            for p in bins
        ],
        "by_slice": {
            "category": {name: estimate(0.7 + 0.01 * i) for i, name in enumerate(CATEGORIES)},
            "language": {"en": estimate(0.77), "zh": estimate(0.75)},
        },
        "verdict": {"ready": True, "reasons": ["it beats the longer-wins baseline by 20 points"]},
    }


def answer(text: str, score: float | None, **more: Any) -> dict[str, Any]:
    judged: dict[str, Any] = {
        "response": text,
        "score": score,
        "rating": None if score is None else 1 + round(4 * score),
        "marks": {},
        "reasons": [] if score is None else ["names two points", "no resource given"],
        "num_tokens": 40,
        "finish_reason": "eos",
    }
    return judged | more


def answers() -> list[dict[str, Any]]:
    good = {"en": "Gravity pulls things together. " * 5, "zh": "重力让物体相互吸引。" * 6}
    return [
        {
            "set": ("wordings", "intents")[number % 2],
            "prompt": prompt(category, language, number),
            "sft": answer(ATTACK, 0.3, finish_reason="length", marks={"over_refusal": 1.0}),
            "policy": answer(good[language], 0.9),
        }
        for category in CATEGORIES
        for language in ("en", "zh")
        for number in range(4)
    ]


def samples() -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt(category, language),
            "response": f"answer at step {step} {ATTACK}",
            "finish_reason": "eos",
            "num_tokens": 12,
            "stage": "rl",
            "step": step,
            "score": step / 100,
        }
        for step in (0, 100, 200)
        for category in CATEGORIES[:4]
        for language in ("en", "zh")
    ]


def write_run(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    recipe = Recipe.model_validate({"name": "made-up", "rl": {"num_steps": 7}})
    (path / "config.toml").write_text(to_toml(recipe), encoding="utf-8")
    write_lines(path / "metrics.jsonl", sft_metrics() + reward_metrics() + rl_metrics())
    write_lines(path / "samples.jsonl", samples())
    observer = {"name": "gold rubric", "metric": "validation_gold"}
    write_json(path / "rl" / "observer.json", observer)
    facts: dict[str, dict[str, Any]] = {
        "sft": {"seconds": 95.2},
        "reward": {"seconds": 141.0},
        "rl": {
            "seconds": 603.4,
            "steps": 200,
            "stopped_because": "all steps done",
            "best_step": 120,
            "kl": 32.0,  # the last step's; at the kept one it was 19.2
        },
        "evaluate": {"seconds": 58.0},
    }
    for stage, content in facts.items():
        done = {"finished_at": "2025-03-04T05:06:07+00:00", "facts": content}
        write_json(path / stage / "done.json", done)
    write_json(path / "reward" / "report_card.json", report_card())
    write_json(path / "evaluate" / "results.json", results())
    write_lines(path / "evaluate" / "answers.jsonl", answers())
    entry = {
        "recorded_at": "2025-03-04T05:06:07+00:00",
        "inputs": {"pairs.jsonl": "ab" * 32},
        "outputs": {"sft/model": "cd" * 32},
        "versions": {"python": "3.11.2", "torch": "2.6.0"},
    }
    write_json(path / "lineage.json", dict.fromkeys(facts, entry))
    return path


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return write_run(tmp_path / "made-up")


@pytest.fixture(scope="session")
def finished_html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a finished run, written once for the tests that only read it."""
    path = write_run(tmp_path_factory.mktemp("finished") / "made-up")
    return write_report(path).read_text(encoding="utf-8")
