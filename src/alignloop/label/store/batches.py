"""Changing a batch that has items: more opinions, another priority, more repeats."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from alignloop.label.store.database import lock_queue
from alignloop.label.store.projects import check_numbers, create_batch, get_batch
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.repeats import file_repeats, unrepeated
from alignloop.label.store.tables import Batch, ItemRow, Project, now


@dataclass(frozen=True, kw_only=True)
class BatchChange:
    """A batch after a change; `before` holds the old values of what is different now."""

    batch: Batch
    before: dict[str, Any] = field(default_factory=dict[str, Any])

    def words(self) -> str:
        """ "overlap 1 -> 3, priority 0 -> 5"; "" if nothing changed."""
        changes = self.before.items()
        return ", ".join(f"{name} {old} -> {getattr(self.batch, name)}" for name, old in changes)


def change_batch(
    session: Session,
    project_id: int,
    batch_id: int,
    *,
    closed: bool | None = None,
    overlap: int | None = None,
    priority: int | None = None,
    repeats: float | None = None,
) -> BatchChange:
    """Change what is given; the batch's items follow.

    A higher overlap asks for further opinions on every item of the batch, a lower one asks for no
    more than that and discards nothing. Gold questions are for everybody and stay so. Raises
    NotFound, Invalid for bad numbers, and Conflict for a lower share of repeats.
    """
    lock_queue(session, project_id)
    batch = session.get(Batch, batch_id)
    if batch is None or batch.project_id != project_id:
        raise NotFound("there is no such batch", where=str(batch_id))
    given = {"overlap": overlap, "priority": priority, "repeats": repeats}
    new = {name: value for name, value in given.items() if value is not None}
    check_numbers(overlap=1 if overlap is None else overlap, repeats=repeats or 0.0)
    before = {name: getattr(batch, name) for name in new if getattr(batch, name) != new[name]}
    if "repeats" in before and new["repeats"] < before["repeats"]:
        problem = f"the share of repeats is {before['repeats']:g} and can only grow"
        fix = "repeats that people have seen stay; make a new batch for a lower share"
        raise Conflict(problem, where=batch.name, fix=fix)
    for name in before:
        setattr(batch, name, new[name])
    if closed is not None and closed != batch.closed:
        before["closed"] = batch.closed
        batch.closed_at = now() if closed else None
    session.flush()
    if "overlap" in before:
        asked = update(ItemRow).where(ItemRow.batch_id == batch_id, ItemRow.gold_verdict.is_(None))
        session.execute(asked.values(wanted=batch.overlap))
    if "repeats" in before:
        project = session.get_one(Project, project_id)
        batch.num_items += file_repeats(session, project, batch, unrepeated(session, batch_id))
    return BatchChange(batch=batch, before=before)


def batch_for_import(
    session: Session, project_id: int, name: str, **given: int | float | None
) -> BatchChange:
    """The batch with this name, created if missing; what is given applies to an existing one too.

    Raises like `create_batch` and `change_batch`.
    """
    numbers: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    try:
        batch = get_batch(session, project_id, name)
    except NotFound:
        return BatchChange(batch=create_batch(session, project_id, name, **numbers))
    return change_batch(session, project_id, batch.id, **numbers)
