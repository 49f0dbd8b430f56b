"""Discard and ask again: what drops out, who is asked, and how it comes back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_support import World, items, make_world
from sqlalchemy import func, select

from alignloop.label.store import discarding, judging, overview
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.discarding import Preview, Which
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tables import Assignment, judgements

MakeWorld = Callable[..., World]


def throw_out(world: World, user: int = 0, why: str = "clicked at random", **period: Any) -> int:
    """Discard what annotator number `user` judged."""
    which = Which(annotator=world.names[user], **period)
    with world.database.transaction() as session:
        return discarding.discard(session, world.project_id, which, why, by=None)


def bring_back(world: World, discard_id: int) -> int:
    with world.database.transaction() as session:
        return discarding.undo_discard(session, world.project_id, discard_id, by=None)


def preview(world: World, user: int = 0, **period: Any) -> Preview:
    which = Which(annotator=world.names[user], **period)
    with world.database.reading() as session:
        return discarding.preview(session, world.project_id, which)


def read(world: World) -> list[tuple[str, str]]:
    """Who judged which comparison, as exports and figures see it."""
    with world.database.reading() as session:
        labels = load_labels(session, world.project_id)
    return [(j.annotator, labels.items[j.item_id].comparison_id) for j in labels.judgements]


def test_others_are_asked_again_and_the_same_person_is_not(world: MakeWorld) -> None:
    here = world(items(3), users=3, overlap=2)
    assert len(here.work(0)) == len(here.work(1)) == 3
    assert here.claim(2) is None
    assert preview(here) == Preview(judgements=3, questions=3, asked_again=3, gold=0)
    throw_out(here)
    assert {name for name, _ in read(here)} == {"ann1"}
    assert here.claim(0) is None
    assert len(here.work(2)) == 3
    assert all(taken == counted == 2 for taken, counted in here.counted().values())
    assert sorted(name for name, _ in read(here)) == ["ann1"] * 3 + ["ann2"] * 3


def test_undoing_it_makes_everything_valid_again(world: MakeWorld) -> None:
    here = world(items(3), users=2)
    here.work(0)
    before = read(here)
    number = throw_out(here)
    assert read(here) == []
    assert bring_back(here, number) == 3
    assert read(here) == before
    assert here.claim(1) is None
    with pytest.raises(Conflict, match="undone already"):
        bring_back(here, number)
    throw_out(here)  # and out once more
    assert read(here) == []


def test_what_others_judged_meanwhile_stays(world: MakeWorld) -> None:
    here = world(items(2), users=2)
    here.work(0)
    number = throw_out(here)
    assert len(here.work(1)) == 2
    bring_back(here, number)
    assert len(read(here)) == 4  # more than asked for, and nothing lost
    assert here.claim(0) is None and here.claim(1) is None
    assert all(taken == counted == 2 for taken, counted in here.counted().values())


def test_a_period_from_its_beginning_until_before_its_end(world: MakeWorld) -> None:
    here = world(items(4), users=2)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    for day in range(4):
        task = here.must_claim(0)
        here.submit(task, 0, at=start + timedelta(days=day))
    day = timedelta(days=1)
    assert preview(here, since=start + day, until=start + 3 * day).judgements == 2
    throw_out(here, since=start + day, until=start + 3 * day)
    assert len(read(here)) == 2
    assert len(here.work(1)) == 2


def test_nothing_is_deleted_and_who_did_it_is_kept(world: MakeWorld) -> None:
    here = world(items(2))
    here.work(0)
    number = throw_out(here, why="  agrees with nobody ")
    with here.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(judgements)) == 2
        rows = overview.list_judgements(session, here.project_id)
        (seen,) = discarding.list_discards(session, here.project_id)
    assert [(row["standing"], row["discarded"]) for row in rows] == [(False, True)] * 2
    assert (seen.id, seen.annotator, seen.why) == (number, "ann0", "agrees with nobody")
    assert (seen.judgements, seen.by, seen.undone_at) == (2, "", None)


def test_gold_questions_and_skips(world: MakeWorld) -> None:
    gold = items(1, start=50, gold="p50#0")
    here = world([*items(2), *gold], users=2)
    while (task := here.claim(0)) is not None:
        is_first = task.prompt[0].text == "Question 0?"
        more = {"verdict": "skip", "skip_reason": "broken"} if is_first else {}
        here.submit(task, 0, **more)
    # the skip took no place, and a gold question has places for everybody
    assert preview(here) == Preview(judgements=3, questions=3, asked_again=1, gold=1)
    throw_out(here)
    assert len(here.work(1)) == 3


def test_a_late_answer_to_a_discarded_item_is_refused(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    task = here.must_claim(0)
    here.submit(task, 0)
    throw_out(here)
    with pytest.raises(Conflict, match="took your judgement of this item out"):
        here.submit(task, 0)
    assert here.undo(0) is None


def test_a_changed_answer_is_discarded_with_its_history(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    here.submit(here.must_claim(0), 0)
    again = here.undo(0)
    assert again is not None
    here.submit(again, 0, verdict="tie")
    throw_out(here)
    assert read(here) == []  # what the tie replaced does not come back
    assert here.claim(1) is not None


def test_what_cannot_be_discarded_is_said(world: MakeWorld) -> None:
    here = world(items(1))
    with pytest.raises(Invalid, match="no valid judgements"):
        throw_out(here)
    here.work(0)
    with pytest.raises(Invalid, match="needs a reason"):
        throw_out(here, why=" ")
    later = datetime(2026, 1, 5, tzinfo=UTC)
    with pytest.raises(Invalid, match="ends before it begins"):
        throw_out(here, since=later, until=later)
    with here.database.transaction() as session, pytest.raises(NotFound, match="no such account"):
        discarding.discard(session, here.project_id, Which(annotator="zoe"), "why")
    with pytest.raises(NotFound, match="no such discard"):
        bring_back(here, 7)


STEPS = st.lists(
    st.tuples(st.sampled_from(["judge", "skip", "undo", "discard", "back"]), st.integers(0, 2)),
    max_size=14,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_places_are_counted_right_whatever_happens(
    steps: list[tuple[str, int]], tmp_path_factory: Any
) -> None:
    """After any sequence: `taken` is what assignments say, and nobody judges an item twice."""
    database: Database = open_database(tmp_path_factory.mktemp("any"))
    here = make_world(database, items(3), users=3, overlap=2)
    made: list[int] = []
    for what, user in steps:
        _step(here, what, user, made)
        assert all(taken == counted for taken, counted in here.counted().values())
    with database.reading() as session:
        twice = select(Assignment.id).group_by(Assignment.item_id, Assignment.user_id)
        assert session.execute(twice.having(func.count() > 1)).all() == []
        valid = [row.id for row in session.execute(judging.standing())]
    assert len(valid) == len(read(here))
    database.close()


def _step(here: World, what: str, user: int, made: list[int]) -> None:
    if what in ("judge", "skip"):
        task = here.claim(user)
        if task is not None:
            skip = {"verdict": "skip", "skip_reason": "broken"} if what == "skip" else {}
            here.submit(task, user, **skip)
    try:
        if what == "undo":
            here.undo(user)
        elif what == "discard":
            made.append(throw_out(here, user))
        elif what == "back" and made:
            bring_back(here, made[-1])
    except (Conflict, Invalid):
        pass
