"""From judgements to pairs: every judgement weighs the same, ties are soft, skips say nothing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignloop.data.preferences import labels_by_comparison, pairs_from_judgements
from alignloop.records import Comparison, Judgement, Message, PreferencePair, Prompt, Response

PROMPT = Prompt(prompt_id="p", messages=(Message(role="user", content="Why?"),))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def comparison(names: str = "ab", comparison_id: str = "c") -> Comparison:
    """A comparison whose response x has the text "text x"."""
    responses = tuple(Response(response_id=name, text=f"text {name}") for name in names)
    return Comparison(comparison_id=comparison_id, prompt=PROMPT, responses=responses)


def judgement(
    choice: str, strength: int = 0, comparison_id: str = "c", who: str = "ann"
) -> Judgement:
    """One person's choice."""
    return Judgement(
        comparison_id=comparison_id,
        annotator_id=who,
        choice=choice,
        strength=strength,
        created_at=NOON,
    )


def pair(chosen: str, rejected: str, **changes: object) -> PreferencePair:
    """The pair that `judgement` gives by default."""
    settings: dict = {"source": "ann", "comparison_id": "c", **changes}
    return PreferencePair(
        prompt=PROMPT, chosen=f"text {chosen}", rejected=f"text {rejected}", **settings
    )


def test_a_choice_is_one_pair() -> None:
    found = pairs_from_judgements([comparison()], [judgement("b", strength=2)])
    assert found == [pair("b", "a", margin=2.0)]


def test_a_tie_is_a_soft_label() -> None:
    found = pairs_from_judgements([comparison()], [judgement("tie")])
    assert found == [pair("a", "b", preference=0.5)]


@pytest.mark.parametrize("choice", ["skip", "both_bad"])
def test_nothing_is_learnt_from_a_skip(choice: str) -> None:
    assert pairs_from_judgements([comparison()], [judgement(choice)]) == []


def test_the_best_of_four_beats_each_other_one() -> None:
    found = pairs_from_judgements([comparison("abcd")], [judgement("c", strength=1)])
    assert found == [pair("c", other, margin=1.0, weight=1 / 3) for other in "abd"]


def test_a_tie_of_four_is_a_tie_of_all() -> None:
    found = pairs_from_judgements([comparison("abcd")], [judgement("tie")])
    both = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert found == [pair(*two, preference=0.5, weight=1 / 6) for two in both]


@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=6),
    choices=st.lists(st.sampled_from(["first", "tie", "skip"]), min_size=6, max_size=6),
)
def test_every_judgement_weighs_the_same(sizes: list[int], choices: list[str]) -> None:
    asked = [comparison("abcdefghi"[:size], str(n)) for n, size in enumerate(sizes)]
    names = {"first": "a", "tie": "tie", "skip": "skip"}
    said = [judgement(names[c], comparison_id=str(n)) for n, c in enumerate(choices[: len(sizes)])]
    found = pairs_from_judgements(asked, said)
    for given_by in said:
        weight = sum(p.weight for p in found if p.comparison_id == given_by.comparison_id)
        assert weight == pytest.approx(0 if given_by.choice == "skip" else 1)


def test_several_people_give_several_pairs_in_their_order() -> None:
    said = [judgement("a", who="ann"), judgement("b", who="ben")]
    assert pairs_from_judgements([comparison()], said) == [
        pair("a", "b", source="ann"),
        pair("b", "a", source="ben"),
    ]


def test_labels_of_comparisons_judged_more_than_once() -> None:
    pairs = [
        pair("a", "b"),
        pair("b", "a", source="ben"),
        pair("a", "b", preference=0.5, source="cy"),  # a tie names no better one
        pair("a", "b", comparison_id="alone"),
        pair("a", "b", comparison_id=""),  # from a file without comparisons
        pair("a", "b", comparison_id=""),
    ]
    assert labels_by_comparison(pairs) == [["text a", "text b"]]
