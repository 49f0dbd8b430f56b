"""Figures with intervals from judged answers, by held-out set, category and language."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from alignloop.measures import LENGTH, SCORE, Measure
from alignloop.records import Prompt
from alignloop.stats.intervals import cluster_bootstrap, cluster_share, paired_sign_test
from alignloop.stats.textstats import corpus_distinct_n, distinct_n, repetition
from alignloop.stats.winrate import length_controlled_win_rate, win_rate

DISTINCT_TOKENS = 4000  # the same budget for both models: distinct-n falls with length


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer:
    """One judged answer: one side of a line in answers.jsonl."""

    response: str
    num_tokens: int
    finish_reason: Literal["eos", "length"]
    score: float | None
    rating: int | None = None
    marks: Mapping[str, float] = field(default_factory=dict[str, float])
    reasons: tuple[str, ...] = ()


# Measured from the answer itself; all other measures are the judge's.
_OF_ANSWER: dict[str, Callable[[JudgedAnswer], float | None]] = {
    SCORE: lambda a: a.score,
    LENGTH: lambda a: float(a.num_tokens),
    "eos_rate": lambda a: float(a.finish_reason == "eos"),
    "repetition": lambda a: repetition(a.response),
}


def measured_sets(
    prompts: Sequence[Prompt],
    answers: Mapping[str, Sequence[JudgedAnswer]],
    measures: Sequence[Measure],
    seed: int,
) -> dict[str, Any]:
    """{"overall": {who: figures}, "by_category": {...}, "by_language": {...}}."""
    everything = list(range(len(prompts)))

    def table(rows: Sequence[int]) -> dict[str, Any]:
        return {
            who: figures([prompts[i] for i in rows], [given[i] for i in rows], measures, seed)
            for who, given in answers.items()
        }

    def split(key: Callable[[Prompt], str]) -> dict[str, Any]:
        values = sorted({key(prompt) for prompt in prompts} - {""})
        return {v: table([i for i in everything if key(prompts[i]) == v]) for v in values}

    return {
        "overall": table(everything),
        "by_category": split(lambda prompt: prompt.category),
        "by_language": split(lambda prompt: prompt.language),
    }


def figures(
    prompts: Sequence[Prompt],
    answers: Sequence[JudgedAnswer],
    measures: Sequence[Measure],
    seed: int,
) -> dict[str, Any]:
    """Every measure as {"value", "low", "high", "n"}, or None if no answer counts for it."""
    found: dict[str, Any] = {}
    for measure in measures:
        values = [(p, _value(measure, a)) for p, a in zip(prompts, answers, strict=True)]
        counted = [(p.prompt_id, v) for p, v in values if v is not None]
        found[measure.key] = _estimate(measure, counted, seed) if counted else None
    texts = [answer.response for answer in answers]
    found["distinct_2"] = _bare(distinct_n(texts, 2), len(texts))
    found["corpus_distinct_2"] = _bare(corpus_distinct_n(texts, 2, DISTINCT_TOKENS), len(texts))
    return found


def win_rates(
    prompts: Sequence[Prompt],
    sft: Sequence[JudgedAnswer],
    policy: Sequence[JudgedAnswer],
    preferred: Sequence[float],
) -> dict[str, Any]:
    """Share of prompts on which the policy's answer is better; ties count half.

    `preferred` is the judge's probability of that.
    """
    wins = np.array(preferred, dtype=float)
    clusters = [prompt.prompt_id for prompt in prompts]
    longer = np.array([b.num_tokens - a.num_tokens for a, b in zip(sft, policy, strict=True)])
    by_category = {
        category: win_rate(wins[rows], [clusters[i] for i in rows]).plain()
        for category in sorted({prompt.category for prompt in prompts} - {""})
        if (rows := [i for i, prompt in enumerate(prompts) if prompt.category == category])
    }
    return {
        "win_rate": {
            "overall": win_rate(wins, clusters).plain(),
            "by_category": by_category,
        },
        "length_controlled": length_controlled_win_rate(wins, longer, clusters).plain(),
        "sign_test_p": float(paired_sign_test(wins, np.full(len(wins), 0.5))),
    }


def _value(measure: Measure, answer: JudgedAnswer) -> float | None:
    own = _OF_ANSWER.get(measure.key)
    return answer.marks.get(measure.key) if own is None else own(answer)


def _estimate(measure: Measure, counted: Sequence[tuple[str, float]], seed: int) -> dict[str, Any]:
    clusters, values = zip(*counted, strict=True)
    # shares get a score interval, which stays in 0..1; others a bootstrap
    if measure.unit:
        return cluster_share(values, clusters).plain()
    return cluster_bootstrap(values, clusters, seed=seed).plain()


def _bare(value: float, n: int) -> dict[str, float | None]:
    return {"value": None if np.isnan(value) else value, "low": None, "high": None, "n": n}
