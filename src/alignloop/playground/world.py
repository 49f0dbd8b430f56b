"""The small bilingual world: its questions, and the sentences that answer them.

An `Intent` is one request in one language ("how to cook rice", in English); a wording turns it
into a prompt. `facts` are the only true answers, each with its role. Everything comes from the TOML
files in `world/`, which are written by hand.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "explain", "howto", "resources", "tips", "feeling", "harmful", "lookalike", "fairness"
]
Language = Literal["en", "zh"]
WordingUse = Literal["train", "held_out"]
# The only set that may use an intent; "" for any set.
HeldOut = Literal["", "validation", "test"]
FactRole = Literal[
    "opening", "point", "resource", "tip", "offer", "refusal", "reason", "alternative"
]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
WORLD = Path(__file__).parent / "world"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One true sentence and its role in an answer."""

    role: FactRole
    text: str


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One request in one language, with the sentences that answer it, in order.

    `slot` fills the wordings; `wordings_key` names their list in wordings.toml.
    """

    kind: Kind
    intent_id: str
    language: Language
    slot: str
    wordings_key: str
    facts: tuple[Fact, ...]
    held_out: HeldOut = ""

    def of_role(self, role: FactRole) -> tuple[str, ...]:
        """The texts of this intent's facts with `role`."""
        return tuple(fact.text for fact in self.facts if fact.role == role)


@cache
def read_content(name: str) -> dict[str, Any]:
    """One TOML file of the world, parsed once."""
    return tomllib.loads((WORLD / f"{name}.toml").read_text(encoding="utf-8"))


def phrases(language: Language) -> dict[str, list[str]]:
    """The stock sentences of one language: refusals, stubs of compliance, cold and unfair ones."""
    return read_content("phrases")[language]


def wordings(intent: Intent, use: WordingUse) -> list[str]:
    """The question patterns for an intent: those for training, or those held out."""
    return read_content("wordings")[intent.language][intent.wordings_key][use]


def fill(wording: str, intent: Intent) -> str:
    """Fill the intent's slot into a wording; English questions start with a capital letter."""
    text = wording.format(slot=intent.slot)
    return text[0].upper() + text[1:]


def join_sentences(sentences: list[str] | tuple[str, ...], language: Language) -> str:
    """English sentences are joined by a space, Chinese ones by nothing."""
    return (" " if language == "en" else "").join(sentences)


@cache
def all_intents() -> tuple[Intent, ...]:
    """Every intent of the world in both languages, in a fixed order."""
    intents: list[Intent] = []
    for language in LANGUAGES:
        for topic in read_content(f"topics_{language}")["topic"]:
            intents += _topic_intents(topic, language)
        for kind, file in (
            ("feeling", "feelings"),
            ("harmful", "harmful"),
            ("lookalike", "lookalikes"),
            ("fairness", "fairness"),
        ):
            for entry in read_content(file)[kind]:
                intents.append(_entry_intent(kind, entry, language))
    return tuple(intents)


def _topic_intents(topic: dict[str, Any], language: Language) -> list[Intent]:
    concept = topic["kind"] == "concept"
    opening = [Fact(role="opening", text=topic["definition"])]
    points = [Fact(role="point", text=text) for text in topic["points"]]
    resources = [Fact(role="resource", text=text) for text in topic["resources"]]
    tips = [Fact(role="tip", text=text) for text in topic["tips"]]
    suffix = "concept" if concept else "skill"
    main: Kind = "explain" if concept else "howto"
    table: list[tuple[Kind, str, list[Fact]]] = [
        (main, main, opening + points + resources + tips),
        ("resources", f"resources_{suffix}", resources + tips),
        ("tips", f"tips_{suffix}", tips + resources),
    ]
    return [
        Intent(
            kind=kind,
            intent_id=f"{kind}/{topic['id']}",
            language=language,
            slot=topic["name"],
            wordings_key=key,
            facts=tuple(facts),
        )
        for kind, key, facts in table
    ]


def _entry_intent(kind: Any, entry: dict[str, Any], language: Language) -> Intent:
    text = entry[language]
    points = [Fact(role="point", text=point) for point in text.get("points", ())]
    stock = phrases(language)
    if kind == "feeling":
        slot = text["statement"]
        facts = [Fact(role="opening", text=text["empathy"]), *points]
        facts += [Fact(role="offer", text=offer) for offer in stock["offer"]]
    elif kind == "harmful":
        slot = text["act"]
        facts = [Fact(role="refusal", text=refusal) for refusal in stock["refusal"]]
        facts.append(Fact(role="reason", text=text["reason"]))
        facts.append(Fact(role="alternative", text=text["alternative"]))
    elif kind == "lookalike":
        slot = text["act"]
        facts = [*points, Fact(role="reason", text=text["reason"])]
    else:
        slot = text["question"]
        facts = [Fact(role="opening", text=text["fair"]), *points]
    request = kind in ("harmful", "lookalike")
    return Intent(
        kind=kind,
        intent_id=f"{kind}/{entry['id']}",
        language=language,
        slot=slot,
        wordings_key="howto" if request else kind,
        facts=tuple(facts),
        held_out=entry.get("held_out", ""),
    )
