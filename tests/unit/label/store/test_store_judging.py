"""Judgements: kept once, taken back, checked against what was shown."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_support import World, items, said_of
from sqlalchemy import select

from alignloop.label.store import audit
from alignloop.label.store.refusals import Conflict, Contradiction, Invalid
from alignloop.label.store.tables import judgements, now
from alignloop.label.store.tasks import JudgementIn, LabelSchema
from alignloop.label.store.validation import check, columns_of, content_of, contradiction

MakeWorld = Callable[..., World]
PLAIN, RATED = LabelSchema(), LabelSchema(kind="rating")


def sent(**said: Any) -> JudgementIn:
    """A judgement of answers "a" and "b"; "a" is better unless it says otherwise."""
    defaults = {"key": "0123456789", "verdict": "choice"}
    if said.get("verdict", "choice") == "choice" and "choice" not in said:
        defaults["choice"] = "a"
    return JudgementIn.model_validate({**defaults, **said})


def checked(
    judgement: JudgementIn, schema: LabelSchema = PLAIN, kind: str = "comparison"
) -> JudgementIn:
    """The same against the answers "a" and "b"."""
    return check(judgement, ["a", "b"], kind, schema)


# --- pure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"choice": None}, "the choice is missing"),
        ({"choice": "z"}, "not shown"),
        ({"ratings": {"z": 5}}, "not shown"),
        ({"harmful": ["z"]}, "not shown"),
        ({"ranking": [["a"]]}, "every answer once"),
        ({"ranking": [["a"], ["a"]]}, "every answer once"),
        ({"ranking": [["a", "b"], []]}, "is empty"),
        ({"ranking": [["b"], ["a"]]}, "not the best of the ranking"),
        ({"verdict": "skip"}, "needs a reason"),
        ({"verdict": "tie", "choice": "a"}, "cannot have a choice"),
        ({"verdict": "tie", "ranking": [["a"], ["b"]]}, "contradicts this ranking"),
        ({"verdict": "both_bad", "ranking": [["a", "b"]]}, "contradicts this ranking"),
        (
            {"verdict": "skip", "skip_reason": "?", "ranking": [["a"], ["b"]]},
            "contradicts this ranking",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        checked(sent(**said))


def test_a_judgement_goes_into_the_table_by_ids_of_responses() -> None:
    said = sent(strength=2, ratings={"a": 9, "b": 4}, ranking=[["a"], ["b"]], harmful=["b"])
    columns = columns_of(said, {"a": 7, "b": 5})
    assert (columns["choice"], columns["ranking"], columns["harmful"]) == (7, [[7], [5]], [5])
    assert columns["ratings"] == {"7": 9, "5": 4}


def test_a_verdict_that_the_project_does_not_have_is_refused() -> None:
    with pytest.raises(Invalid, match="tie is not allowed"):
        checked(sent(verdict="tie"), LabelSchema(allow=("skip",)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"ratings": {"a": 6, "b": 9}}, ("a", "b")),
        ({"ratings": {"a": 9, "b": 6}}, None),
        ({"ratings": {"a": 7, "b": 7}}, None),
        ({"ratings": {"b": 9}}, None),
        ({"verdict": "tie", "ratings": {"a": 5, "b": 8}}, ("a", "b")),
        ({"verdict": "tie", "ratings": {"a": 5, "b": 7}}, None),
        ({"verdict": "both_bad", "ratings": {"a": 1, "b": 10}}, None),
        ({"choice": None, "ranking": [["b"], ["a"]], "ratings": {"a": 4, "b": 3}}, ("b", "a")),
        ({"choice": None, "ranking": [["a", "b"]], "ratings": {"a": 4, "b": 3}}, None),
    ],
)
def test_ratings_against_the_choice_are_found(
    said: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    assert contradiction(checked(sent(**said, confirmed=True))) == expected
    if expected is None:
        checked(sent(**said))
        return
    with pytest.raises(Contradiction) as caught:
        checked(sent(**said))
    assert (caught.value.chosen, caught.value.better) == expected


def test_the_contradiction_is_told_in_the_letters_on_the_screen() -> None:
    with pytest.raises(Contradiction, match="A is rated 6 and B 9, yet A wins"):
        checked(sent(ratings={"a": 6, "b": 9}))


def test_the_choice_follows_from_a_ranking_or_from_ratings() -> None:
    ranked = sent(choice=None, ranking=[["b"], ["a"]])
    assert checked(ranked, kind="ranking").choice == "b"
    tied = checked(sent(choice=None, ranking=[["a", "b"]]), kind="ranking")
    assert (tied.verdict, tied.choice) == ("tie", None)
    assert checked(sent(choice=None, ratings={"a": 6, "b": 9}), RATED).choice == "b"
    assert checked(sent(choice=None, ratings={"a": 6, "b": 6}), RATED).verdict == "tie"
    with pytest.raises(Invalid, match="rating is missing"):
        checked(sent(choice=None, ratings={"a": 6}), RATED)
    with pytest.raises(Invalid, match="ranking is missing"):
        checked(sent(), kind="ranking")


def test_a_tie_at_the_top_of_three_is_a_ranking_without_a_choice() -> None:
    three = check(sent(choice=None, ranking=[["c", "a"], ["b"]]), ["a", "b", "c"], "ranking", PLAIN)
    assert (three.verdict, three.choice, three.ranking) == ("choice", None, [["c", "a"], ["b"]])


SWAP = {"a": "b", "b": "a"}
RATINGS = st.dictionaries(st.sampled_from("ab"), st.integers(1, 10))
JUDGEMENTS = st.builds(
    sent,
    verdict=st.sampled_from(["choice", "tie", "both_bad"]),
    choice=st.sampled_from(["a", "b", None]),
    strength=st.none() | st.integers(0, 3),
    ratings=RATINGS,
    ranking=st.sampled_from([[], [["a"], ["b"]], [["b"], ["a"]], [["a", "b"]]]),
    harmful=st.lists(st.sampled_from("ab"), max_size=2),
    confirmed=st.booleans(),
)


def swapped(judgement: JudgementIn) -> JudgementIn:
    """The same judgement by somebody who saw the answers the other way round."""
    change: dict[str, Any] = {
        "choice": SWAP.get(judgement.choice or ""),
        "ratings": {SWAP[one]: rating for one, rating in judgement.ratings.items()},
        "ranking": [[SWAP[one] for one in group] for group in judgement.ranking],
        "harmful": [SWAP[one] for one in judgement.harmful],
    }
    return judgement.model_copy(update=change)


def outcome(judgement: JudgementIn, shown: list[str], schema: LabelSchema) -> JudgementIn | str:
    """What is kept, or which refusal."""
    try:
        return check(judgement, shown, "comparison", schema)
    except Contradiction as error:
        return f"{error.chosen} < {error.better}"
    except Invalid as error:
        return error.problem


@settings(deadline=None)
@given(JUDGEMENTS, st.sampled_from([PLAIN, RATED]))
def test_swapping_a_and_b_swaps_the_result(judgement: JudgementIn, schema: LabelSchema) -> None:
    one = outcome(judgement, ["a", "b"], schema)
    other = outcome(swapped(judgement), ["b", "a"], schema)
    if isinstance(one, JudgementIn):
        assert isinstance(other, JudgementIn)
        turned = swapped(one)
        assert (turned.verdict, turned.choice, turned.ratings, turned.strength) == (
            *(other.verdict, other.choice, other.ratings, other.strength),
        )
        assert [sorted(group) for group in turned.ranking] == [sorted(g) for g in other.ranking]
        assert sorted(turned.harmful) == other.harmful
    elif judgement.verdict == "tie" and "<" in one:
        assert other == one.translate(str.maketrans(SWAP)) or other == one
    else:
        assert other == (one.translate(str.maketrans(SWAP)) if "<" in one else one)


@settings(deadline=None)
@given(JUDGEMENTS)
def test_what_goes_into_the_table_comes_out_as_it_was_said(judgement: JudgementIn) -> None:
    said = outcome(judgement, ["a", "b"], PLAIN)
    if isinstance(said, JudgementIn):
        columns = columns_of(said, {"a": 7, "b": 5})
        content = content_of(SimpleNamespace(**columns), {7: "a", 5: "b"})
        assert content == {name: getattr(said, name) for name in columns}


# --- in the database -----------------------------------------------------------------------------


def test_what_was_said_is_kept_by_ids_of_responses(world: MakeWorld) -> None:
    here = world(items(1), schema=LabelSchema(ratings=True))
    task = here.must_claim()
    first, second = (answer.id for answer in task.answers)
    said = {"choice": second, "strength": 3, "ratings": {first: 2, second: 9}, "harmful": [first]}
    here.submit(task, **said, comment="clear", visible_ms=4200)
    row = here.standing()[0]
    ids = {one: here.response_of(task, one) for one in (first, second)}
    assert row.choice == ids[second]
    assert row.ratings == {str(ids[first]): 2, str(ids[second]): 9}
    assert row.harmful == [ids[first]]
    assert (row.strength, row.comment, row.client_ms) == (3, "clear", 4200)


def test_sent_again_with_the_same_key_it_counts_once(world: MakeWorld) -> None:
    here = world(items(1))
    task = here.must_claim()
    sent_twice = {"key": "the-same-key", "choice": task.answers[1].id}
    assert here.submit(task, **sent_twice) == here.submit(task, **sent_twice)
    assert len(here.standing()) == 1


def test_a_key_is_not_used_for_something_else(world: MakeWorld) -> None:
    here = world(items(2), users=2, overlap=2)
    task = here.must_claim()
    here.submit(task, key="the-same-key", choice=task.answers[0].id)
    with pytest.raises(Conflict, match="used for another"):
        here.submit(task, key="the-same-key", choice=task.answers[1].id)
    with pytest.raises(Conflict, match="used for another"):
        here.submit(here.must_claim(), key="the-same-key")
    here.submit(here.must_claim(1), 1, key="the-same-key")  # another person's keys are his own


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": "both_bad"},
        {"verdict": "skip", "skip_reason": "?"},
        {"harmful": True},
        {"verdict": "tie", "comment": "on second thoughts"},
    ],
)
def test_a_key_with_other_words_is_refused_not_dropped(
    world: MakeWorld, other: dict[str, Any]
) -> None:
    here = world(items(1))
    task = here.must_claim()
    first = {"key": "the-same-key", "verdict": "tie"}
    kept = here.submit(task, **first)
    assert here.submit(task, **first) == kept
    if other.get("harmful"):
        other = {"harmful": [task.answers[0].id]}
    with pytest.raises(Conflict, match="used for another"):
        here.submit(task, **{**first, **other})


def test_a_ranking_sent_again_counts_once(world: MakeWorld) -> None:
    here = world(items(1, answers=3))
    task = here.must_claim()
    a, b, c = (answer.id for answer in task.answers)
    said = {"key": "the-same-key", "ranking": [[a, b, c]], "harmful": [c, a], "choice": None}
    assert here.submit(task, **said) == here.submit(task, **said)


def test_a_second_judgement_needs_an_undo(world: MakeWorld) -> None:
    here = world(items(1))
    task = here.must_claim()
    here.submit(task)
    with pytest.raises(Conflict, match="already judged"):
        here.submit(task)


def test_undo_keeps_the_judgement_until_the_new_one_replaces_it(world: MakeWorld) -> None:
    here = world(items(2))
    task = here.must_claim()
    here.submit(task, strength=2, comment="first")
    kept = here.standing()
    back = here.undo()
    assert back is not None
    assert (back.item_id, back.answers) == (task.item_id, task.answers)
    assert back.previous is not None
    assert back.previous.choice == task.answers[0].id
    assert (back.previous.strength, back.previous.comment) == (2, "first")
    assert here.standing() == kept
    assert here.must_claim().progress.done == 1
    here.submit(back, choice=task.answers[1].id)
    with here.database.reading() as session:
        rows = session.execute(select(judgements).order_by(judgements.c.id)).all()
    assert [row.supersedes for row in rows] == [None, rows[0].id]
    assert not any(row.withdrawn for row in rows)
    assert [row.id for row in here.standing()] == [rows[1].id]
    assert here.must_claim().progress.done == 1
    assert all(told == counted for told, counted in here.counted().values())


@pytest.mark.parametrize("leave", ["release", "expire", "just leave"])
def test_who_leaves_after_undo_loses_nothing(world: MakeWorld, leave: str) -> None:
    here = world(items(2), users=2)
    here.submit(here.must_claim(), comment="kept")
    back = here.undo()
    assert back is not None
    if leave == "release":
        here.release(back)
    if leave == "expire":
        here.must_claim(1, at=now() + timedelta(days=3))
    assert [row.comment for row in here.standing()] == ["kept"]
    assert here.counted()[here.item_of(back)] == (1, 1)
    if leave != "release":  # and it can still be changed
        here.submit(back, comment="changed")
        assert [row.comment for row in here.standing()] == ["changed"]
        assert here.counted()[here.item_of(back)] == (1, 1)


def test_a_skip_that_is_being_changed_gives_its_place_back(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    here.submit(here.must_claim(), verdict="skip", skip_reason="?")
    back = here.undo()
    assert back is not None
    here.release(back)
    assert here.counted()[here.item_of(back)] == (0, 0)
    assert [row.verdict for row in here.standing()] == ["skip"]
    assert here.claim(0) is None
    assert here.item_of(here.must_claim(1)) == here.item_of(back)


def test_undo_goes_further_back_each_time_and_ends(world: MakeWorld) -> None:
    here = world(items(3))
    first, second = here.work(at_most=2)
    assert [here.undo().item_id, here.undo().item_id] == [second.item_id, first.item_id]  # type: ignore[union-attr]
    assert here.undo() is None
    # The one taken back last is on the screen first, then the other.
    assert here.must_claim().item_id == first.item_id
    here.submit(here.must_claim())
    assert here.must_claim().item_id == second.item_id


def test_nothing_to_undo(world: MakeWorld) -> None:
    assert world(items(1)).undo() is None


def test_a_skip_leaves_the_place_to_somebody_else(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    task = here.must_claim(0)
    here.submit(task, 0, verdict="skip", skip_reason="not my field")
    assert here.claim(0) is None
    other = here.must_claim(1)
    assert here.item_of(other) == here.item_of(task)
    with pytest.raises(Conflict, match="another annotator has this item now"):
        here.undo(0)
    here.submit(other, 1)
    assert here.counted()[here.item_of(task)] == (1, 1)


@pytest.mark.parametrize("allow", [("tie",), ("tie", "skip")])
def test_what_cannot_be_shown_is_skipped_in_every_project_and_reported_once(
    world: MakeWorld, allow: tuple[str, ...]
) -> None:
    here = world(items(1), schema=LabelSchema.model_validate({"allow": allow}))
    task = here.must_claim()
    said = {"verdict": "skip", "skip_reason": "cannot_be_shown", "key": "sent-twice"}
    assert here.submit(task, **said) == here.submit(task, **said)
    with here.database.reading() as session:
        found = audit.latest(session)
    assert [(one.action, one.detail) for one in found] == [
        ("item not shown", {"item": here.item_of(task)})
    ]


def test_a_skip_taken_back_in_time_is_a_judgement_like_any_other(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    here.submit(here.must_claim(), verdict="skip", skip_reason="?")
    back = here.undo()
    assert back is not None
    assert back.previous is not None
    assert (back.previous.verdict, back.previous.skip_reason) == ("skip", "?")
    assert here.claim(1) is None
    here.submit(back)
    assert [row.verdict for row in here.standing()] == ["choice"]


def test_a_contradiction_keeps_nothing_until_it_is_confirmed(world: MakeWorld) -> None:
    here = world(items(1), schema=LabelSchema(ratings=True))
    task = here.must_claim()
    first, second = (answer.id for answer in task.answers)
    said = {"choice": first, "ratings": {first: 6, second: 9}}
    with pytest.raises(Contradiction):
        here.submit(task, **said)
    assert here.standing() == []
    here.submit(task, **said, confirmed=True)
    assert len(here.standing()) == 1


def test_judgements_are_never_updated(world: MakeWorld) -> None:
    here = world(items(2))
    here.work()
    before = here.standing()
    back = here.undo()
    assert back is not None
    here.submit(back)
    with here.database.reading() as session:
        rows = session.execute(select(judgements).order_by(judgements.c.id)).all()
    assert rows[:2] == before
    assert len(rows) == 3


def test_a_ranking_of_four_is_kept_with_its_ties(world: MakeWorld) -> None:
    here = world(items(1, answers=4))
    task = here.must_claim()
    a, b, c, d = (answer.id for answer in task.answers)
    here.submit(task, ranking=[[c], [a, d], [b]], choice=None)
    row = here.standing()[0]
    ids = {here.response_of(task, one): one for one in (a, b, c, d)}
    assert [[ids[one] for one in group] for group in row.ranking] == [[c], [a, d], [b]]
    assert row.choice is not None
    assert ids[row.choice] == c
    assert said_of(task).ranking
