"""One database, SQLite by default: opening, transactions, migrations.

SQLite runs in WAL mode: readers never wait. Writers queue at `BEGIN IMMEDIATE`, which takes the
write lock before anything is read, so that no transaction reads what another is about to change.
"""

import getpass
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from alignloop.errors import UserError
from alignloop.extras import needs

FILE = "label.sqlite"
BUSY_MS = 20_000  # how long a writer of another process may keep ours waiting
CONNECTIONS = 40  # one per thread of the web server
WRITES = "alignloop_writes"  # an option of our connections: "durably" or "soon"


class Database:
    """`with database.transaction() as session: ...`; made by `open_database`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.writer = engine.execution_options(**{WRITES: "durably"})
        self._hasty = engine.execution_options(**{WRITES: "soon"})
        # SQLite's own waiting polls, ever more slowly; within one process a lock is fair and fast.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file, where writers take turns."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session that sees one moment; what it changes is thrown away."""
        with Session(self.engine, expire_on_commit=False) as session:
            if not self.is_sqlite:  # where each query would see a moment of its own
                session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield session

    @contextmanager
    def transaction(self, *, durably: bool = True) -> Generator[Session]:
        """A session that writes: all of it is kept, or with an exception nothing.

        What is not written `durably` survives the end of the process, however violent, but maybe
        not the next power cut; nobody waits for the disk then.
        """
        engine = self.writer if durably else self._hasty
        with self._turn, Session(engine, expire_on_commit=False) as session, session.begin():
            if not durably and not self.is_sqlite:
                session.execute(text("SET LOCAL synchronous_commit TO off"))
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(where: str | Path, *, migrate: bool = True) -> Database:
    """The database of a project's folder, or of a URL, with its tables as this version wants them.

    A folder's file is made with mode 600: it holds the projects' secrets. Without `migrate` the
    database has to be there as it should be. Raises UserError for a URL that is none, a server
    that does not answer, and a database of a newer version.
    """
    from alignloop.label.store.migrate import check, upgrade

    url = _url(where)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if not migrate and file is not None and not file.is_file():
        raise UserError("there is no database here", where=str(where), fix="check the URL")
    database = Database(_engine(url))
    try:
        (upgrade if migrate else check)(database)
    except UserError:
        database.close()
        raise
    except DBAPIError as error:
        database.close()
        raise UserError(
            f"the database does not answer: {error.orig}",
            where=str(where) if "://" not in str(where) else _url(where).render_as_string(),
            fix="start the server, or check the URL",
        ) from error
    return database


def lock_queue(session: Session, project_id: int) -> None:
    """One at a time may change a project's queue; on SQLite the transaction sees to that."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(7301, :id)"), {"id": project_id})


def _url(where: str | Path) -> URL:
    if isinstance(where, str) and "://" in where:
        try:
            url = make_url(where)
        except ArgumentError as error:
            raise UserError("this is no database URL", where=where, fix=_EXAMPLES) from error
        if url.get_backend_name() in ("postgresql", "postgres"):
            with needs("postgres", "a PostgreSQL database"):
                import pg8000  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs]
            # As PostgreSQL's own programs do: without a user it is who we are.
            user = url.username or getpass.getuser()
            return url.set(drivername="postgresql+pg8000", username=user)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise UserError("this is no database that we know", where=where, fix=_EXAMPLES)
        return url
    return URL.create("sqlite", database=str(_private_file(Path(where))))


_EXAMPLES = "write postgresql://user@host/name or sqlite:///file, or name a folder with --project"


def _private_file(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE
        # SQLite gives its -wal and -shm files the mode of the database.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        problem = f"the project's folder cannot be written: {error.strerror}"
        raise UserError(problem, where=str(folder), fix="name another folder") from error
    return path


def _engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `begin` below says which kind; the driver must not
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES)
    if writes:
        level = "FULL" if writes == "durably" else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
