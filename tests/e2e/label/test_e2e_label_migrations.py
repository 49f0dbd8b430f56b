"""Migrations: up, down, up again, and equal to the models, on both databases."""

import threading
from pathlib import Path
from typing import Any

import pytest
from label_support import items, make_world
from sqlalchemy import event, inspect, text

from alignloop.errors import UserError
from alignloop.label.store import migrate
from alignloop.label.store.database import Database, open_database
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import Base

pytestmark = pytest.mark.slow


def names(database: Database) -> set[str]:
    """The tables that are there."""
    return set(inspect(database.engine).get_table_names())


def test_the_migrations_make_what_the_models_say(any_database: Database) -> None:
    assert migrate.differences(any_database.engine) == []
    assert names(any_database) == {*Base.metadata.tables, "alembic_version"}


def test_what_differs_from_the_models_is_found(any_database: Database) -> None:
    with any_database.writer.begin() as connection:
        connection.execute(text("DROP INDEX ix_item_ordinary"))
        connection.execute(text("ALTER TABLE guideline ADD COLUMN left_over INTEGER"))
    found = str(migrate.differences(any_database.engine))
    assert "ix_item_ordinary" in found
    assert "left_over" in found


def test_down_leaves_nothing_and_up_makes_it_again(any_database: Database) -> None:
    migrate.downgrade(any_database.engine, "base")
    assert names(any_database) == {"alembic_version"}
    migrate.upgrade(any_database.engine)
    assert migrate.differences(any_database.engine) == []
    world = make_world(any_database, items(3))
    assert len(world.work()) == 3


def test_decisions_from_before_are_kept(any_database: Database) -> None:
    """A decision of a database at 0002 counts, and says no more than it did."""
    world = make_world(any_database, items(1))
    migrate.downgrade(any_database.engine, "0002")
    with any_database.writer.begin() as connection:
        columns = "item_id, user_id, verdict, comment, created_at"
        values = f"1, {world.users[0]}, 'tie', 'so', '2026-01-05 09:00:00+00:00'"
        connection.execute(text(f"INSERT INTO adjudication ({columns}) VALUES ({values})"))
    migrate.upgrade(any_database.engine)
    with any_database.reading() as session:
        (decided,) = load_labels(session, world.project_id).decisions.values()
    assert (decided.verdict, decided.comment) == ("tie", "so")
    assert (decided.strength, decided.ranking) == (None, ())


def test_who_worked_before_the_checks_keeps_turns_repeats_and_is_let_in(
    any_database: Database,
) -> None:
    world = make_world(any_database, items(60), repeats=0.5)
    world.work(at_most=12)
    migrate.downgrade(any_database.engine, "0003")
    migrate.upgrade(any_database.engine)
    assert migrate.differences(any_database.engine) == []
    with any_database.engine.connect() as connection:
        seats = connection.execute(text("SELECT turn, entry FROM seat")).all()
        due = connection.execute(text("SELECT count(repeat_due) FROM assignment")).scalar_one()
    assert [tuple(seat) for seat in seats] == [(12, "passed")]
    assert due > 0
    world.rule(quota=40)
    assert len(world.work()) == 40 - 12


def test_the_queue_reads_its_index(any_database: Database) -> None:
    kind = "btree" if not any_database.is_sqlite else "taken < wanted"
    query = (
        "SELECT sql FROM sqlite_master WHERE name = 'ix_item_ordinary'"
        if any_database.is_sqlite
        else "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_item_ordinary'"
    )
    with any_database.engine.connect() as connection:
        made = connection.execute(text(query)).scalar_one()
    assert kind in made
    assert "taken < wanted" in made


# PostgreSQL's planner decides by statistics, and small tables are rightly walked.
@pytest.mark.parametrize("any_database", ["sqlite"], indirect=True)
def test_a_claim_walks_through_no_table(any_database: Database) -> None:
    world = make_world(any_database, items(3))
    world.work(at_most=1)
    asked: list[tuple[str, Any]] = []
    event.listen(
        any_database.engine,
        "before_cursor_execute",
        lambda _c, _cursor, words, values, *_: asked.append((words, values)),
    )
    world.must_claim()
    reads = [one for one in asked if one[0].startswith("SELECT")]
    with any_database.engine.connect() as connection:
        plans = {
            words: str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values).all())
            for words, values in reads
        }
    assert len(plans) >= 8
    assert not [plan for plan in plans.values() if "SCAN" in plan]
    assert not [plan for plan in plans.values() if "(project_id=?)" in plan and " item " in plan]
    used = " ".join(plans.values())
    assert "ix_item_ordinary" in used
    assert "ix_assignment_leased " in used
    assert "ix_assignment_leased_to" in used


def test_several_processes_that_start_at_once_migrate_once(
    tmp_path: Path, postgres_url: str
) -> None:
    for where in (tmp_path / "new", postgres_url):
        failed: list[BaseException] = []

        def start(where: Path | str = where, failed: list[BaseException] = failed) -> None:
            try:
                open_database(where).close()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []


def test_a_database_of_a_newer_version_is_left_alone(any_database: Database) -> None:
    with any_database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="newer version"):
        migrate.upgrade(any_database.engine)
