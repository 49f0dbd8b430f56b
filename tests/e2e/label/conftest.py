"""PostgreSQL and SQLite, side by side: `any_database` runs a test on both."""

from collections.abc import Generator
from pathlib import Path

import pytest
from label_support import postgres_cluster
from sqlalchemy import create_engine, text

from alignloop.label.store.database import Database, open_database


@pytest.fixture(scope="session")
def postgres() -> Generator[str]:
    """The URL of a PostgreSQL server of our own; skipped without the program, but not under CI."""
    with postgres_cluster() as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of an empty PostgreSQL database."""
    admin = create_engine(postgres.replace("postgresql", "postgresql+pg8000"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        number = connection.execute(text("SELECT count(*) FROM pg_database")).scalar_one()
        connection.execute(text(f"CREATE DATABASE test{number}"))
    admin.dispose()
    return postgres.removesuffix("postgres") + f"test{number}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Database]:
    """A database with its tables, once of either kind."""
    is_sqlite = request.param == "sqlite"
    where = tmp_path / "project" if is_sqlite else request.getfixturevalue("postgres_url")
    made = open_database(where)
    yield made
    made.close()
