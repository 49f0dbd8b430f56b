"""Finding a project by its name, or the only one there is; a batch that is made if it is new."""

import pytest

from alignloop.label.store import projects
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


def test_a_batch_is_made_once(database: Database) -> None:
    with database.transaction() as session:
        project = projects.create_project(session, "one", "One", LabelSchema())
        made = projects.get_or_create_batch(session, project.id, "first", overlap=3)
        again = projects.get_or_create_batch(session, project.id, "first", overlap=5)
        assert (again.id, again.overlap, again.closed) == (made.id, 3, False)
        projects.close_batch(session, project.id, made.id, closed=True)
        assert made.closed
