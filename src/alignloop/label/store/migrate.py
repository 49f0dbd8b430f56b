"""Migrations of a database's tables, up and down."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from alignloop.errors import UserError
from alignloop.label.store import event_tables as event_tables  # its tables belong to Base, too
from alignloop.label.store.engine import writing
from alignloop.label.store.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Apply missing migrations; one of several processes does it, the others wait.

    Raises UserError for a database of a newer version of alignloop.
    """
    current, head = _revisions(engine)
    if revision != "head" or current != head:
        _run(engine, lambda config: command.upgrade(config, revision))


def check(engine: Engine) -> None:
    """Raise UserError if the tables are not those of this version; changes nothing."""
    current, head = _revisions(engine)
    if current != head:
        problem = "this database does not have the tables of this version of alignloop"
        fix = "open it once with `alignloop label project list`"
        raise UserError(problem, where=engine.url.render_as_string(), fix=fix)


def downgrade(engine: Engine, revision: str) -> None:
    """Revert migrations down to `revision`; "base" removes all tables."""
    _run(engine, lambda config: command.downgrade(config, revision))


def differences(engine: Engine) -> list[object]:
    """Differences between the existing tables and the models; [] if they agree."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))


def _revisions(engine: Engine) -> tuple[str | None, str | None]:
    """The revision of the existing tables (None without tables), and the newest one."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    with engine.connect() as connection:
        current = _revision(connection)
    if current is not None and current not in {one.revision for one in scripts.walk_revisions()}:
        problem = "the database was created by a newer version of alignloop"
        raise UserError(problem, where=f"revision {current}", fix="install that version")
    return current, scripts.get_current_head()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _run(engine: Engine, step: Callable[[Config], object]) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with writing(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            # servers starting together must not migrate twice; on SQLite the write lock suffices
            connection.execute(text("SELECT pg_advisory_xact_lock(7300)"))
        config.attributes["connection"] = connection
        step(config)
