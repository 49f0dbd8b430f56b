"""Rows about exports; a row outlives the folder it names."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.tables import ExportSnapshot, now


def add_snapshot(session: Session, project_id: int, **fields: Any) -> ExportSnapshot:
    """Record what was exported, by whom, and where."""
    row = ExportSnapshot(project_id=project_id, created_at=now(), **fields)
    session.add(row)
    session.flush()
    return row


def find_snapshot(session: Session, snapshot_id: int) -> ExportSnapshot | None:
    """The export with this id."""
    return session.get(ExportSnapshot, snapshot_id)


def list_snapshots(session: Session, project_id: int) -> list[ExportSnapshot]:
    """A project's exports, newest first."""
    mine = select(ExportSnapshot).where(ExportSnapshot.project_id == project_id)
    return list(session.scalars(mine.order_by(ExportSnapshot.id.desc())))
