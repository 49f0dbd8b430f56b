"""The queue: overlap, leases, once each, gold, repeats, priority."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from label_support import SLUG, World, items
from sqlalchemy import select

from alignloop.label.store import projects, queue
from alignloop.label.store.importing import import_items
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import Assignment, Batch, ItemRow, Presentation, now
from alignloop.label.store.tasks import Task

MakeWorld = Callable[..., World]


def test_every_item_is_judged_overlap_times_by_different_people(world: MakeWorld) -> None:
    here = world(items(12), users=4, overlap=3)
    for user in range(4):
        here.work(user)
    said = [(one.item_id, one.user_id) for one in here.standing()]
    assert len(said) == len(set(said)) == 12 * 3
    assert set(Counter(item for item, _ in said).values()) == {3}
    assert all(told == counted == 3 for told, counted in here.counted().values())


def test_a_claim_repeats_until_it_is_answered(world: MakeWorld) -> None:
    here = world(items(3))
    first, again = here.must_claim(), here.must_claim()
    assert first == again
    here.submit(first)
    assert here.must_claim().item_id != first.item_id


def test_nothing_is_left_at_the_end(world: MakeWorld) -> None:
    here = world(items(2))
    assert len(here.work()) == 2
    assert here.claim() is None


def test_an_unknown_project_is_not_found(world: MakeWorld) -> None:
    here = world()
    with here.database.transaction() as session, pytest.raises(NotFound, match="no such project"):
        queue.claim(session, "nowhere", here.users[0])


def test_an_item_that_is_out_is_nobody_elses(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    assert here.claim(0) is not None
    assert here.claim(1) is None


def test_an_expired_lease_goes_to_somebody_else(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    task = here.must_claim(0, lease=timedelta(minutes=1))
    assert here.claim(1, at=now() + timedelta(seconds=59)) is None
    other = here.must_claim(1, at=now() + timedelta(seconds=61))
    assert here.item_of(other) == here.item_of(task)
    with pytest.raises(Conflict, match="another annotator has it now"):
        here.submit(task, 0)
    here.submit(other, 1)
    assert [one.user_id for one in here.standing()] == [here.users[1]]


def test_who_is_late_may_still_answer_while_the_place_is_free(world: MakeWorld) -> None:
    here = world(items(2), users=2)
    late = here.must_claim(0, lease=timedelta(minutes=1))
    # Somebody else's claim frees the lease that ran out, and takes the other item.
    free = now() + timedelta(minutes=2)
    taken = here.must_claim(1, at=free)
    if here.item_of(taken) == here.item_of(late):
        here.release(taken, 1)
    here.submit(late, 0)
    assert all(told == counted for told, counted in here.counted().values())
    assert [one.item_id for one in here.standing()] == [here.item_of(late)]


def test_a_lease_that_ran_out_stays_ones_own_while_nobody_needs_it(world: MakeWorld) -> None:
    here = world(items(3))
    task = here.must_claim(0, lease=timedelta(minutes=1))
    again = here.must_claim(0, at=now() + timedelta(hours=5))
    assert again.assignment_id == task.assignment_id


def test_what_is_given_back_comes_round_again(world: MakeWorld) -> None:
    here = world(items(2))
    first = here.must_claim()
    here.release(first)
    second = here.must_claim()
    assert second.item_id != first.item_id
    here.submit(second)
    again = here.must_claim()
    assert (again.item_id, again.assignment_id) == (first.item_id, first.assignment_id)
    assert again.answers == first.answers


def test_releasing_twice_frees_one_place(world: MakeWorld) -> None:
    here = world(items(1))
    task = here.must_claim()
    here.release(task)
    here.release(task)
    assert here.counted()[here.item_of(task)] == (0, 0)


@pytest.mark.slow
def test_a_judged_item_is_not_given_back(world: MakeWorld) -> None:
    here = world(items(1))
    task = here.must_claim()
    here.submit(task)
    with pytest.raises(Conflict, match="already judged"):
        here.release(task)


def test_somebody_elses_assignment_is_not_there(world: MakeWorld) -> None:
    here = world(items(1), users=2)
    task = here.must_claim(0)
    with pytest.raises(NotFound):
        here.release(task, 1)
    with pytest.raises(NotFound):
        here.submit(task, 1)


def test_a_batch_of_higher_priority_comes_first_and_a_closed_one_never(world: MakeWorld) -> None:
    here = world(items(2))
    with here.database.transaction() as session:
        urgent = projects.create_batch(session, here.project_id, "urgent", priority=5)
        closed = projects.create_batch(session, here.project_id, "closed", priority=9)
    import_items(here.database, here.project_id, urgent.id, items(2, start=10))
    import_items(here.database, here.project_id, closed.id, items(2, start=20))
    with here.database.transaction() as session:
        projects.close_batch(session, here.project_id, closed.id, closed=True)
    assert batches(here, here.work()) == ["urgent", "urgent", "first", "first"]
    with here.database.transaction() as session:
        projects.close_batch(session, here.project_id, closed.id, closed=False)
    assert batches(here, here.work()) == ["closed", "closed"]


def batches(here: World, tasks: list[Task]) -> list[str]:
    """The batch of each task, which no annotator sees."""
    with here.database.reading() as session:
        rows = session.execute(
            select(ItemRow.id, Batch.name).join(Batch, Batch.id == ItemRow.batch_id)
        )
        names = {row[0]: row[1] for row in rows}
    return [names[here.item_of(task)] for task in tasks]


def test_the_order_is_stable_on_reload_and_recorded(world: MakeWorld) -> None:
    here = world(items(5, answers=4))
    task = here.must_claim()
    assert here.must_claim().answers == task.answers
    with here.database.reading() as session:
        shown = session.scalars(
            select(Presentation).where(Presentation.assignment_id == task.assignment_id)
        ).one()
        state = session.get_one(Assignment, task.assignment_id).state
    assert len(set(shown.order)) == 4
    assert state == "leased"


def test_new_items_reach_who_was_through(world: MakeWorld) -> None:
    here = world(items(4))
    here.work()
    here.file(items(4, start=4))
    assert len(here.work()) == 4
    assert here.claim() is None


def test_the_guideline_that_was_shown_is_kept_with_the_judgement(world: MakeWorld) -> None:
    here = world(items(1))
    task = here.must_claim()
    with here.database.transaction() as session:
        projects.add_guideline(session, here.project_id, "new", "新")
    here.submit(task)
    assert [one.guideline_version for one in here.standing()] == [1]
    assert (task.guideline.version, SLUG) == (1, "demo")
