"""The queue: overlap, leases, once each, gold, repeats, priority."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from label_support import SLUG, World, items
from sqlalchemy import select

from alignloop.label.store import batches, projects, queue
from alignloop.label.store.importing import ALL_ANNOTATORS, import_items
from alignloop.label.store.queue import REPEAT_AFTER
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import Assignment, ItemRow, Presentation, now

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
    assert other.item_id == task.item_id
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
    if taken.item_id == late.item_id:
        here.release(taken, 1)
    here.submit(late, 0)
    assert all(told == counted for told, counted in here.counted().values())
    assert [one.item_id for one in here.standing()] == [late.item_id]


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
    assert here.counted()[task.item_id] == (0, 0)


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
        batches.change_batch(session, here.project_id, closed.id, closed=True)
    assert [task.progress.batch for task in here.work()] == ["urgent", "urgent", "first", "first"]
    with here.database.transaction() as session:
        batches.change_batch(session, here.project_id, closed.id, closed=False)
    assert [task.progress.batch for task in here.work()] == ["closed", "closed"]


def test_gold_questions_go_to_everybody_and_look_like_the_others(world: MakeWorld) -> None:
    here = world(items(6), users=3, overlap=1)
    gold = items(2, start=50)
    gold = [
        one.model_copy(update={"gold": one.comparison.responses[0].response_id}) for one in gold
    ]
    here.file(gold)
    seen = [here.work(user) for user in range(3)]
    with here.database.reading() as session:
        marked = set(session.scalars(select(ItemRow.id).where(ItemRow.wanted == ALL_ANNOTATORS)))
    for tasks in seen:
        assert marked <= {task.item_id for task in tasks}
        assert "gold" not in "".join(task.model_dump_json() for task in tasks)
    # Every answer moves the annotator's own count on by one, whatever kind of item it was.
    assert [task.progress.batch_done for task in seen[0]] == list(range(len(seen[0])))
    assert {task.progress.batch_total for task in seen[0]} == {8}


def test_repeats_go_to_who_judged_the_original_and_come_later(world: MakeWorld) -> None:
    here = world(items(36), users=2, overlap=1, repeats=0.25)
    tasks = [here.work(0, at_most=18), here.work(1), here.work(0)]
    mine = {0: tasks[0] + tasks[2], 1: tasks[1]}
    with here.database.reading() as session:
        original = {one.id: one.repeat_of for one in session.scalars(select(ItemRow))}
    repeats = {item for item, of in original.items() if of is not None}
    assert 2 <= len(repeats) <= 20
    shown = 0
    for user in (0, 1):
        order = [task.item_id for task in mine[user]]
        for place, item in enumerate(order):
            if item in repeats:
                assert order.index(original[item]) < place
                shown += 1
    assert shown == len(repeats)
    assert all(told == counted == 1 for told, counted in here.counted().values())


def test_items_lie_between_an_item_and_its_repeat(world: MakeWorld) -> None:
    here = world(items(40), repeats=0.5)
    order = [task.item_id for task in here.work()]
    with here.database.reading() as session:
        pairs = {one.id: one.repeat_of for one in session.scalars(select(ItemRow)) if one.repeat_of}
    gaps = sorted(order.index(item) - order.index(of) for item, of in pairs.items())
    assert gaps[0] > 0
    assert sum(gap >= REPEAT_AFTER for gap in gaps) >= 0.9 * len(gaps)


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


def test_progress_counts_ones_own_judgements(world: MakeWorld) -> None:
    here = world(items(3), users=2, overlap=2)
    here.work(1)
    task = here.must_claim(0)
    assert (task.progress.today, task.progress.batch_done, task.progress.batch_total) == (0, 0, 3)
    here.submit(task, 0)
    assert here.must_claim(0).progress.batch_done == 1
    assert here.must_claim(0).progress.today == 1


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


def test_what_was_skipped_is_not_asked_again(world: MakeWorld) -> None:
    here = world(items(12), repeats=0.5)
    with here.database.reading() as session:
        repeated = set(
            session.scalars(select(ItemRow.repeat_of).where(ItemRow.repeat_of.is_not(None)))
        )
    assert repeated
    skipped = 0
    while (task := here.claim()) is not None:
        with here.database.reading() as session:
            assert session.get_one(ItemRow, task.item_id).repeat_of is None
        here.submit(task, verdict="skip", skip_reason="upsetting")
        skipped += 1
    assert skipped == 12
