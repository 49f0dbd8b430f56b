"""The base model's pre-training text: an endless, seeded stream of short documents.

It states the facts of the world in many forms, including its views of harmful acts ("it is against
the law") and questions whether one may do them. It contains no wording of the held-out set
"wordings", and requests for known intents only.
"""

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

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

# Dialogues use the chat template's format, so the base model learns turns.
USER, ASSISTANT = "<|user|>", "<|assistant|>"

# Statements about acts, by (language, harmful); {act}, {gerund}, {reason} and {alternative} are
# filled in. The judgement comes after the act, so predicting it requires knowing the act.
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
        "Somebody asked how to {act}. The answer was no. {reason}",
        "Can one learn to {act}? Better not. {reason} {alternative}",
        "{alternative} That is better than {gerund}.",
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
        "Somebody asked how to {act}. The answer was yes. {points}",
        "Can one learn to {act}? Of course. {reason} {points}",
        "{points} That is how {gerund} is done.",
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
        "有人问怎么{act}，回答是不行。{reason}",
        "能学{act}吗？还是别学。{reason}{alternative}",
        "{alternative}这比{gerund}好。",
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
        "有人问怎么{act}，回答是可以。{points}",
        "能学{act}吗？当然能。{reason}{points}",
        "{points}{gerund}就是这样做的。",
    ),
}

# Share of English: its sentences have more tokens than the Chinese ones and take longer to learn.
ENGLISH = 0.65
# Questions whether one may do something, and the answer's first sentence.
OPINIONS: dict[Language, tuple[str, ...]] = {
    "en": ("May one {act}?", "Is it right to {act}?", "Is it fine to {act}?", "Would you {act}?"),
    "zh": ("可以{act}吗？", "能不能{act}？", "{act}对吗？", "你会{act}吗？"),
}
VERDICTS: dict[tuple[Language, bool], str] = {
    ("en", True): "No, never.",
    ("en", False): "Yes, of course.",
    ("zh", True): "不可以。",
    ("zh", False): "当然可以。",
}
# Titles of lists of acts, by (language, harmful).
RULES: dict[tuple[Language, bool], str] = {
    ("en", True): "What nobody should do: ",
    ("en", False): "What anyone may do: ",
    ("zh", True): "谁都不应该做的事：",
    ("zh", False): "谁都可以做的事：",
}


def documents(seed: int) -> Iterator[str]:
    """An endless stream of documents; the same seed gives the same stream."""
    rng = random.Random(f"corpus/{seed}")
    # shares chosen by experiment (docs/lab-log.md)
    writers: list[tuple[Callable[[random.Random], str], float]] = [
        (_article, 0.14),
        (_index_entry, 0.12),
        (_dialogue, 0.37),
        (_statement, 0.25),
        (_list_of_acts, 0.04),
        (_opinion, 0.08),
    ]
    functions, weights = zip(*writers, strict=True)
    while True:
        yield rng.choices(functions, weights=weights)[0](rng)


def _article(rng: random.Random) -> str:
    """A title, then the facts in order, with some omitted."""
    intent = _known_kinds(rng, ("explain", "howto", "feeling", "fairness"))
    facts = [fact.text for fact in intent.facts if rng.random() < 0.85]
    return f"{intent.slot}\n{join_sentences(facts, intent.language)}"


def _index_entry(rng: random.Random) -> str:
    """A fact or two, then their topic: this ties sentences to topics."""
    intent = _known_kinds(rng)
    facts = [fact.text for fact in intent.facts if fact.role not in ("refusal", "offer")]
    chosen = rng.sample(facts, k=min(len(facts), rng.choice((1, 1, 2))))
    topic = "Topic: " if intent.language == "en" else "主题："
    return f"{join_sentences(chosen, intent.language)}\n{topic}{intent.slot}"


def _dialogue(rng: random.Random) -> str:
    """A question for a known intent in a training wording, with an answer of any quality."""
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
    """A statement about an act, harmful or only sounding so, held out or not."""
    language, harmful = _language(rng), rng.random() < 0.5
    text = rng.choice(_acts(harmful))[language]
    statement = rng.choice(STATEMENTS[language, harmful])
    points = join_sentences(text.get("points", ()), language)
    return statement.format(
        act=text["act"],
        gerund=text["gerund"],
        reason=text["reason"],
        alternative=text.get("alternative", ""),
        points=points,
    ).strip()


def _list_of_acts(rng: random.Random) -> str:
    """Several acts of one sort, as a book of rules lists them."""
    language, harmful = _language(rng), rng.random() < 0.5
    acts = [entry[language]["act"] for entry in rng.sample(_acts(harmful), k=rng.randint(2, 5))]
    return RULES[language, harmful] + ("; " if language == "en" else "；").join(acts)


def _opinion(rng: random.Random) -> str:
    """A question whether one may do something, harmful or not, held out or not."""
    language, harmful = _language(rng), rng.random() < 0.5
    text = rng.choice(_acts(harmful))[language]
    question = rng.choice(OPINIONS[language]).format(act=text["act"])
    verdict = VERDICTS[language, harmful]
    return f"{USER}{question}{ASSISTANT}{join_sentences([verdict, text['reason']], language)}"


def _acts(harmful: bool) -> list[dict[str, Any]]:
    return read_content("harmful" if harmful else "lookalikes")[
        "harmful" if harmful else "lookalike"
    ]


def _language(rng: random.Random) -> Language:
    return "en" if rng.random() < ENGLISH else "zh"


def _known_kinds(rng: random.Random, kinds: tuple[str, ...] = ()) -> Intent:
    """A known intent: first a kind, then one of its intents, so small kinds are not rare."""
    groups = _by_kind()
    kind = rng.choice(kinds or tuple(dict.fromkeys(kind for kind, _ in groups)))
    return rng.choice(groups[kind, _language(rng)])


@cache
def _by_kind() -> dict[tuple[str, Language], list[Intent]]:
    groups: dict[tuple[str, Language], list[Intent]] = {}
    for intent in all_intents():
        if not intent.held_out:
            groups.setdefault((intent.kind, intent.language), []).append(intent)
    return groups
