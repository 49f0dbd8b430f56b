"""A batch that has items already: further opinions, and more repeats."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from label_support import World, items
from sqlalchemy import select

from alignloop.label.store import batches
from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tables import Batch, ItemRow

MakeWorld = Callable[..., World]


def change(here: World, **given: float) -> batches.BatchChange:
    """Change the only batch."""
    with here.database.transaction() as session:
        return batches.change_batch(session, here.project_id, here.batch_id, **given)  # type: ignore[arg-type]


def wanted(here: World) -> set[int]:
    with here.database.reading() as session:
        rows = session.scalars(select(ItemRow).where(ItemRow.gold_verdict.is_(None)))
        return {item.wanted for item in rows}


def test_a_third_opinion_is_asked_for(world: MakeWorld) -> None:
    here = world(items(4), users=3, overlap=1, repeats=0.5)
    done = here.work(0)
    assert here.claim(1) is None
    assert change(here, overlap=3).words() == "overlap 1 -> 3"
    assert wanted(here) == {3}
    assert len({task.item_id for task in here.work(1)}) >= 4
    assert len({task.item_id for task in here.work(2)}) >= 4
    assert here.claim(0) is None and len(done) >= 4  # nobody is asked twice
    new = here.file(items(1, start=9))
    assert (new.added, wanted(here)) == (1, {3})


def test_a_lower_overlap_discards_nothing(world: MakeWorld) -> None:
    here = world(items(4), users=2, overlap=2)
    here.work(0)
    change(here, overlap=1)
    assert here.claim(1) is None
    assert len(here.standing()) == 4


def test_gold_questions_stay_for_everybody(world: MakeWorld) -> None:
    gold = [replace_gold(one) for one in items(1)]
    here = world([*gold, *items(2, start=5)], users=3, overlap=1)
    change(here, overlap=2)
    for user in range(3):
        assert gold[0].comparison.prompt.text in {task.prompt[-1].text for task in here.work(user)}


def replace_gold(item: object) -> object:
    return item.model_copy(update={"gold": "p0#0"})  # type: ignore[attr-defined]


def test_more_repeats_are_added_and_fewer_refused(world: MakeWorld) -> None:
    here = world(items(60), repeats=0.2)
    with here.database.reading() as session:
        first = {one.repeat_of for one in session.scalars(select(ItemRow)) if one.repeat_of}
    change(here, repeats=0.5)
    with here.database.reading() as session:
        rows = list(session.scalars(select(ItemRow)))
        batch = session.get_one(Batch, here.batch_id)
    again = [one.repeat_of for one in rows if one.repeat_of]
    assert first < set(again) and len(again) == len(set(again))
    assert batch.num_items == len(rows)
    with pytest.raises(Conflict, match="can only grow"):
        change(here, repeats=0.1)
    assert len(here.work()) == len(rows)


def test_what_no_batch_may_have_is_refused(world: MakeWorld) -> None:
    here = world(items(1))
    for bad in ({"overlap": 0}, {"overlap": 101}, {"repeats": 0.6}):
        with pytest.raises(Invalid):
            change(here, **bad)
    with pytest.raises(NotFound):
        change(replace(here, batch_id=99), overlap=2)


def test_those_in_another_batch_are_counted(world: MakeWorld) -> None:
    here = world(items(3))
    with here.database.transaction() as session:
        other = batches.batch_for_import(session, here.project_id, "second", overlap=3).batch.id
    done = replace(here, batch_id=other).file(items(5))
    assert (done.added, done.duplicates, done.elsewhere) == (2, 3, 3)
