"""The audit log: one row for every login and every action of a lead."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.people_tables import AuditLog
from alignloop.label.store.tables import now


def record(
    session: Session,
    action: str,
    *,
    user_id: int | None,
    target: str = "",
    detail: dict[str, Any] | None = None,
    address: str = "",
) -> None:
    """Record one action, in the same transaction as its change."""
    row = AuditLog(at=now(), user_id=user_id, action=action, target=target)
    row.detail, row.address = detail or {}, address[:64]
    session.add(row)


def latest(session: Session, *, limit: int = 200, before: int | None = None) -> list[AuditLog]:
    """The latest rows, newest first; `before` is the last id of the previous page."""
    query = select(AuditLog).order_by(AuditLog.id.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(AuditLog.id < before)))
