"""Tables of figures: every number worked by hand on a handful of answers."""

from typing import Any

import pytest

from alignloop.evaluate import tables
from alignloop.evaluate.tables import JudgedAnswer, measured_sets
from alignloop.judging.protocol import preference
from alignloop.measures import OF_ANSWERS, Measure, score_by
from alignloop.records import Message, Prompt, Verdict


def prompt(name: str, category: str = "explain", language: str = "en") -> Prompt:
    """A prompt of a category."""
    messages = (Message(role="user", content=name),)
    return Prompt(prompt_id=name, messages=messages, category=category, language=language)


def answer(score: float, **changes: object) -> JudgedAnswer:
    """An answer of a score; everything else may be changed."""
    settings: dict = {
        "response": "yes",
        "num_tokens": 10,
        "finish_reason": "eos",
        **changes,
    }
    return JudgedAnswer(score=score, **settings)


MEASURES = (
    Measure(key="kind", english="Kindness", chinese="善意", better=1),
    Measure(key="harm", english="Harm", chinese="害", better=-1),
    score_by("judge"),
    *OF_ANSWERS,
)


def figures(prompts: list[Prompt], answers: list[JudgedAnswer], seed: int) -> dict[str, Any]:
    """The figures of a judge with two measures of its own."""
    return tables.figures(prompts, answers, MEASURES, seed)


def measured(
    prompts: list[Prompt], answers: dict[str, list[JudgedAnswer]], seed: int
) -> dict[str, Any]:
    """The same in all slices."""
    return measured_sets(prompts, answers, MEASURES, seed)


def win_rates(
    prompts: list[Prompt], sft: list[JudgedAnswer], policy: list[JudgedAnswer], seed: int
) -> dict[str, Any]:
    """As a judge says that prefers the higher score."""
    verdicts = [[Verdict(reward=a.score, score=a.score) for a in side] for side in (policy, sft)]
    preferred = [preference(*both).first for both in zip(*verdicts, strict=True)]
    return tables.win_rates(prompts, sft, policy, preferred)


PROMPTS = [
    prompt("p1"),
    prompt("p2", language="zh"),
    prompt("h1", "harmful"),
    prompt("h2", "harmful", "zh"),
    prompt("l1", "lookalike"),
    prompt("f1", "fairness", "zh"),
]
ANSWERS = [
    answer(0.2, num_tokens=4, response="a b a b", marks={"kind": 0.25}),
    answer(0.9, num_tokens=8, marks={"kind": 0.75}),
    answer(0.0, marks={"harm": 1.0}, finish_reason="length", num_tokens=20),
    answer(1.0, marks={"harm": 0.0}, num_tokens=6),
    answer(0.1, num_tokens=2),
    answer(0.5, num_tokens=8, marks={"unheard_of": 1.0}),
]


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("kind", 0.5, 2),  # of the prompts that the judge marks, whatever their category
        ("harm", 0.5, 2),
        ("judge_score", 2.7 / 6, 6),
        ("length", 48 / 6, 6),
        ("eos_rate", 5 / 6, 6),
        ("repetition", 0.0, 6),  # "a b a b" has the trigrams aba, bab: no repetition
    ],
)
def test_figures(name: str, value: float, n: int) -> None:
    cell = figures(PROMPTS, ANSWERS, seed=0)[name]
    assert (cell["value"], cell["n"]) == (pytest.approx(value), n)
    assert cell["low"] <= cell["value"] <= cell["high"]


def test_figures_of_variety() -> None:
    """Bigrams of "a b a b": ab, ba, ab. 2 of 3 differ; one-word answers have none."""
    found = figures(PROMPTS, ANSWERS, seed=0)
    for name in ("distinct_2", "corpus_distinct_2"):
        assert found[name] == {"value": pytest.approx(2 / 3), "low": None, "high": None, "n": 6}
    alone = figures(PROMPTS[1:2], ANSWERS[1:2], seed=0)
    assert alone["distinct_2"] == {"value": None, "low": None, "high": None, "n": 1}


def test_repetition_is_a_mean_of_the_answers() -> None:
    """aaaa has the trigrams aaa, aaa: 1 - 1/2; the other answer has none."""
    both = [answer(0, response="a a a a"), answer(0, response="b")]
    assert figures(PROMPTS[:2], both, seed=0)["repetition"]["value"] == pytest.approx(0.25)


def test_what_no_answer_counts_for_is_none() -> None:
    found = figures(PROMPTS[:2], ANSWERS[:2], seed=0)
    assert {name for name, cell in found.items() if cell is None} == {"harm"}
    assert "unheard_of" not in figures(PROMPTS, ANSWERS, seed=0)


def test_equal_answers_are_no_certainty() -> None:
    two = figures(PROMPTS[:2], [answer(0.4), answer(0.4)], seed=0)
    assert (two["judge_score"]["value"], two["judge_score"]["n"]) == (pytest.approx(0.4), 2)
    assert two["judge_score"]["low"] < 0.1 and two["judge_score"]["high"] > 0.9
    # a length has no bounds: nothing is known of its spread, and no interval is made up
    assert two["length"] == {"value": 10.0, "low": None, "high": None, "n": 2}


def test_none_of_a_few_is_not_surely_none() -> None:
    """No harm in 2 answers: the bootstrap would say 0 to 0, the mid-p says (1 - p)^2 = .05."""
    safe = [answer(1.0, marks={"harm": 0.0}) for _ in range(2)]
    cell = figures(PROMPTS[2:4], safe, seed=0)["harm"]
    assert cell == {"value": 0.0, "low": 0.0, "high": pytest.approx(1 - 0.05**0.5), "n": 2}


