"""The prompts of the playground and their disjoint sets.

A hash of the (intent, wording) pair alone decides its set, so the held-out prompts are the same for
every seed and no prompt is in two sets.
"""

import hashlib
from functools import cache

from alignloop.playground.world import Intent, all_intents, fill, wordings
from alignloop.records import Message, Prompt

# Shares in percent of the known intents in known wordings, without the two held-out sets.
SHARES = {"demonstrations": 10, "comparisons": 44, "rl": 42, "validation": 4}
HELD_OUT_SETS = ("wordings", "intents")
# Intents used only for the training curves, with every so-manyth of their wordings.
VALIDATION_INTENTS, VALIDATION_INTENTS_EVERY = "validation_intents", 6


def make_prompt(intent: Intent, wording: str) -> Prompt:
    """The prompt that asks for `intent` in this wording; its id names the intent."""
    text = fill(wording, intent)
    return Prompt(
        prompt_id=f"{intent.language}/{intent.intent_id}/{_digest(text)}",
        messages=(Message(role="user", content=text),),
        source="playground",
        category=intent.kind,
        language=intent.language,
    )


def intent_of(prompt: Prompt) -> Intent:
    """The intent behind a playground prompt."""
    language, kind, name, _ = prompt.prompt_id.split("/")
    return _intents_by_id()[f"{language}/{kind}/{name}"]


@cache
def prompt_sets() -> dict[str, tuple[Prompt, ...]]:
    """All prompts by set: those of SHARES, validation_intents, wordings, intents."""
    names = (*SHARES, VALIDATION_INTENTS, *HELD_OUT_SETS)
    sets: dict[str, list[Prompt]] = {name: [] for name in names}
    for intent in all_intents():
        known = wordings(intent, "train")
        unseen = wordings(intent, "held_out")
        if intent.held_out == "validation":
            used = known[::VALIDATION_INTENTS_EVERY]
            sets[VALIDATION_INTENTS] += [make_prompt(intent, wording) for wording in used]
            continue
        if intent.held_out:
            sets["intents"] += [make_prompt(intent, wording) for wording in (*known, *unseen)]
            continue
        for wording in known:
            prompt = make_prompt(intent, wording)
            sets[_share_of(prompt.text)].append(prompt)
        sets["wordings"] += [make_prompt(intent, wording) for wording in unseen]
    return {name: tuple(prompts) for name, prompts in sets.items()}


@cache
def _intents_by_id() -> dict[str, Intent]:
    return {f"{intent.language}/{intent.intent_id}": intent for intent in all_intents()}


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _share_of(text: str) -> str:
    percentile = int(hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), 16) % 100
    for name, share in SHARES.items():
        if percentile < share:
            return name
        percentile -= share
    raise AssertionError("the shares add up to 100")
