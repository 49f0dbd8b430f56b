"""Near duplicates of held-out prompts are found, at the threshold itself, too."""

import random

import pytest

from alignloop.data.exclusion import NUM_PERMUTATIONS, HeldOut, bands
from alignloop.records import Message, Prompt

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prompt(text: str) -> Prompt:
    return Prompt(prompt_id=text[:30], messages=(Message(role="user", content=text),))


def pair_at(common: int, own: int, rng: random.Random) -> tuple[str, str]:
    """Two texts whose sets of trigrams share `common` and have `own` more each, none repeated."""
    while True:
        start = "".join(rng.choices(LETTERS, k=common + 2))
        one, other = (start + "".join(rng.choices(LETTERS, k=own)) for _ in range(2))
        first, second = ({t[i : i + 3] for i in range(len(t) - 2)} for t in (one, other))
        if len(first & second) == common and len(first) == len(second) == common + own:
            return one, other


@pytest.mark.parametrize(
    ("threshold", "common", "own"),
    [(0.5, 60, 30), (0.6, 60, 20), (0.7, 70, 15), (0.8, 80, 10), (0.8, 160, 20), (0.9, 90, 5)],
)
def test_pairs_exactly_at_the_threshold_are_found(threshold: float, common: int, own: int) -> None:
    assert common / (common + 2 * own) == threshold
    pairs = [pair_at(common, own, random.Random(f"{threshold}/{n}")) for n in range(200)]
    held = HeldOut([prompt(one) for one, _ in pairs], threshold)
    assert sum(held.finds(prompt(other)) == "near" for _, other in pairs) >= 0.99 * len(pairs)


def test_pairs_below_the_threshold_are_left() -> None:
    pairs = [pair_at(78, 11, random.Random(n)) for n in range(50)]
    held = HeldOut([prompt(one) for one, _ in pairs], 0.8)
    assert not any(held.finds(prompt(other)) for _, other in pairs)


@pytest.mark.parametrize("percent", range(4, 101, 4))
def test_bands_by_the_formula(percent: int) -> None:
    threshold = percent / 100
    number, rows = bands(threshold)
    assert number * rows <= NUM_PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** number >= 0.99


def test_bands_by_hand() -> None:
    # 6 rows: 1 - (1 - .8^6)^21 = .9983; 7 rows: 1 - (1 - .8^7)^18 = .9855
    assert bands(0.8) == (21, 6)
    assert bands(1.0) == (1, 128)
