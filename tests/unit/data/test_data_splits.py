"""Splits: a prompt is on one side only, and stays there."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignloop.data import split_by_prompt
from alignloop.data.splits import SplitByPrompt, hold_out
from alignloop.errors import UserError
from alignloop.records import Message, PreferencePair, Prompt

SHARES = {"train": 0.7, "validation": 0.2, "test": 0.1}


def prompt(text: str, system: str = "") -> Prompt:
    messages = [Message(role="user", content=text)]
    if system:
        messages.insert(0, Message(role="system", content=system))
    return Prompt(prompt_id="any", messages=tuple(messages))


def prompt_text(pair: PreferencePair) -> str:
    return pair.prompt.messages[-1].content


def pair(text: str, chosen: str) -> PreferencePair:
    return PreferencePair(prompt=prompt(text), chosen=chosen, rejected="no")


@settings(deadline=None)
@given(
    texts=st.lists(st.text("abc中", max_size=2), max_size=40),
    shares=st.sampled_from([SHARES, {"all": 1.0}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}]),
    seed=st.integers(0, 2**32),
)
def test_a_prompt_is_never_in_two_splits(
    texts: list[str], shares: dict[str, float], seed: int
) -> None:
    records = [pair(text, f"answer {number}") for number, text in enumerate(texts)]
    splits = split_by_prompt(records, shares, seed)
    assert list(splits) == list(shares)
    assert sorted(r.chosen for s in splits.values() for r in s) == sorted(r.chosen for r in records)
    homes = {(r.prompt.text, name) for name, part in splits.items() for r in part}
    assert len(homes) == len(set(texts))


def test_shares_are_met_order_is_kept_and_adding_records_moves_none() -> None:
    records = [prompt(f"question {number}") for number in range(10_000)]
    splits = split_by_prompt(records, SHARES, seed=1)
    # Five standard deviations of a binomial count: 5 * sqrt(10000 * p * (1 - p)) for p = 0.7.
    for name, share in SHARES.items():
        assert abs(len(splits[name]) - 10_000 * share) < 230
    numbers = [int(record.text.removeprefix("question ")) for record in splits["test"]]
    assert numbers == sorted(numbers)
    fewer = split_by_prompt(records[:500], SHARES, seed=1)
    assert fewer["train"] == splits["train"][: len(fewer["train"])]


def test_another_seed_gives_another_split() -> None:
    records = [prompt(f"question {number}") for number in range(100)]
    first, again, other = (split_by_prompt(records, SHARES, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_system_message_makes_no_new_question() -> None:
    for number in range(50):
        asked = [prompt(f"question {number}", system) for system in ("", "Be kind.", "Be short.")]
        splits = split_by_prompt(asked, SHARES, seed=0)
        assert sorted(len(part) for part in splits.values()) == [0, 0, 3]


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_shares_that_are_none(shares: dict[str, float]) -> None:
    with pytest.raises(UserError, match="positive with the sum 1"):
        split_by_prompt([prompt("x")], shares, seed=0)


def test_held_out_prompts_are_a_share_or_none() -> None:
    records = [pair(f"question {n}", "yes") for n in range(200)]
    learnt, held_out = hold_out(records, 0.25, 3, section="sft")
    parts = split_by_prompt(records, {"test": 0.25, "train": 0.75}, 3)
    assert (learnt, held_out) == (parts["train"], parts["test"]) and len(held_out) > 30
    twice, again = hold_out([*records, *records], 0.25, 3, section="sft")
    assert len(twice) + len(again) == 400
    assert not {prompt_text(p) for p in twice} & {prompt_text(p) for p in again}
    assert hold_out(records, 0.0, 3, section="sft") == (records, [])
    with pytest.raises(UserError, match="1 records leave none to train on") as refused:
        hold_out(records[:1], 0.999, 3, section="dpo")
    assert refused.value.where == "dpo.held_out_share"


def test_a_part_of_a_split_file_splits_again() -> None:
    """A run's first seed is 0: with the same hash its parts of one part would be all or nothing."""
    records = [prompt(f"question {number}") for number in range(400)]
    of_file = SplitByPrompt({"train": 0.5, "test": 0.5})
    train = [one for one in records if of_file.of(one) == "train"]
    again = split_by_prompt(train, {"train": 0.5, "test": 0.5}, seed=0)
    assert all(len(part) > 0.4 * len(train) for part in again.values())
