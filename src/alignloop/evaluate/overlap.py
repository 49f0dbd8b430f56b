"""Whether held-out prompts are held out: those that also occur in training data."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignloop.data.exclusion import HeldOut
from alignloop.records import Prompt


def overlaps(
    tested: Mapping[str, Sequence[Prompt]],
    taught: Mapping[str, Sequence[Prompt]],
    threshold: float,
) -> dict[str, Any]:
    """How many evaluation prompts of each set were trained on, including near duplicates.

    {"sets": {set: {"n": 300, "seen": 12, "where": {"rl.prompts": 12}}}, "looked_at": {...}}. Near
    duplicates are those of `data.exclude`: by trigrams, a Jaccard similarity of `threshold`.
    """
    return {
        "sets": {name: _overlap(prompts, taught, threshold) for name, prompts in tested.items()},
        "looked_at": {source: len(prompts) for source, prompts in taught.items()},
    }


def _overlap(
    tested: Sequence[Prompt], taught: Mapping[str, Sequence[Prompt]], threshold: float
) -> dict[str, Any]:
    held_out = HeldOut(tested, threshold)
    where = {
        source: {key for prompt in prompts for key in held_out.matches(prompt)}
        for source, prompts in taught.items()
    }
    by_source = {source: held_out.count(tested, found) for source, found in where.items() if found}
    seen = held_out.count(tested, set[str]().union(*where.values()))
    return {"n": len(tested), "seen": seen, "where": by_source}
