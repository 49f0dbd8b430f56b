"""How we connect.

SQLite runs in WAL mode: readers never wait. Writers queue at `BEGIN IMMEDIATE`, which takes the
write lock before anything is read, so that no transaction reads what another is about to change.
"""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

BUSY_MS = 20_000  # how long a writer of another process may keep ours waiting
CONNECTIONS = 40  # one per thread of the web server
WRITES = "alignloop_writes"  # an option of our connections: "durably" or "soon"


def make_engine(url: URL) -> Engine:
    """Connections to the database of a URL; nothing is asked of it yet."""
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: Engine, *, durably: bool = True) -> Engine:
    """The same connections for transactions that write, which on SQLite take turns."""
    return engine.execution_options(**{WRITES: "durably" if durably else "soon"})


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
