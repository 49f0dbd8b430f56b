"""Scores from outside: order, control share, reasons."""

from collections.abc import Callable

import pytest
from label_support import World, items
from sqlalchemy import select

from alignloop.label.store.ranking import count_labels, open_items, set_scores
from alignloop.label.store.refusals import Invalid
from alignloop.label.store.tables import ItemRow

MakeWorld = Callable[..., World]


def rows(here: World) -> dict[int, ItemRow]:
    """All items by id."""
    with here.database.reading() as session:
        return {row.id: row for row in session.scalars(select(ItemRow))}


def test_items_come_by_score_and_a_share_by_chance(world: MakeWorld) -> None:
    here = world(items(200))
    scores = {item: float(item) for item in rows(here)}
    ranked, control = set_scores(
        here.database, here.project_id, scores, why="uncertain", control=0.2, seed=3
    )
    assert ranked == 200
    assert 20 <= control <= 60  # four standard deviations
    given = [here.item_of(task) for task in here.work(at_most=60)]
    known = rows(here)
    by_score = [item for item in given if not known[item].why_detail["control"]]
    by_chance = [item for item in given if known[item].why_detail["control"]]
    assert by_score == sorted(by_score, reverse=True)
    assert min(by_score) > 100
    assert len(by_chance) == pytest.approx(60 * control / 200, abs=2)
    assert min(by_chance) < 100  # drawn from all
    assert {known[item].why for item in by_score} == {"uncertain"}
    assert {known[item].why for item in by_chance} == {"random"}
    assert all(known[item].priority == item for item in given)


def test_ranking_again_keeps_the_control_items_and_starts_from_the_top(world: MakeWorld) -> None:
    here = world(items(100), users=2, overlap=2)
    scores = {item: float(item) for item in rows(here)}
    again = {item: -score for item, score in scores.items()}
    set_scores(here.database, here.project_id, scores, why="uncertain", control=0.1)
    first = [here.item_of(task) for task in here.work(at_most=20)]
    before = {item: row.why_detail["control"] for item, row in rows(here).items()}
    reasons = {item: rows(here)[item].why_detail for item in first}
    set_scores(here.database, here.project_id, again, why="ensemble", control=0.1)
    after = rows(here)
    assert {item: row.why_detail["control"] for item, row in after.items()} == before
    assert {item: after[item].why_detail for item in first} == reasons  # it was asked for that
    then = [here.item_of(task) for task in here.work(at_most=10)]
    chosen = [item for item in then if not before[item]]
    assert chosen == sorted(chosen)
    assert max(chosen) < 20
    assert not set(first) & set(then)


def test_what_has_no_score_keeps_its_place(world: MakeWorld) -> None:
    here = world(items(20))
    before = {item: row.position for item, row in rows(here).items()}
    set_scores(here.database, here.project_id, {1: 1.0, 2: 2.0}, why="score", control=0.0)
    after = {item: row.position for item, row in rows(here).items()}
    assert {item for item in after if after[item] != before[item]} == {1, 2}
    assert after[2] < after[1]
    with pytest.raises(Invalid, match="no open item"):
        set_scores(here.database, here.project_id, {999: 1.0}, why="score")


def test_open_items_are_those_that_want_more(world: MakeWorld) -> None:
    here = world(items(5))
    done = {here.item_of(task) for task in here.work(at_most=2)}
    with here.database.reading() as session:
        found = open_items(session, here.project_id)
        assert count_labels(session, here.project_id) == 2
    assert {one.item_id for one in found} == set(rows(here)) - done
    assert found[0].prompt.text.startswith("Question")
    assert len(found[0].answers) == 2
