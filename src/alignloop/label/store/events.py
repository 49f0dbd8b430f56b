"""Events: what leads and webhooks want to hear of, in the order in which it happened."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.event_tables import EventRow
from alignloop.label.store.tables import now


def record(session: Session, kind: str, project_id: int | None, data: dict[str, Any]) -> EventRow:
    """Record an event, in the transaction of what it is about."""
    row = EventRow(at=now(), project_id=project_id, kind=kind, data=data)
    session.add(row)
    session.flush()
    return row


def events_after(session: Session, after: int, *, limit: int = 100) -> Sequence[EventRow]:
    """Events of all projects by id; `after` is the last one known."""
    newer = select(EventRow).where(EventRow.id > after)
    return session.scalars(newer.order_by(EventRow.id).limit(limit)).all()
