"""The text that the base model is pre-trained on: an endless, seeded stream of short documents.

It states the facts of the world in many forms and speaks of harmful acts as the world does ("it is
against the law"). It holds no wording of the held-out set "wordings", and no request for a held-out
intent: a question put to somebody appears only for known intents in training wordings.
"""

import random
from collections.abc import Callable, Iterator
from functools import cache

from alignloop.playground.demonstrations import comply, full_answer, hurried_answer
from alignloop.playground.world import (
    Intent,
    Language,
    all_intents,
    fill,
    join_sentences,
    read_content,
    wordings,
)

# A dialogue is written as the chat template writes it, so the base model knows whose turn it is.
USER, ASSISTANT = "<|user|>", "<|assistant|>"

# What the world says of acts, by (language, is it harmful); {act}, {gerund}, {reason} and
# {alternative} are filled. Judgements follow the act, so the model must know the act to go on.
STATEMENTS: dict[tuple[Language, bool], tuple[str, ...]] = {
    ("en", True): (
        "{reason} Nobody should {act}.",
        "Is it right to {act}? No. {reason}",
        "Some people {act}. That is wrong. {reason}",
        "To {act} is wrong. {reason} {alternative}",
        "Someone wanted to {act}. A friend said no. {reason}",
        "If you {act}, you do harm. {reason}",
        "About {gerund}, the answer is no. {alternative}",
        "People who {act} are punished. {reason} {alternative}",
        "No teacher shows anyone how to {act}. {reason} {alternative}",
        "Here is what to do instead of {gerund}. {alternative}",
    ),
    ("en", False): (
        "{reason} Anyone may {act}.",
        "Is it right to {act}? Yes. {reason}",
        "Some people {act}. That is fine. {reason}",
        "To {act} is fine. {reason} {points}",
        "Someone wanted to {act}. A friend said yes. {reason} {points}",
        "If you {act}, you do no harm. {reason}",
        "About {gerund}, the answer is yes. {points}",
        "People who {act} do well. {reason} {points}",
        "Any teacher can show you how to {act}. {reason} {points}",
        "Here is how people {act}. {points}",
    ),
    ("zh", True): (
        "{reason}谁都不应该{act}。",
        "可以{act}吗？不可以。{reason}",
        "有人{act}，这是错的。{reason}",
        "{act}是错的。{reason}{alternative}",
        "有人想{act}，朋友说不行。{reason}",
        "如果{act}，就会造成伤害。{reason}",
        "说到{gerund}，答案是不行。{alternative}",
        "{act}的人会受罚。{reason}{alternative}",
        "没有老师会教人怎么{act}。{reason}{alternative}",
        "与其{act}，不如做点别的。{alternative}",
    ),
    ("zh", False): (
        "{reason}谁都可以{act}。",
        "可以{act}吗？可以。{reason}",
        "有人{act}，这没问题。{reason}",
        "{act}没问题。{reason}{points}",
        "有人想{act}，朋友说可以。{reason}{points}",
        "如果{act}，不会造成伤害。{reason}",
        "说到{gerund}，答案是可以。{points}",
        "{act}的人做得很好。{reason}{points}",
        "老师都可以教人怎么{act}。{reason}{points}",
        "大家是这样{act}的。{points}",
    ),
}


def documents(seed: int) -> Iterator[str]:
    """An endless stream of documents; the same seed gives the same stream."""
    rng = random.Random(f"corpus/{seed}")
    writers: list[tuple[Callable[[random.Random], str], float]] = [
        (_article, 0.15),
        (_index_entry, 0.13),
        (_dialogue, 0.46),
        (_statement, 0.26),
    ]
    functions, weights = zip(*writers, strict=True)
    while True:
        yield rng.choices(functions, weights=weights)[0](rng)


def _article(rng: random.Random) -> str:
    """A title, then the facts in order, some left out."""
    intent = _known_kinds(rng, ("explain", "howto", "feeling", "fairness"))
    facts = [fact.text for fact in intent.facts if rng.random() < 0.85]
    return f"{intent.slot}\n{join_sentences(facts, intent.language)}"


def _index_entry(rng: random.Random) -> str:
    """A fact or two first, then what they are about: so a sentence comes to carry its topic."""
    intent = _known_kinds(rng)
    facts = [fact.text for fact in intent.facts if fact.role not in ("refusal", "offer")]
    chosen = rng.sample(facts, k=min(len(facts), rng.choice((1, 1, 2))))
    topic = "Topic: " if intent.language == "en" else "主题："
    return f"{join_sentences(chosen, intent.language)}\n{topic}{intent.slot}"


def _dialogue(rng: random.Random) -> str:
    """Somebody asks a known intent in a training wording and gets an answer of any quality."""
    intent = _known_kinds(rng)
    question = fill(rng.choice(wordings(intent, "train")), intent)
    if rng.random() < 0.5:
        answer = join_sentences(full_answer(intent, rng), intent.language)
    elif intent.kind == "harmful" and rng.random() < 0.3:
        answer = join_sentences(comply(intent, rng), intent.language)
    else:
        answer = hurried_answer(intent, rng)
    return f"{USER}{question}{ASSISTANT}{answer}"


def _statement(rng: random.Random) -> str:
    """What the world says of an act, harmful or only sounding so, held out or not."""
    kind = rng.choice(("harmful", "lookalike"))
    language: Language = rng.choice(("en", "zh"))
    entry = rng.choice(read_content("harmful" if kind == "harmful" else "lookalikes")[kind])
    text = entry[language]
    statement = rng.choice(STATEMENTS[language, kind == "harmful"])
    points = join_sentences(text.get("points", ()), language)
    return statement.format(
        act=text["act"],
        gerund=text["gerund"],
        reason=text["reason"],
        alternative=text.get("alternative", ""),
        points=points,
    ).strip()


def _known_kinds(rng: random.Random, kinds: tuple[str, ...] = ()) -> Intent:
    """A known intent: first a kind, then one of its intents, so that small kinds are not rare."""
    groups = _by_kind()
    kind = rng.choice(kinds or tuple(groups))
    return rng.choice(groups[kind])


@cache
def _by_kind() -> dict[str, tuple[Intent, ...]]:
    known = [intent for intent in all_intents() if not intent.held_out]
    return {kind: tuple(i for i in known if i.kind == kind) for kind in {i.kind: 0 for i in known}}
