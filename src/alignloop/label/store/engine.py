"""Connections.

SQLite runs in WAL mode: readers never wait. Writers queue at `BEGIN IMMEDIATE`, which takes the
write lock before reading, so no transaction reads data that another is about to change.
"""

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

BUSY_MS = 20_000  # how long to wait for a writer of another process
CONNECTIONS = 40  # one per thread of the web server
WRITES = "alignloop_writes"  # an option of our connections: "durably" or "soon"


def make_engine(url: URL) -> Engine:
    """An engine for a URL; does not connect yet."""
    # no overflow: beyond one connection per thread, waiting is better than opening more
    engine = create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: Engine, *, durably: bool = True) -> Engine:
    """The same connections for transactions that write, which on SQLite take turns."""
    return engine.execution_options(**{WRITES: "durably" if durably else "soon"})


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions; the driver must not
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES)
    if writes:
        # FULL waits for the disk at each commit; NORMAL in WAL mode only at checkpoints
        level = "FULL" if writes == "durably" else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
