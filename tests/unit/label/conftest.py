"""A database for every test, and the application on it."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import World, items, make_account, make_lead, make_world

from alignloop.label.server_settings import ServerSettings
from alignloop.label.store.database import FILE, Database, open_database
from alignloop.label.store.engine import writing
from alignloop.label.web.app import create_app


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables and nothing in them, to be copied."""
    folder = tmp_path_factory.mktemp("empty")
    open_database(folder).close()
    return folder / FILE


@pytest.fixture
def database(empty_file: Path, tmp_path: Path) -> Generator[Database]:
    """An empty database in a folder of its own."""
    (tmp_path / "project").mkdir()
    shutil.copy(empty_file, tmp_path / "project" / FILE)
    made = open_database(tmp_path / "project", migrate=False)
    # No test here cuts the power: nobody need wait for the disk.
    made.writer = writing(made.engine, durably=False)
    yield made
    made.close()


@pytest.fixture
def world(database: Database) -> Callable[..., World]:
    """`world(items(3), users=2, overlap=2)`: a project with items and annotators."""

    def make(*args: Any, **options: Any) -> World:
        return make_world(database, *args, **options)

    return make


@pytest.fixture
def app(database: Database, tmp_path: Path) -> FastAPI:
    """The application on the database."""
    return create_app(database, ServerSettings(folder=tmp_path / "project"))


@pytest.fixture
def people(database: Database) -> World:
    """A project with items, annotators ann0 and ann1; ann, and the lead lea, with passwords."""
    here = make_world(database, items(4), users=2)
    make_lead(database)
    make_account(database, "ann", "annotator")
    return here
