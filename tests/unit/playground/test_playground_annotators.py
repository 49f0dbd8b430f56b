"""Simulated people: reproducible, roughly right, each with a taste, and agreeing as people do."""

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, pairwise

import pytest

from alignloop.data.preferences import pairs_from_judgements
from alignloop.playground.annotators import FIRST_DAY, PEOPLE, annotate, judge, person_value
from alignloop.playground.demonstrations import comply, full_answer, hurried_answer
from alignloop.playground.prompts import intent_of, make_prompt, prompt_sets
from alignloop.playground.reading import read_answer
from alignloop.playground.world import (
    Intent,
    Language,
    all_intents,
    join_sentences,
    phrases,
    wordings,
)
from alignloop.records import Comparison, Judgement, Response
from alignloop.stats.agreement import raw_agreement

ANA, BO, CHEN, DARA, EMIL = PEOPLE
NUM_TRIALS = 2000


def find(intent_id: str, language: Language = "en") -> Intent:
    """An intent by its id."""
    return next(i for i in all_intents() if (i.language, i.intent_id) == (language, intent_id))


def compare(intent: Intent, *texts: str, number: int = 0) -> Comparison:
    """A comparison of two answers called a and b; `number` tells it from others."""
    return Comparison(
        comparison_id=f"{intent.language}/{intent.intent_id}~{number}",
        prompt=make_prompt(intent, wordings(intent, "train")[0]),
        responses=tuple(
            Response(response_id=name, text=text) for name, text in zip("ab", texts, strict=True)
        ),
    )


def answer(intent: Intent, count: int) -> str:
    """The first `count` sentences of a full answer."""
    return join_sentences(full_answer(intent, random.Random(0))[:count], intent.language)


def shared(num_prompts: int, seed: int) -> list[Comparison]:
    """Pairs of hurried answers to comparison prompts, each prompt answered four times."""
    rng = random.Random(seed)
    prompts = rng.sample(prompt_sets()["comparisons"], num_prompts)
    comparisons = []
    for prompt in prompts:
        texts = dict.fromkeys(hurried_answer(intent_of(prompt), rng) for _ in range(4))
        pairs = list(combinations(texts, 2))[:2]
        for pair in pairs:
            comparisons.append(compare(intent_of(prompt), *pair, number=len(comparisons)))
    return comparisons


def outcomes(person, comparison: Comparison, trials: int = NUM_TRIALS) -> list[Judgement]:
    """One person judges the same comparison again and again."""
    rng = random.Random(5)
    return [judge(person, comparison, {}, rng, FIRST_DAY) for _ in range(trials)]


def share_of_a(judgements: list[Judgement]) -> float:
    """How often a is chosen."""
    return sum(judgement.choice == "a" for judgement in judgements) / len(judgements)


def test_the_same_seed_gives_the_same_judgements() -> None:
    comparisons = shared(60, seed=0)
    first = annotate(comparisons, {}, overlap_share=0.3, seed=4)
    assert annotate(comparisons, {}, overlap_share=0.3, seed=4) == first
    assert annotate(comparisons, {}, overlap_share=0.3, seed=5) != first


def test_a_judgement_does_not_depend_on_the_other_comparisons() -> None:
    comparisons = shared(40, seed=1)

    def choices(chosen: list[Comparison]) -> dict[tuple[str, str], str]:
        found = annotate(chosen, {}, overlap_share=0.3, seed=0)
        return {(j.comparison_id, j.annotator_id): j.choice for j in found}

    everything, last = choices(comparisons), choices(comparisons[-10:])
    assert last == {key: everything[key] for key in last}


def test_overlap_is_judged_by_everybody_and_the_rest_by_one() -> None:
    comparisons = shared(300, seed=2)
    judgements = annotate(comparisons, {}, overlap_share=0.3, seed=0)
    counts = Counter(judgement.comparison_id for judgement in judgements)
    assert set(counts.values()) == {1, 5}
    share = list(counts.values()).count(5) / len(counts)
    assert abs(share - 0.3) < 4 * (0.21 / len(counts)) ** 0.5
    assert {j.annotator_id for j in judgements} == {"ana", "bo", "chen", "dara", "emil"}
    assert {len(names) for names in _by_comparison(judgements).values()} == {1, 5}


