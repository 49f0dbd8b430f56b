"""What is worth asking: worked by hand."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.acquisition.candidates import Answered, Candidate, candidates
from alignloop.acquisition.filing import new_item
from alignloop.acquisition.select import HOWS, choose, probability, slice_of
from alignloop.errors import UserError
from alignloop.records import Message, Prompt


def prompt(name: str, **fields: str) -> Prompt:
    return Prompt(prompt_id=name, messages=(Message(role="user", content=name),), **fields)


def said(name: str, text: str, model: str = "m", **fields: str) -> Answered:
    return Answered(prompt=prompt(name, **fields), text=text, model=model, settings={"t": 1.0})


def with_scores(name: str, *scores: tuple[float, ...], **fields: str) -> Candidate:
    """One candidate whose answers the models "0", "1", ... give these scores."""
    texts = [f"{name} {n}" for n in range(len(scores[0]))]
    (one,) = candidates([said(name, text, **fields) for text in texts], ranking=True)
    named = {str(number): row for number, row in enumerate(scores)}
    return Candidate(comparison=one.comparison, answers=one.answers, scores=named)


def test_answers_become_pairs_of_different_texts() -> None:
    answers = [said("p", " b ", "x"), said("p", "a", "y"), said("p", "b", "z"), said("p", " ", "y")]
    answers += [said("q", "a", "x"), said("q", "a", "y")]
    (one,) = candidates(answers, ranking=False)
    assert {a.model for a in one.answers} == {"x", "y"}  # z said what x had said
    assert one.comparison.sampled_from == "x, y"
    again = candidates(answers[::-1], ranking=False)
    assert again[0].comparison.comparison_id == one.comparison.comparison_id
    # no id tells who answered
    assert not any(m in r.response_id for m in "xyz" for r in one.comparison.responses)


def test_three_answers_are_three_pairs_or_one_ranking() -> None:
    answers = [said("p", text) for text in "abc"]
    assert len(candidates(answers, ranking=False)) == 3
    (one,) = candidates(answers, ranking=True)
    assert sorted(a.text for a in one.answers) == ["a", "b", "c"]


def test_uncertain_is_the_smallest_difference() -> None:
    pool = [
        with_scores("far", (3.0, 0.0)),
        with_scores("near", (0.1, 0.0)),
        with_scores("mid", (0.0, 1.0)),
    ]
    first, second = choose(pool, "uncertain", count=2)
    assert [one.candidate.prompt.prompt_id for one in (first, second)] == ["near", "mid"]
    p = 1 / (1 + math.exp(-0.1))
    assert first.detail["probability"] == [pytest.approx(p, abs=1e-6)]
    assert first.detail["distance"] == pytest.approx(p - 0.5, abs=1e-6)
    assert first.detail["reward_model"] == "0"
    # P(second answer is better) = sigmoid(1): as far from a half as sigmoid(-1)
    assert second.detail["distance"] == pytest.approx(1 / (1 + math.exp(-1)) - 0.5, abs=1e-6)


def test_ensemble_is_the_largest_variance() -> None:
    sure, split = math.log(3), math.log(1 / 3)  # P = 3/4 and 1/4
    pool = [
        with_scores("agree", (sure, 0.0), (sure, 0.0)),
        with_scores("split", (sure, 0.0), (split, 0.0)),
    ]
    first, second = choose(pool, "ensemble")
    assert first.candidate.prompt.prompt_id == "split"
    assert first.detail["variance"] == pytest.approx((1 / 4) ** 2, abs=1e-6)
    assert second.detail["variance"] == 0.0


def test_coverage_takes_from_what_is_missing() -> None:
    pool = [with_scores(f"h{n}", (0, 0), category="howto", language="en") for n in range(5)]
    pool += [with_scores(f"t{n}", (0, 0), category="tips", language="zh") for n in range(2)]
    found = choose(pool, "coverage", count=5, held={"howto/en": 1})
    slices = [slice_of(one.candidate) for one in found]
    # tips first: 0 against 1, then by turns, until tips has no more
    assert slices == ["tips/zh", "howto/en", "tips/zh", "howto/en", "howto/en"]
    assert [one.detail["held"] for one in found] == [0, 1, 1, 2, 3]


def test_a_prompt_is_not_asked_again_and_again() -> None:
    pool = candidates([said("p", text) for text in "abcd"], ranking=False)
    pool += candidates([said("q", text) for text in "ab"], ranking=False)
    assert len(pool) == 7
    for limit, expected in ((1, {"p": 1, "q": 1}), (2, {"p": 2, "q": 1}), (9, {"p": 6, "q": 1})):
        found = choose(pool, "random", per_prompt=limit)
        assert Counter(one.candidate.prompt.prompt_id for one in found) == expected


def test_what_is_needed_is_said() -> None:
    plain = candidates([said("p", "a"), said("p", "b")], ranking=False)
    with pytest.raises(UserError, match="a reward model"):
        choose(plain, "uncertain")
    with pytest.raises(UserError, match="two reward models"):
        choose([with_scores("p", (0.0, 1.0))], "ensemble")


@pytest.mark.slow
@given(data=st.data(), seed=st.integers(0, 9))
@pytest.mark.parametrize("how", HOWS)
def test_the_choice_depends_on_the_seed_and_not_on_the_order(
    how: Any, data: st.DataObject, seed: int
) -> None:
    pool = [
        with_scores(f"p{n}", (n % 3 / 2, 0.0), (n % 2, 0.0), category="ab"[n % 2]) for n in range(9)
    ]
    mixed = data.draw(st.permutations(pool))
    one, other = (choose(some, how, count=4, seed=seed) for some in (pool, mixed))
    assert [(c.candidate.comparison, c.detail) for c in one] == [
        (c.candidate.comparison, c.detail) for c in other
    ]


def test_seeds_choose_differently() -> None:
    pool = [with_scores(f"p{n}", (0.0, 0.0)) for n in range(30)]
    drawn = {
        frozenset(
            one.candidate.prompt.prompt_id for one in choose(pool, "random", count=10, seed=s)
        )
        for s in range(5)
    }
    assert len(drawn) == 5


@given(a=st.floats(-1e6, 1e6), b=st.floats(-1e6, 1e6))
def test_swapping_the_answers_turns_the_probability(a: float, b: float) -> None:
    assert probability((a, b), 0, 1) + probability((a, b), 1, 0) == pytest.approx(1)


def test_what_is_filed_says_who_and_why() -> None:
    pool = candidates([said("p", "a", "x"), said("p", "b", "y")], ranking=False)
    (one,) = choose(pool, "random", seed=3)
    item = new_item(one)
    assert sorted(item.models.values()) == ["x", "y"]
    assert set(item.settings) == {r.response_id for r in item.comparison.responses}
    assert (item.why, item.why_detail) == ("random", {"seed": 3, "place": 1})
