"""Items assigned to people: who is offered what, and in which order."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import SLUG, World, items, make_lead, make_token
from sqlalchemy import select

from alignloop.label import Client
from alignloop.label.store import assigning, members, projects
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tables import Batch, ItemRow

MakeWorld = Callable[..., World]


def assign(world: World, *users: int, **which: Any) -> int:
    with world.database.transaction() as session:
        batch = session.get_one(Batch, world.batch_id)
        return assigning.assign(session, batch, [world.users[n] for n in users], **which)


def questions(world: World, user: int) -> list[str]:
    """The questions that somebody gets, until nothing is left for them."""
    return [task.prompt[0].text for task in world.work(user)]


def test_an_assigned_item_goes_to_that_person_alone(world: MakeWorld) -> None:
    here = world(items(6), users=2)
    assert assign(here, 1, keys=["c2", "c4"]) == 2
    assert set(questions(here, 0)) == {f"Question {n}?" for n in (0, 1, 3, 5)}
    assert set(questions(here, 1)) == {"Question 2?", "Question 4?"}
    assert all(told == counted for told, counted in here.counted().values())


def test_assigned_items_come_first(world: MakeWorld) -> None:
    here = world(items(20), users=2, overlap=2)
    assign(here, 0, keys=["c3", "c8", "c17"], only=False)
    order = questions(here, 0)
    assert set(order[:3]) == {"Question 3?", "Question 8?", "Question 17?"}
    assert len(order) == 20
    # without `only` everybody else gets them too
    assert len(questions(here, 1)) == 20


def test_assigned_items_come_before_another_batch_of_higher_priority(world: MakeWorld) -> None:
    from alignloop.label.store.importing import import_items

    here = world(items(3))
    with here.database.transaction() as session:
        urgent = projects.create_batch(session, here.project_id, "urgent", priority=9)
    import_items(here.database, here.project_id, urgent.id, items(3, start=50))
    assign(here, 0, keys=["c1"])
    assert questions(here, 0)[0] == "Question 1?"


def test_the_next_few_and_then_the_next_few_for_others(world: MakeWorld) -> None:
    here = world(items(10), users=3)
    assert assign(here, 0, count=4) == 4
    assert assign(here, 1, count=4) == 4
    given = [set(questions(here, user)) for user in (2, 0, 1)]
    assert [len(one) for one in given] == [2, 4, 4]
    assert len(set.union(*given)) == 10


def test_a_whole_batch_for_two_with_overlap_two(world: MakeWorld) -> None:
    here = world(items(5), users=3, overlap=2)
    assert assign(here, 0, 1) == 5
    assert [len(questions(here, user)) for user in (2, 0, 1)] == [0, 5, 5]


def test_what_is_returned_comes_again_after_the_rest(world: MakeWorld) -> None:
    here = world(items(5))
    assign(here, 0, keys=["c2"])
    task = here.must_claim()
    assert task.prompt[0].text == "Question 2?"
    here.release(task)
    order = questions(here, 0)
    assert order[0] != "Question 2?" and "Question 2?" in order and len(order) == 5


def test_taking_items_back_gives_them_to_everybody(world: MakeWorld) -> None:
    here = world(items(4), users=2)
    assign(here, 1)
    assert here.claim(0) is None
    with here.database.transaction() as session:
        batch = session.get_one(Batch, here.batch_id)
        assert assigning.unassign(session, batch, [here.users[1]]) == 4
    assert len(questions(here, 0)) == 4


def test_items_of_two_stay_with_the_other_when_one_is_taken_out(world: MakeWorld) -> None:
    here = world(items(4), users=3)
    assign(here, 0, keys=["c0", "c1"])
    assign(here, 1, keys=["c1"])
    with here.database.transaction() as session:
        members.remove_member(session, here.project_id, here.users[0])
    # c0 was for the one who left alone, and is for all now; c1 is for the other
    assert set(questions(here, 2)) == {"Question 0?", "Question 2?", "Question 3?"}
    assert questions(here, 1) == ["Question 1?"]


def test_gold_questions_and_repeats_are_not_assigned(world: MakeWorld) -> None:
    gold = items(2, start=90, gold="p90#0")[:1]
    here = world([*items(10), *gold], users=2, repeats=0.3)
    assert assign(here, 0) == 10
    with here.database.reading() as session:
        kept = session.scalars(select(ItemRow).where(ItemRow.reserved))
        assert all(one.gold_verdict is None and one.repeat_of is None for one in kept)
    assert questions(here, 1) == ["Question 90?"]
    with pytest.raises(NotFound, match="1 of these ids are no ordinary items"):
        assign(here, 0, keys=["c1", "c90"])


def test_a_closed_batch_is_not_offered(world: MakeWorld) -> None:
    here = world(items(3))
    assign(here, 0)
    with here.database.transaction() as session:
        projects.close_batch(session, here.project_id, here.batch_id, closed=True)
    assert here.claim(0) is None


def test_counts_say_who_has_done_what(world: MakeWorld) -> None:
    here = world(items(6), users=2)
    assign(here, 0, count=4)
    here.work(0, at_most=3)
    with here.database.reading() as session:
        (told,) = assigning.count_assigned(session, here.project_id)
    assert (told.user, told.batch, told.assigned, told.done) == ("ann0", "first", 4, 3)


def test_by_the_client(app: FastAPI, world: MakeWorld) -> None:
    from fastapi.testclient import TestClient

    here = world(items(6), users=2)
    token = make_token(here.database, make_lead(here.database), "lead")
    http: Any = TestClient(app, base_url="http://localhost")
    client = Client("http://localhost", token, http=http)
    assert client.assign(SLUG, "first", ["ann0"], comparison_ids=["c1", "c2"]) == 2
    told = http.get(f"/api/v1/projects/{SLUG}/assigned", headers=client._headers).json()
    assert told == [{"user": "ann0", "batch": "first", "assigned": 2, "done": 0}]
    assert len(questions(here, 1)) == 4
    assert client.unassign(SLUG, "first", ["ann0"]) == 2
    client.remove_member(SLUG, "ann0")
    from alignloop.label.store.refusals import Conflict

    with pytest.raises(Conflict, match="not in the project"):
        client.assign(SLUG, "first", ["ann0"])
    assert "ann0" not in {one["name"] for one in client.members(SLUG)}
