"""Held-out prompts are counted against what was learnt, and not asserted to be apart."""

from collections.abc import Callable

from alignloop.evaluate.overlap import overlaps
from alignloop.records import Prompt

MakePrompt = Callable[..., Prompt]


def test_exact_and_near_duplicates_are_counted_once_each(make_prompt: MakePrompt) -> None:
    asked = [make_prompt(f"How do I cook dish number {n} well?") for n in ("one", "two", "three")]
    taught = {
        "rl.prompts": [asked[0], make_prompt("how do i cook dish number ONE well"), asked[1]],
        "reward.pairs": [make_prompt("How do I cook dish number two well then?")],
        "sft.demonstrations": [make_prompt("Something else entirely, about the sea.")],
    }
    found = overlaps({"prompts": asked}, taught, threshold=0.7)
    assert found["looked_at"] == {"rl.prompts": 3, "reward.pairs": 1, "sft.demonstrations": 1}
    one = found["sets"]["prompts"]
    assert (one["n"], one["where"]["rl.prompts"]) == (3, 2)
    assert one["seen"] == 2 and "sft.demonstrations" not in one["where"]


def test_nothing_taught_is_nothing_seen(make_prompt: MakePrompt) -> None:
    found = overlaps({"prompts": [make_prompt("tea")]}, {}, threshold=0.8)
    assert found["sets"]["prompts"] == {"n": 1, "seen": 0, "where": {}}
