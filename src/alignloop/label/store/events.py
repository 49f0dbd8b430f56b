"""Events: what leads and webhooks want to hear of, in the order in which it happened."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.seat_tables import EventRow
from alignloop.label.store.tables import now


def record(session: Session, kind: str, project_id: int | None, data: dict[str, Any]) -> EventRow:
    """Record an event, in the transaction of what it is about.

    Kinds: annotator flagged, annotator paused, annotator resumed, entry passed, entry failed,
    item not shown, items ranked.
    """
    row = EventRow(at=now(), project_id=project_id, kind=kind, data=data)
    session.add(row)
    session.flush()
    return row


def latest_events(session: Session, project_id: int, *, limit: int = 50) -> Sequence[EventRow]:
    """A project's latest events, newest first."""
    mine = select(EventRow).where(EventRow.project_id == project_id)
    return session.scalars(mine.order_by(EventRow.id.desc()).limit(limit)).all()


def events_after(session: Session, after: int, *, limit: int = 100) -> Sequence[EventRow]:
    """Events of all projects by id, for whoever sends them on; `after` is the last one sent."""
    newer = select(EventRow).where(EventRow.id > after)
    return session.scalars(newer.order_by(EventRow.id).limit(limit)).all()
