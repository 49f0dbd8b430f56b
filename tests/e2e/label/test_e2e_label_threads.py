"""Twenty annotators at once, on both databases: nobody twice, and never more than asked for."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from label_support import items, make_world, said_of
from sqlalchemy import select

from alignloop.errors import UserError
from alignloop.label.store import judging
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.refusals import Contradiction
from alignloop.label.store.tables import ItemRow

PEOPLE, ITEMS, OVERLAP = 20, 30, 3

pytestmark = pytest.mark.slow


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work(0)`, ..., `work(count - 1)` in threads that start together."""
    together = threading.Barrier(count)

    def run(number: int) -> object:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_overlap_is_exact_under_twenty_threads(any_database: Database) -> None:
    first = make_world(any_database, items(ITEMS), users=PEOPLE, overlap=OVERLAP, repeats=0.1)
    # Half of them through another Database, as if of another process: no lock of Python's helps.
    url = any_database.engine.url.render_as_string(hide_password=False)
    other = open_database(url, migrate=False)

    def work(user: int) -> int:
        """Skips, releases and takes back now and then, as people do."""
        here = first if user % 2 else replace(first, database=other)
        done = 0
        while (task := here.claim(user)) is not None:
            if (task.assignment_id + user) % 7 == 0 and done % 3 == 1:
                here.release(task, user)
                task = here.claim(user)
                if task is None:  # somebody else took what was given back
                    return done
            skipping = (task.assignment_id * 31 + user) % 11 == 0
            said = {"verdict": "skip", "skip_reason": "not my language"} if skipping else {}
            here.submit(task, user, **said)
            done += 1
            if done % 5 == 0 and not skipping:
                back = here.undo(user)
                assert back is not None
                here.submit(back, user)
        return done

    at_once(PEOPLE, work)
    other.close()
    here = first
    for user in range(PEOPLE):  # what the last ones skipped when the others had gone home
        here.work(user)
    said = here.standing()
    assert len({(one.item_id, one.user_id) for one in said}) == len(said)
    judged = Counter(one.item_id for one in said if one.verdict != "skip")
    with any_database.reading() as session:
        wanted = {one.id: one for one in session.scalars(select(ItemRow))}
    assert all(judged[item] <= OVERLAP for item in wanted)
    # Twenty people are enough for every item, whoever skips it; repeats have only who judged.
    assert {judged[item] for item, row in wanted.items() if row.repeat_of is None} == {OVERLAP}
    assert all(told == counted for told, counted in here.counted().values())


def test_twenty_claims_of_one_item_give_it_to_one(any_database: Database) -> None:
    here = make_world(any_database, items(1), users=PEOPLE)
    given = at_once(PEOPLE, lambda user: here.claim(user))
    assert sum(task is not None for task in given) == 1


def test_two_tabs_of_one_person_show_one_item(any_database: Database) -> None:
    here = make_world(any_database, items(ITEMS))
    given = at_once(8, lambda _: here.must_claim().assignment_id)
    assert len(set(given)) == 1


def test_a_judgement_sent_many_times_at_once_counts_once(any_database: Database) -> None:
    here = make_world(any_database, items(2))
    task = here.must_claim()
    sent = said_of(task)

    def submit(_: int) -> int:
        with any_database.transaction() as session:
            return judging.submit(session, task.assignment_id, here.users[0], sent)

    ids = at_once(10, submit)
    assert len(set(ids)) == 1
    assert len(here.standing()) == 1


def test_different_judgements_of_one_item_at_once_leave_one(any_database: Database) -> None:
    here = make_world(any_database, items(1))
    task = here.must_claim()

    def submit(_: int) -> bool:
        try:
            here.submit(task)
        except UserError as error:
            assert not isinstance(error, Contradiction)
            return False
        return True

    assert sum(bool(done) for done in at_once(10, submit)) == 1
    assert len(here.standing()) == 1


def test_undo_sent_twice_at_once_takes_one_judgement_back(any_database: Database) -> None:
    here = make_world(any_database, items(1))
    here.work()
    given = at_once(2, lambda _: here.undo())
    assert sum(task is not None for task in given) >= 1
    assert len(here.standing()) == 1  # until another answer replaces it
    assert here.counted() == dict.fromkeys(here.counted(), (1, 1))
