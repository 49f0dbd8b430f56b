"""Finding a project by its name, or the only one there is; a batch that is made if it is new."""

import pytest

from alignloop.label.store import batches, projects
from alignloop.label.store.database import Database
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tasks import LabelSchema


def test_the_only_project_needs_no_name(database: Database) -> None:
    with database.transaction() as session:
        with pytest.raises(NotFound, match="no project yet"):
            projects.get_project(session, None)
        made = projects.create_project(session, "one", "One", LabelSchema(kind="ranking"))
        assert projects.get_project(session, "").id == made.id
        assert projects.get_project(session, "one").kind == "ranking"
        projects.create_project(session, "two", "Two", LabelSchema())
        with pytest.raises(NotFound, match="several projects") as caught:
            projects.get_project(session, None)
        assert caught.value.fix == "name one of: one, two"
        with pytest.raises(NotFound, match="no such project"):
            projects.get_project(session, "three")


def test_a_batch_is_made_once_and_what_is_given_applies(database: Database) -> None:
    with database.transaction() as session:
        project = projects.create_project(session, "one", "One", LabelSchema())
        made = batches.batch_for_import(session, project.id, "first", overlap=3).batch
        again = batches.batch_for_import(session, project.id, "first", overlap=5, repeats=None)
        assert (again.batch.id, made.overlap, again.words()) == (made.id, 5, "overlap 3 -> 5")
        assert batches.batch_for_import(session, project.id, "first").words() == ""
        assert batches.batch_for_import(session, project.id, "other").batch.overlap == 1
        batches.change_batch(session, project.id, made.id, closed=True)
        assert made.closed
