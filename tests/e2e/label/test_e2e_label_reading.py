"""Reading sees one moment, whatever is written meanwhile, on both databases."""

import pytest
from label_support import items, make_world
from sqlalchemy import func, select

from alignloop.label.store.database import Database
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import ItemRow

pytestmark = pytest.mark.slow


def test_what_is_filed_meanwhile_is_not_half_seen(any_database: Database) -> None:
    here = make_world(any_database, items(3))
    with any_database.reading() as session:
        assert session.scalar(select(func.count(ItemRow.id))) == 3
        here.file(items(2, start=3))
        assert session.scalar(select(func.count(ItemRow.id))) == 3
        assert len(load_labels(session, here.project_id).items) == 3
    assert here.num_items() == 5