def test_the_unit_is_the_prompt() -> None:
    """Four answers to two prompts are two independent cases."""
    twice = [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    cell = figures(twice, [answer(0.0), answer(0.0), answer(1.0), answer(1.0)], seed=0)[
        "judge_score"
    ]
    assert (cell["value"], cell["n"]) == (0.5, 2)
    once = figures(twice[::2], [answer(0.0), answer(1.0)], seed=0)["judge_score"]
    assert (cell["low"], cell["high"]) == pytest.approx((once["low"], once["high"]), rel=1e-12)


def test_measure_splits_by_category_and_language() -> None:
    better = [answer(1.0) for _ in PROMPTS]
    found = measured(PROMPTS, {"sft": ANSWERS, "policy": better}, seed=0)
    assert set(found["by_category"]) == {"explain", "harmful", "lookalike", "fairness"}
    assert set(found["by_language"]) == {"en", "zh"}
    english, chinese = (
        found["by_language"][language]["sft"]["judge_score"] for language in ("en", "zh")
    )
    assert (english["value"], english["n"]) == (pytest.approx(0.3 / 3), 3)
    assert (chinese["value"], chinese["n"]) == (pytest.approx(2.4 / 3), 3)
    assert found["by_category"]["harmful"]["sft"]["harm"]["value"] == 0.5
    assert found["by_category"]["explain"]["sft"]["harm"] is None
    assert found["overall"]["policy"]["judge_score"]["value"] == 1.0
    assert found["overall"]["sft"] == figures(PROMPTS, ANSWERS, seed=0)


def test_prompts_without_a_category_make_no_slice() -> None:
    found = measured([prompt("p", "", "")], {"sft": [answer(0.1)]}, seed=0)
    assert (found["by_category"], found["by_language"]) == ({}, {})


def test_win_rates() -> None:
    """Won, lost, tied, won, won, won: 4.5 of 6."""
    policy = [answer(score) for score in (0.3, 0.8, 0.0, 1.0, 0.2, 0.6)]
    sft = [answer(score) for score in (0.2, 0.9, 0.0, 0.5, 0.1, 0.5)]
    found = win_rates(PROMPTS, sft, policy, seed=0)
    overall = found["win_rate"]["overall"]
    assert (overall["value"], overall["n"]) == (0.75, 6)
    assert 0 <= overall["low"] < 0.75 < overall["high"] <= 1
    values = {name: cell["value"] for name, cell in found["win_rate"]["by_category"].items()}
    assert values == {"explain": 0.5, "harmful": 0.75, "lookalike": 1.0, "fairness": 1.0}
    # Five untied, four won: 2 * (C(5,4) + C(5,5)) / 2^5 = 12 / 32.
    assert found["sign_test_p"] == pytest.approx(12 / 32)


def test_at_equal_length_the_controlled_rate_is_the_plain_one() -> None:
    policy = [answer(score) for score in (0.3, 0.8, 0.0, 1.0)]
    sft = [answer(score) for score in (0.2, 0.9, 0.5, 0.5)]
    found = win_rates(PROMPTS[:4], sft, policy, seed=0)
    assert found["win_rate"]["overall"]["value"] == 0.5
    assert found["length_controlled"]["value"] == pytest.approx(0.5)


def test_winning_by_length_alone_counts_less_when_length_is_controlled() -> None:
    """Longer answers win 6 of 7 and shorter ones lose 2 of 3: length explains most of it."""
    prompts = [prompt(str(number)) for number in range(10)]
    longer = [5, 6, 7, 8, 9, 10, 11, -5, -6, -7]
    wins = [1, 1, 1, 1, 1, 1, 0, 1, 0, 0]
    sft = [answer(0.5, num_tokens=20) for _ in prompts]
    policy = [
        answer(0.9 if won else 0.1, num_tokens=20 + more)
        for won, more in zip(wins, longer, strict=True)
    ]
    found = win_rates(prompts, sft, policy, seed=0)
    assert found["win_rate"]["overall"]["value"] == 0.7
    assert found["length_controlled"]["value"] < 0.65


def test_swapping_the_sides_mirrors_the_rates() -> None:
    one = [answer(score, num_tokens=length) for score, length in ((0.1, 3), (0.5, 9), (0.7, 4))]
    other = [answer(score, num_tokens=length) for score, length in ((0.2, 5), (0.5, 7), (0.9, 8))]
    there, back = (win_rates(PROMPTS[:3], *sides, seed=0) for sides in ((one, other), (other, one)))
    assert there["win_rate"]["overall"]["value"] == pytest.approx(2.5 / 3)
    assert back["win_rate"]["overall"]["value"] == pytest.approx(0.5 / 3)
    assert there["length_controlled"]["value"] + back["length_controlled"][
        "value"
    ] == pytest.approx(1)
    assert there["sign_test_p"] == back["sign_test_p"] == 0.5


def test_a_clean_sweep_is_not_certainty() -> None:
    found = win_rates(PROMPTS[:3], [answer(0.1)] * 3, [answer(0.2)] * 3, seed=0)
    overall = found["win_rate"]["overall"]
    assert (overall["value"], overall["low"]) == (1.0, pytest.approx(0.05 ** (1 / 3)))
    assert found["sign_test_p"] == pytest.approx(0.25)


def test_equal_scores_are_a_draw() -> None:
    found = win_rates(PROMPTS[:2], [answer(0.1)] * 2, [answer(0.1)] * 2, seed=0)
    assert (found["win_rate"]["overall"]["value"], found["sign_test_p"]) == (0.5, 1.0)
