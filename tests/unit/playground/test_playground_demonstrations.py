"""Hurried answers: right but brief, and bad in the shares that make the problem to be solved."""

import random
from collections.abc import Callable

import pytest

from alignloop.playground.demonstrations import (
    COLD,
    COMPLYING,
    OVER_CAREFUL,
    UNFAIR,
    comply,
    demonstrations,
    full_answer,
    hurried_answer,
)
from alignloop.playground.gold import HARM, GoldJudge
from alignloop.playground.prompts import intent_of
from alignloop.playground.reading import Reading, read_answer
from alignloop.playground.world import Intent, all_intents, phrases
from alignloop.records import Demonstration

SEEDS = range(5)


@pytest.fixture(scope="module")
def written() -> list[Demonstration]:
    """The demonstrations of several seeds."""
    return [demonstration for seed in SEEDS for demonstration in demonstrations(seed)]


def readings(written: list[Demonstration], kind: str) -> list[Reading]:
    """How the answers of one kind read."""
    chosen = [d for d in written if d.prompt.category == kind]
    return [read_answer(intent_of(d.prompt), d.response) for d in chosen]


@pytest.mark.parametrize(
    ("kind", "share", "is_bad"),
    [
        ("harmful", COMPLYING, lambda reading: reading.count("comply") > 0),
        ("feeling", COLD, lambda reading: reading.count("cold") > 0),
        ("fairness", UNFAIR, lambda reading: reading.count("unfair") > 0),
        ("lookalike", OVER_CAREFUL, lambda reading: reading.count("refusal") > 0),
    ],
)
def test_bad_answers_have_their_share(
    written: list[Demonstration], kind: str, share: float, is_bad: Callable[[Reading], bool]
) -> None:
    found = readings(written, kind)
    observed = sum(map(is_bad, found)) / len(found)
    assert abs(observed - share) < 4 * (share * (1 - share) / len(found)) ** 0.5


def test_about_half_of_the_harmful_answers_comply(written: list[Demonstration]) -> None:
    judge = GoldJudge()
    harmful = [d for d in written if d.prompt.category == "harmful"]
    verdicts = [judge.judge(d.prompt, d.response) for d in harmful]
    assert len(verdicts) > 500
    assert 0.42 < sum(v.marks[HARM] for v in verdicts) / len(verdicts) < 0.58


def test_answers_say_only_what_is_known(written: list[Demonstration]) -> None:
    strange = ("unknown", "fragment", "foreign", "off_topic", "blame")
    for demonstration in written[:2000]:
        reading = read_answer(intent_of(demonstration.prompt), demonstration.response)
        assert not [label for label in strange if reading.count(label)], demonstration
        assert reading.repeats == 0


def test_most_answers_are_short(written: list[Demonstration]) -> None:
    """EXTRA_FACTS: 0.50 say one fact alone, 0.12 leave nothing out (of eight)."""
    counts = [len(reading.facts) for reading in readings(written, "explain")]
    assert abs(counts.count(1) / len(counts) - 0.50) < 4 * (0.25 / len(counts)) ** 0.5
    assert abs(counts.count(8) / len(counts) - 0.12) < 4 * (0.12 * 0.88 / len(counts)) ** 0.5
    assert set(counts) == {1, 2, 3, 4, 8}


@pytest.mark.parametrize("seed", range(20))
def test_compliance_is_the_stub_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    for intent in [i for i in all_intents() if i.kind == "harmful"]:
        stock = phrases(intent.language)
        first, *rest = comply(intent, rng)
        assert first in [text.format(act=intent.slot) for text in stock["comply"]]
        assert rest == stock["comply_rest"][: len(rest)]


@pytest.mark.parametrize("seed", range(5))
def test_a_hurried_answer_to_harm_is_the_stub_or_begins_with_the_reason(seed: int) -> None:
    rng = random.Random(seed)
    for intent in [i for i in all_intents() if i.kind == "harmful"]:
        reading = read_answer(intent, hurried_answer(intent, rng))
        labels = {sentence.label for sentence in reading.sentences}
        assert labels == {"comply"} or (labels <= {"own", "refusal"} and "own" in labels)


def test_the_number_of_steps_left_out_varies() -> None:
    rng = random.Random(0)
    intent = next(i for i in all_intents() if i.kind == "harmful")
    assert {len(comply(intent, rng)) for _ in range(60)} == {1, 2, 3}


SENTENCES = {
    "explain": 8,
    "howto": 8,
    "resources": 3,
    "tips": 3,
    "feeling": 5,
    "harmful": 3,
    "lookalike": 4,
    "fairness": 3,
}


def test_a_full_answer_states_one_of_everything() -> None:
    rng = random.Random(0)
    for intent in all_intents():
        sentences = full_answer(intent, rng)
        assert len(set(sentences)) == len(sentences) == SENTENCES[intent.kind]
        assert set(sentences) <= {fact.text for fact in intent.facts}


def test_a_hurried_answer_is_the_beginning_of_a_full_one_or_stock() -> None:
    def stock(intent: Intent) -> set[str]:
        own = phrases(intent.language)
        return {*own["cold"], *own["unfair"], *own["refusal"], *own["comply_rest"]}

    for number, intent in enumerate(all_intents()):
        answer = hurried_answer(intent, random.Random(number))
        known = {fact.text for fact in intent.facts} | stock(intent)
        known |= {text.format(act=intent.slot) for text in phrases(intent.language)["comply"]}
        sentences = [s.text for s in read_answer(intent, answer).sentences]
        assert sentences and set(sentences) <= known
