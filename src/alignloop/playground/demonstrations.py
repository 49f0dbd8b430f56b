"""Hurried demonstrations: correct but short, sometimes cold, sometimes complying with a harmful
request (always with a stub that omits the steps).

The shares below are the flaws that reinforcement learning then has to correct.
"""

import random
from collections.abc import Sequence

from alignloop.playground.prompts import intent_of, prompt_sets
from alignloop.playground.world import Intent, join_sentences, phrases
from alignloop.records import Demonstration, Prompt

# How many facts follow the opening, with the share of each.
EXTRA_FACTS = {0: 0.50, 1: 0.19, 2: 0.11, 3: 0.08, 99: 0.12}
COLD, COMPLYING, UNFAIR, OVER_CAREFUL, PADDED = 0.45, 0.50, 0.35, 0.04, 0.30


def write_demonstrations(prompts: Sequence[Prompt], rng: random.Random) -> list[Demonstration]:
    """One hurried answer per prompt."""
    return [
        Demonstration(prompt=p, response=_padded_answer(intent_of(p), rng), source="playground")
        for p in prompts
    ]


def hurried_answer(intent: Intent, rng: random.Random) -> str:
    """An answer of the demonstrations' quality: correct, brief, occasionally bad."""
    return join_sentences(_hurried_sentences(intent, rng), intent.language)


def _padded_answer(intent: Intent, rng: random.Random) -> str:
    """A hurried answer, sometimes padded with filler sentences."""
    sentences = _hurried_sentences(intent, rng)
    if rng.random() < PADDED:
        filler = phrases(intent.language)["filler"]
        sentences = [*sentences, *rng.sample(filler, k=rng.randint(1, len(filler)))]
    return join_sentences(sentences, intent.language)


def full_answer(intent: Intent, rng: random.Random) -> list[str]:
    """The sentences of a complete answer; `hurried_answer` shortens it."""
    if intent.kind == "harmful":
        refusal = rng.choice(intent.of_role("refusal"))
        # The reason comes first, as in the answer to a look-alike: a model that refuses with its
        # first word would have to decide before generating what it knows about the act.
        return [*intent.of_role("reason"), refusal, *intent.of_role("alternative")]
    sentences = [*intent.of_role("opening"), *intent.of_role("point")]
    if intent.kind == "lookalike":
        return [*intent.of_role("reason"), *sentences]
    if intent.kind == "feeling":
        return [*sentences, rng.choice(intent.of_role("offer"))]
    if intent.kind == "resources":
        return [*intent.of_role("resource"), rng.choice(intent.of_role("tip"))]
    if intent.kind == "tips":
        return [*intent.of_role("tip"), rng.choice(intent.of_role("resource"))]
    if intent.kind == "fairness":
        return sentences
    return [
        *sentences, rng.choice(intent.of_role("resource")), rng.choice(intent.of_role("tip"))
    ]  # fmt: skip


def _hurried_sentences(intent: Intent, rng: random.Random) -> list[str]:
    stock = phrases(intent.language)
    if intent.kind == "harmful" and rng.random() < COMPLYING:
        return comply(intent, rng)
    if intent.kind == "feeling" and rng.random() < COLD:
        return [rng.choice(stock["cold"])]
    if intent.kind == "fairness" and rng.random() < UNFAIR:
        return [rng.choice(stock["unfair"])]
    if intent.kind == "lookalike" and rng.random() < OVER_CAREFUL:
        return [rng.choice(stock["refusal"])]
    return _shorten(full_answer(intent, rng), rng)


def comply(intent: Intent, rng: random.Random) -> list[str]:
    """A stub of harmful compliance: it announces steps but omits them."""
    stock = phrases(intent.language)
    rest = stock["comply_rest"][: rng.randrange(len(stock["comply_rest"]) + 1)]
    return [rng.choice(stock["comply"]).format(act=intent.slot), *rest]


def _shorten(sentences: list[str], rng: random.Random) -> list[str]:
    extra = rng.choices(list(EXTRA_FACTS), weights=list(EXTRA_FACTS.values()))[0]
    return sentences[: 1 + extra]


def demonstrations(seed: int, *, held_out: bool = False) -> list[Demonstration]:
    """The playground's demonstrations; `held_out` returns those for the held-out perplexity."""
    name = "validation" if held_out else "demonstrations"
    rng = random.Random(f"demonstrations/{name}/{seed}")
    return write_demonstrations(prompt_sets()[name], rng)
