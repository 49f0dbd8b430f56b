"""Evidence that may be looked at after every answer."""

import math
import random

import pytest

from alignloop.stats import anytime_interval, evidence_below, evidence_of_side


def test_the_evidence_of_one_answer_by_hand() -> None:
    # half at 1/2, half uniform on (0, 4/5): a wrong answer has 1/2 and 1 - 2/5, against 1/5
    assert evidence_below(0, 1, 0.8) == pytest.approx(math.log((0.5 / 0.2 + 0.6 / 0.2) / 2))
    assert evidence_below(1, 0, 0.8) == pytest.approx(math.log((0.5 / 0.8 + 0.4 / 0.8) / 2))
    assert evidence_below(0, 0, 0.8) == pytest.approx(0.0)
    # below one half: half at 1/5, half uniform on (0, 2/5), whose mean is 1/5
    assert evidence_below(1, 0, 0.4) == pytest.approx(math.log(0.2 / 0.4))


@pytest.mark.parametrize("bar", [0.3, 0.6, 0.85])
def test_its_mean_is_one_at_the_bar_and_less_above(bar: float) -> None:
    """Summed over all outcomes of twelve answers, with their probabilities."""
    for share, least, most in ((bar, 1 - 1e-9, 1 + 1e-9), (bar + 0.1, 0.0, 1.0)):
        mean = sum(
            math.comb(12, n) * share**n * (1 - share) ** (12 - n)
            * math.exp(evidence_below(n, 12 - n, bar))
            for n in range(13)
        )  # fmt: skip
        assert least <= mean <= most


def test_looking_after_every_answer_raises_few_false_alarms() -> None:
    alpha, runs, false = 0.05, 400, 0
    for run in range(runs):
        draw = random.Random(f"alarm/{run}")
        right = wrong = 0
        for _ in range(150):
            hit = draw.random() < 0.8
            right, wrong = right + hit, wrong + (not hit)
            if evidence_below(right, wrong, 0.8) >= math.log(1 / alpha):
                false += 1
                break
    # at most alpha, with four standard deviations of the count
    assert 0 < false <= runs * alpha + 4 * math.sqrt(runs * alpha * (1 - alpha))


def test_sides_are_alike_and_near_even_ones_do_not_alarm() -> None:
    assert evidence_of_side(30, 10, 0.1) == pytest.approx(evidence_of_side(10, 30, 0.1))
    assert evidence_of_side(100, 100, 0.1) < 0
    assert evidence_of_side(55, 45, 0.1) < 0
    assert evidence_of_side(85, 15, 0.1) > math.log(100)


def test_the_interval_is_what_the_evidence_does_not_exclude() -> None:
    found = anytime_interval(30, 30, 0.02)
    assert evidence_below(30, 30, found.high - 0.001) < math.log(50)
    assert evidence_below(30, 30, found.high + 0.001) > math.log(50)
    assert found.low == pytest.approx(1 - found.high, abs=1e-3)
    assert 0.25 < found.low < 0.5 < found.high < 0.75
    nothing = anytime_interval(0, 0, 0.02)
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert anytime_interval(300, 300, 0.02).high < found.high
