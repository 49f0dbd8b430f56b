"""One database, SQLite by default: opening it, and its transactions."""

import getpass
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from alignloop.errors import UserError
from alignloop.extras import needs
from alignloop.label.store.engine import make_engine, writing
from alignloop.label.store.migrate import check, upgrade

FILE = "label.sqlite"


class Database:
    """`with database.transaction() as session: ...`; made by `open_database`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.writer, self._hasty = writing(engine), writing(engine, durably=False)
        # one query is a snapshot by itself: without a transaction three round trips are saved
        self._single = engine
        if not self.is_sqlite:
            self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite waits by polling with growing pauses; within one process a lock is fair and fast.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is a file, where writers take turns."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session on one consistent snapshot; its changes are discarded."""
        with Session(self.engine, expire_on_commit=False) as session:
            if not self.is_sqlite:  # by default each query would see a different snapshot
                session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield session

    @contextmanager
    def reading_once(self) -> Generator[Session]:
        """A session for one query, cheaper than `reading`; the guard of every request uses it."""
        with Session(self._single, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def transaction(self, *, durably: bool = True) -> Generator[Session]:
        """A session that writes: everything is committed, or nothing after an exception.

        Without `durably` it does not wait for the disk: the data survives a crash of the process,
        but perhaps not a power cut.
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
    """The database of a project's folder or of a URL, migrated to this version.

    A folder's file is created with mode 600: it holds the projects' secrets. Without `migrate` the
    database must exist in this version. Raises UserError for an invalid URL, an unreachable server
    and a database of a newer version.
    """
    url = _url(where)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if not migrate and file is not None and not file.is_file():
        raise UserError("there is no database here", where=str(where), fix="check the URL")
    database = Database(make_engine(url))
    try:
        (upgrade if migrate else check)(database.engine)
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


def open_labels(where: str) -> tuple[Database, str]:
    """The database of "DIR", "URL", "DIR#project" or "URL#project", and the project's name.

    Nothing is created or migrated. Raises UserError if there is no database.
    """
    location, _, slug = where.partition("#")
    if "://" not in location and not (Path(location) / FILE).is_file():
        raise UserError(
            "there is no labelling project here",
            where=location,
            fix=f"name the folder that contains {FILE}, or a database URL",
        )
    return open_database(location, migrate=False), slug


def lock_queue(session: Session, project_id: int) -> None:
    """Serialise changes of a project's queue; on SQLite the transaction does so already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(7301, :id)"), {"id": project_id})


def lock_logins(session: Session, name: str) -> None:
    """Serialise logins of an account; on SQLite the transaction does so already."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(7302, hashtext(:name))"), {"name": name})


def _url(where: str | Path) -> URL:
    if isinstance(where, str) and "://" in where:
        try:
            url = make_url(where)
        except ArgumentError as error:
            raise UserError("this is not a database URL", where=where, fix=_EXAMPLES) from error
        if url.get_backend_name() in ("postgresql", "postgres"):
            with needs("postgres", "a PostgreSQL database"):
                import pg8000  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs]
            # like PostgreSQL's own programs: the default user is the operating system's
            user = url.username or getpass.getuser()
            return url.set(drivername="postgresql+pg8000", username=user)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise UserError("this is not a supported database", where=where, fix=_EXAMPLES)
        return url
    return URL.create("sqlite", database=str(_private_file(Path(where))))


_EXAMPLES = "write postgresql://user@host/name or sqlite:///file, or name a folder with --project"


def _private_file(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / FILE
        # SQLite's -wal and -shm files inherit this mode
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        problem = f"the project's folder cannot be written: {error.strerror}"
        raise UserError(problem, where=str(folder), fix="name another folder") from error
    return path
