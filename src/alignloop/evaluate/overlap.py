"""Whether held-out prompts are held out: those that also stand where something was learnt."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignloop.data.exclusion import HeldOut
from alignloop.records import Prompt


def overlaps(
    asked: Mapping[str, Sequence[Prompt]],
    taught: Mapping[str, Sequence[Prompt]],
    threshold: float,
) -> dict[str, Any]:
    """How many of the prompts that are asked, by set, were learnt from, near duplicates as well.

    {"sets": {set: {"n": 300, "seen": 12, "where": {"rl.prompts": 12}}}, "looked_at": {...}}. Near
    duplicates are told as `data.exclude` tells them: by trigrams, a Jaccard of `threshold`.
    """
    return {
        "sets": {name: _overlap(prompts, taught, threshold) for name, prompts in asked.items()},
        "looked_at": {source: len(prompts) for source, prompts in taught.items()},
    }


def _overlap(
    asked: Sequence[Prompt], taught: Mapping[str, Sequence[Prompt]], threshold: float
) -> dict[str, Any]:
    held_out = HeldOut(asked, threshold)
    where = {
        source: {key for prompt in prompts for key in held_out.matches(prompt)}
        for source, prompts in taught.items()
    }
    by_source = {source: held_out.count(asked, found) for source, found in where.items() if found}
    seen = held_out.count(asked, set().union(*where.values()))
    return {"n": len(asked), "seen": seen, "where": by_source}
