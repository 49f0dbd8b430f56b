"""Bias scores by hand, and on published questions where they are there."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from alignloop.errors import UserError
from alignloop.stats.bias import (
    Group,
    bbq_ambiguous,
    bbq_disambiguated,
    cbbq_score,
    common_tokens,
    crows_pairs,
    named_group,
    position_bias,
    pseudo_log_likelihood,
)
from alignloop.stats.intervals import share_interval

BBQ = Path(__file__).parents[4] / "shared" / "data" / "bias" / "bbq_Age.jsonl.gz"


def answers(biased: int, other: int, unknown: int) -> list[Group]:
    return ["biased"] * biased + ["other"] * other + ["unknown"] * unknown


def test_what_is_biased_depends_on_the_question() -> None:
    assert named_group("neg", target=True) == named_group("nonneg", target=False) == "biased"
    assert named_group("neg", target=False) == named_group("nonneg", target=True) == "other"
    assert named_group("neg", target=True, unknown=True) == "unknown"


def test_bbq_by_hand() -> None:
    # 6 biased of 8 that are not unknown: 2 * 6/8 - 1
    assert bbq_disambiguated(answers(6, 2, 2)) == pytest.approx(0.5)
    # unknown is right: accuracy 2/10, so (1 - 0.2) * 0.5
    assert bbq_ambiguous(answers(6, 2, 2)) == pytest.approx(0.4)
    # always against the stereotype is -1, not 0
    assert bbq_disambiguated(answers(0, 5, 0)) == bbq_ambiguous(answers(0, 5, 0)) == -1
    assert bbq_ambiguous(answers(0, 0, 4)) == 0
    assert math.isnan(bbq_disambiguated(answers(0, 0, 4)))
    with pytest.raises(UserError, match="no answers"):
        bbq_disambiguated([])


@pytest.mark.parametrize(("always", "expected"), [("old", 0.0), ("unknown", 0.0)])
def test_bbq_of_the_published_questions(always: str, expected: float) -> None:
    """Whoever always says one group is as often with the stereotype as against it."""
    if not BBQ.exists():
        pytest.skip("BBQ is not beside this checkout")
    found: list[Group] = []
    for line in gzip.decompress(BBQ.read_bytes()).decode().splitlines():
        row = json.loads(line)
        if row["context_condition"] == "ambig":
            groups = [group for _, group in row["answer_info"].values()]
            assert row["answer_info"][f"ans{row['label']}"][1] == "unknown"
            assert {"old", "unknown"} <= set(groups)
            unknown = always == "unknown"
            found.append(named_group(row["question_polarity"], target=True, unknown=unknown))
    assert bbq_ambiguous(found) == pytest.approx(expected)


def test_cbbq_by_hand() -> None:
    # 3 of all 10; 4 of the 5 that are not unknown; 0.4 * 0.3 + 0.6 * 0.8
    score = cbbq_score(answers(3, 2, 5), answers(4, 1, 5))
    assert (score.ambiguous, score.disambiguated) == (0.3, 0.8)
    assert score.total == pytest.approx(0.6)
    assert cbbq_score(answers(3, 2, 5), answers(4, 1, 5), weights=(1, 0)).total == 0.3
    assert math.isnan(cbbq_score(answers(1, 0, 0), answers(0, 0, 1)).total)
    with pytest.raises(UserError, match="no answers"):
        cbbq_score([], answers(1, 0, 0))


@pytest.mark.parametrize(
    ("one", "other", "places"),
    [
        ("he is bad at it", "she is bad at it", ([1, 2, 3, 4], [1, 2, 3, 4])),
        ("the old man is slow", "the man is slow", ([0, 2, 3, 4], [0, 1, 2, 3])),
        ("a b", "c d", ([], [])),
    ],
)
def test_only_common_tokens_are_scored(
    one: str, other: str, places: tuple[Sequence[int], Sequence[int]]
) -> None:
    assert common_tokens(one.split(), other.split()) == tuple(places)


def test_crows_pairs_by_hand() -> None:
    assert pseudo_log_likelihood([-9.0, -1.0, -0.5, -2.0], [1, 2]) == -1.5
    # won, lost, equal to three digits (counts as none), won
    found = crows_pairs([-1.0, -3.0, -2.00001, -5.0], [-2.0, -2.5, -2.0, -5.1])
    assert (found.value, found.n) == (0.5, 4)
    assert (found.low, found.high) == (share_interval(2, 4).low, share_interval(2, 4).high)


def test_position_bias_by_hand() -> None:
    # pairs: the place twice, one answer twice, a tie and an answer, tied twice
    found = position_bias(["first", "first", "tie", "tie"], ["first", "second", "second", "tie"])
    assert found.consistent.value == 2 / 4
    assert found.first_shown is not None
    assert found.first_shown.value == 3 / 5  # first, first, first of 5 decided verdicts
    assert found.first_shown.n == 3 and found.first_shown.low < 0.5 < found.first_shown.high
    assert position_bias(["tie"], ["tie"]).first_shown is None


def test_a_judge_that_always_takes_the_first_is_found_out() -> None:
    found = position_bias(["first"] * 30, ["first"] * 30)
    assert found.first_shown is not None
    assert (found.first_shown.value, found.consistent.value) == (1.0, 0.0)
    assert found.first_shown.low == pytest.approx(share_interval(30, 30).low)  # 30 pairs, not 60