def _by_comparison(judgements: list[Judgement]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for judgement in judgements:
        found.setdefault(judgement.comparison_id, set()).add(judgement.annotator_id)
    return found


def test_time_goes_on() -> None:
    judgements = annotate(shared(20, seed=3), {}, overlap_share=0.5, seed=0)
    assert judgements[0].created_at == FIRST_DAY
    for one, following in pairwise(judgements):
        assert following.created_at - one.created_at == timedelta(seconds=one.seconds)
        assert one.seconds >= 4


@pytest.mark.slow
@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.annotator_id)
def test_the_order_of_listing_does_not_matter(person) -> None:
    """P(a) = slips / 2 + (1 - slips) * sigmoid((+-bias + v_a - v_b) / noise), over both orders."""
    intent = find("explain/gravity")
    better, worse = answer(intent, 2), answer(intent, 1)
    prompt = compare(intent, better, worse).prompt
    difference = person_value(person, prompt, better, True) - person_value(
        person, prompt, worse, True
    )
    assert difference > person.tie_below  # no ties: the formula is the whole story
    shown_first, shown_second = (
        person.slips / 2
        + (1 - person.slips)
        / (1 + math.exp(-(difference + side * person.first_bias) / person.noise))
        for side in (1, -1)
    )
    expected = (shown_first + shown_second) / 2
    spread = (expected * (1 - expected) / NUM_TRIALS) ** 0.5
    listed_first = outcomes(person, compare(intent, better, worse))
    listed_last = outcomes(person, compare(intent, worse, better))
    assert abs(share_of_a(listed_first) - expected) < 4 * spread
    assert abs(1 - share_of_a(listed_last) - expected) < 4 * spread
    for order, chance in ((("a", "b"), shown_first), (("b", "a"), shown_second)):
        seen = [j for j in listed_first if j.order_shown == order]
        assert len(seen) > 0.4 * NUM_TRIALS
        spread = (chance * (1 - chance) / len(seen)) ** 0.5
        assert abs(share_of_a(seen) - chance) < 4 * spread


def test_the_first_answer_is_favoured_only_by_those_with_a_bias() -> None:
    intent = find("resources/gravity")
    first, second = intent.of_role("resource")
    dara, chen = (replace(person, tie_below=0.0) for person in (DARA, CHEN))
    chosen = outcomes(dara, compare(intent, first, second))
    share = sum(j.choice == j.order_shown[0] for j in chosen) / len(chosen)
    assert share > 0.5 + 4 * (0.25 / len(chosen)) ** 0.5
    chosen = outcomes(chen, compare(intent, first, second))
    share = sum(j.choice == j.order_shown[0] for j in chosen) / len(chosen)
    assert abs(share - 0.5) < 4 * (0.25 / len(chosen)) ** 0.5  # CHEN.first_bias == 0


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.annotator_id)
def test_a_clear_win_is_nearly_always_seen(person, language: Language) -> None:
    stock = phrases(language)
    rng = random.Random(0)
    clear = {
        "harmful/steal_password": join_sentences(
            comply(find("harmful/steal_password", language), rng), language
        ),
        "feeling/sad": stock["cold"][0],
        "fairness/men_nurses": stock["unfair"][0],
        "lookalike/kill_weeds": stock["refusal"][0],
        "explain/gravity": answer(find("explain/gravity", language), 1),
    }
    for intent_id, bad in clear.items():
        intent = find(intent_id, language)
        judgements = outcomes(person, compare(intent, answer(intent, 9), bad), trials=500)
        assert share_of_a(judgements) > 0.97 - person.slips / 2, intent_id


def test_an_answer_that_was_cut_off_is_worth_less() -> None:
    intent = find("explain/gravity")
    comparison = compare(intent, answer(intent, 2), answer(intent, 2))
    rng = random.Random(0)
    found = [judge(CHEN, comparison, {"a": True, "b": False}, rng, FIRST_DAY) for _ in range(300)]
    assert share_of_a(found) > 0.97 - CHEN.slips / 2
    for person in PEOPLE:
        values = [
            person_value(person, comparison.prompt, answer(intent, 2), f) for f in (True, False)
        ]
        assert values[0] - values[1] == pytest.approx(person.strictness)


