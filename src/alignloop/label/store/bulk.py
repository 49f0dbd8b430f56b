"""Many rows at once: ids handed out before, then COPY on PostgreSQL and one statement on SQLite."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from typing import cast as typed

from sqlalchemy import ColumnElement, Text, cast, func, select, text
from sqlalchemy.dialects.postgresql import JSON as PostgresJson
from sqlalchemy.orm import InstrumentedAttribute, Session

Value = str | int | None
_COPIED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def new_ids(session: Session, table: str, count: int) -> Iterator[int]:
    """Ids for `count` new rows of a table; call it in the transaction that inserts them.

    On SQLite the transaction holds the write lock, on PostgreSQL a sequence deals ids out once.
    """
    if not count:
        return iter(())
    if _is_postgres(session):
        sequence = "nextval(pg_get_serial_sequence(:name, 'id'))"
        dealt = text(f"SELECT {sequence} FROM generate_series(1, :count)")
        return iter(session.scalars(dealt, {"name": f'"{table}"', "count": count}).all())
    last = session.scalar(text(f'SELECT coalesce(max(id), 0) FROM "{table}"')) or 0
    return iter(range(last + 1, last + 1 + count))


def insert_rows(
    session: Session, table: str, columns: Sequence[str], rows: Sequence[tuple[Value, ...]]
) -> None:
    """Insert rows of texts, numbers and nulls; JSON is given as text.

    The session's changes so far are flushed first, so that rows may refer to them.
    """
    if not rows:
        return
    session.flush()
    connection, names = session.connection(), ", ".join(f'"{name}"' for name in columns)
    if _is_postgres(session):
        cursor = connection.connection.cursor()
        copied = f'COPY "{table}" ({names}) FROM STDIN'
        typed("Any", cursor).execute(copied, stream=io.BytesIO(_as_copied(rows)))
        return
    places = ", ".join("?" * len(columns))
    connection.exec_driver_sql(
        f'INSERT INTO "{table}" ({names}) VALUES ({places})', typed("Any", list(rows))
    )


def among(
    session: Session, attribute: InstrumentedAttribute[Any], values: Iterable[Value]
) -> ColumnElement[bool]:
    """The condition that a column holds one of many values, which travel as a single JSON text.

    Databases limit the number of parameters, and a statement for each number would be compiled.
    """
    packed = json.dumps(list(values), ensure_ascii=False)
    if _is_postgres(session):
        listed = func.json_array_elements_text(cast(cast(packed, Text), PostgresJson))
        found = select(cast(listed.table_valued("value").c.value, attribute.type))
    else:
        found = select(func.json_each(packed).table_valued("value").c.value)
    return attribute.in_(found)


def _is_postgres(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _as_copied(rows: Sequence[tuple[Value, ...]]) -> bytes:
    """Rows in PostgreSQL's text format of COPY."""
    lines = ("\t".join([_cell(value) for value in row]) for row in rows)
    return ("\n".join(lines) + "\n").encode()


def _cell(value: Value) -> str:
    if value is None:
        return "\\N"
    return value.translate(_COPIED) if isinstance(value, str) else str(value)