def test_equal_answers_are_a_tie() -> None:
    intent = find("explain/gravity")
    judgements = outcomes(CHEN, compare(intent, answer(intent, 1), answer(intent, 1)))
    assert {judgement.choice for judgement in judgements} == {"tie"}
    assert {judgement.strength for judgement in judgements} == {0}


@pytest.mark.parametrize(
    ("count", "strength"),
    [(2, 0), (3, 1), (5, 2), (6, 3), (8, 3)],
)
def test_strength_grows_with_the_difference(count: int, strength: int) -> None:
    """Chen has no taste for length: (count - 1) * 0.22 in steps of 0.35, six facts at most."""
    intent = find("explain/gravity")
    comparison = compare(intent, answer(intent, count), answer(intent, 1))
    chosen = {j.strength for j in outcomes(CHEN, comparison, 200) if j.choice == "a"}
    assert chosen == {strength}


@pytest.mark.parametrize(
    ("intent_id", "text", "value"),
    [
        # two facts of 99 characters together: 0.44 + 0.05 * 0.99
        (
            "explain/gravity",
            "Gravity is the force that pulls objects towards each other. "
            "Gravity makes a dropped ball fall down.",
            0.44 + 0.05 * 0.99,
        ),
        ("feeling/sad", "Get over it.", 0.05 * 0.12 - 0.6 * 1.5),
        ("explain/gravity", "Bananas are yellow.", 0.05 * 0.19 - 0.6 * 0.5),
        ("harmful/steal_password", "I cannot help you with that.", 0.22 + 0.6 + 0.05 * 0.28),
        ("lookalike/kill_weeds", "I cannot help you with that.", 0.05 * 0.28 - 1.0 * 1.0),
        ("harmful/steal_password", "First step, left out here.", 0.05 * 0.26 - 1.0 * 1.5),
        ("fairness/men_nurses", "They are usually worse at it.", 0.05 * 0.29 - 1.0 * 2.0),
    ],
)
def test_values_worked_by_hand_for_ana(intent_id: str, text: str, value: float) -> None:
    """Ana: strictness 0.6, safety 1.0, length_taste 0.05."""
    intent = find(intent_id)
    assert ANA.value(intent, read_answer(intent, text), len(text)) == pytest.approx(value)


def test_a_chinese_character_counts_as_three_letters() -> None:
    intent = find("explain/gravity", "zh")
    text = "重力让苹果落向地面。"
    prompt = compare(intent, text, text).prompt
    assert person_value(BO, prompt, text, True) == pytest.approx(0.22 + 0.15 * 30 / 100)
    assert person_value(EMIL, prompt, text, True) == pytest.approx(0.22 - 0.05 * 30 / 100)


@pytest.mark.parametrize("seed", range(3))
def test_people_agree_as_people_do(seed: int) -> None:
    """Raw agreement of five people on pairs of hurried answers, as published for such tasks."""
    comparisons = shared(300, seed)
    judgements = annotate(comparisons, {}, overlap_share=1.0, seed=seed)
    labels: dict[str, list[str]] = {}
    for judgement in judgements:
        labels.setdefault(judgement.comparison_id, []).append(judgement.choice)
    assert len(labels) >= 400
    assert {len(given) for given in labels.values()} == {5}
    assert 0.70 <= raw_agreement(labels.values()) <= 0.85


def test_judgements_become_pairs() -> None:
    comparisons = shared(100, seed=6)
    judgements = annotate(comparisons, {}, overlap_share=0.2, seed=0)
    pairs = pairs_from_judgements(comparisons, judgements)
    assert len(pairs) == len(judgements)  # two answers each, and nobody skips
    by_id = {comparison.comparison_id: comparison for comparison in comparisons}
    for pair, judgement in zip(pairs, judgements, strict=True):
        shown = {r.response_id: r.text for r in by_id[judgement.comparison_id].responses}
        assert {pair.chosen, pair.rejected} == set(shown.values())
        assert (pair.source, pair.weight) == (judgement.annotator_id, 1.0)
        if judgement.choice == "tie":
            assert (pair.preference, pair.margin) == (0.5, 0.0)
        else:
            assert (pair.chosen, pair.preference) == (shown[judgement.choice], 1.0)
            assert pair.margin == judgement.strength
