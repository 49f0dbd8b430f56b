"""Judgements: submitting them once, withdrawing them, and which of them are valid."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, exists, insert, select
from sqlalchemy.orm import Session

from alignloop.label.store import audit
from alignloop.label.store.keys import new_secret
from alignloop.label.store.projects import get_project
from alignloop.label.store.queue import LEASE, locked_assignment, take_place
from alignloop.label.store.refusals import Conflict
from alignloop.label.store.tables import (
    Assignment,
    Cursor,
    ItemRow,
    Presentation,
    Project,
    judgements,
    now,
)
from alignloop.label.store.task_view import answers_of, task_of
from alignloop.label.store.tasks import CANNOT_BE_SHOWN, JudgementIn, LabelSchema, Task
from alignloop.label.store.validation import check, columns_of

GIVEN_AWAY = "your time for this item ran out, and another annotator has it now"


# Queries are built once, as in `queue`.
_WITH_KEY = select(judgements).where(
    judgements.c.user_id == bindparam("user"),
    judgements.c.idempotency_key == bindparam("key"),
)
_SHOWN = select(Presentation).where(Presentation.assignment_id == bindparam("assignment"))
# What the next judgement of an assignment supersedes.
_NEWEST = (
    select(judgements)
    .where(judgements.c.assignment_id == bindparam("assignment"))
    .order_by(judgements.c.id.desc())
    .limit(1)
)
_KEEP = insert(judgements).returning(judgements.c.id)


def submit(
    session: Session,
    assignment_id: int,
    user_id: int,
    sent: JudgementIn,
    *,
    source: str = "user",
    at: datetime | None = None,
) -> int:
    """Store a judgement; returns its id, the same id if sent again with the same key.

    Raises NotFound (not their assignment), Invalid (names answers not shown, or lacks what the
    schema requires), Contradiction (ratings against the choice, not confirmed) and Conflict
    (already judged, lease expired and place taken, or a key used for another answer).
    """
    assignment, item = locked_assignment(session, assignment_id, user_id)
    with_key = session.execute(_WITH_KEY, {"user": user_id, "key": sent.key})
    shown = session.scalars(_SHOWN, {"assignment": assignment.id}).one()
    # a retry after a lost response: answer as the first time
    if earlier := with_key.mappings().one_or_none():
        _check_same(session, earlier, item, shown, sent)
        return earlier["id"]
    if assignment.state == "done":
        raise Conflict("this item is already judged", fix="withdraw the judgement first")
    columns = _columns(session, item, shown, sent)
    # late answers are welcome as long as the place is still free
    if assignment.state == "released" and not take_place(item):
        raise Conflict(GIVEN_AWAY, fix="continue with the next one")
    if columns["verdict"] == "skip":
        item.taken -= 1  # a skip does not use up a place
        if sent.skip_reason == CANNOT_BE_SHOWN:
            _report(session, item, user_id)
    assignment.state = "done"
    session.get_one(Cursor, (user_id, item.batch_id)).done += 1
    before = session.execute(_NEWEST, {"assignment": assignment.id}).one_or_none()
    columns |= {
        "assignment_id": assignment.id,
        "item_id": assignment.item_id,
        "user_id": assignment.user_id,
        "idempotency_key": sent.key,
        "supersedes": None if before is None else before.id,
        "visible_ms": sent.visible_ms,
        "guideline_version": shown.guideline_version,
        "source": source,
        "created_at": at or now(),
    }
    return session.scalars(_KEEP, columns).one()


def _report(session: Session, item: ItemRow, user_id: int) -> None:
    """Tell the lead that the page could not show an item."""
    project = session.get_one(Project, item.project_id)
    detail = {"item": item.id}
    audit.record(session, "item not shown", user_id=user_id, target=project.slug, detail=detail)


def undo(
    session: Session,
    slug: str,
    user_id: int,
    *,
    locale: str = "en",
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> Task | None:
    """Withdraw the annotator's latest judgement and return its item, with the answers filled in.

    None if there is nothing to undo. Raises NotFound for an unknown project, and Conflict if
    another annotator has taken the place that their skip freed.
    """
    at = at or now()
    project = get_project(session, slug)
    latest = _latest(session, project.id, user_id)
    if latest is None:
        return None
    assignment, item = locked_assignment(session, latest, user_id)
    if assignment.state == "done":  # otherwise the same undo arrived twice at once
        _withdraw(session, assignment, item, at)
    assignment.lease_until = at + lease
    session.flush()
    return task_of(session, project, assignment, locale, at)


def standing() -> Select[Any]:
    """The valid judgements: neither withdrawn nor superseded.

    >>> session.execute(standing().join(ItemRow, ItemRow.id == judgements.c.item_id).where(...))
    """
    later = judgements.alias()
    superseded = exists().where(later.c.supersedes == judgements.c.id)
    return select(judgements).where(~judgements.c.withdrawn, ~superseded)


def _withdraw(session: Session, assignment: Assignment, item: ItemRow, at: datetime) -> None:
    """Append a withdrawal of the newest judgement, and lease the item again."""
    head = session.execute(_NEWEST, {"assignment": assignment.id}).mappings().one()
    if head["verdict"] == "skip" and not take_place(item):
        raise Conflict("another annotator has this item now", fix="continue with the next one")
    assignment.state = "leased"
    session.get_one(Cursor, (assignment.user_id, item.batch_id)).done -= 1
    changes = {
        "idempotency_key": f"undo-{new_secret()[:24]}",
        "supersedes": head["id"],
        "withdrawn": True,
        "visible_ms": 0,
        "skip_reason": "",
        "comment": "",
        "created_at": at,
    }
    same = {column.name: head[column.name] for column in judgements.c if column.name != "id"}
    session.execute(insert(judgements), same | changes)


def _latest(session: Session, project_id: int, user_id: int) -> int | None:
    """The assignment of a user's latest valid judgement."""
    found = (
        standing()
        .join(ItemRow, ItemRow.id == judgements.c.item_id)
        .where(judgements.c.user_id == user_id, ItemRow.project_id == project_id)
        .order_by(judgements.c.id.desc())
        .limit(1)
    )
    return session.scalar(found.with_only_columns(judgements.c.assignment_id))


def _check_same(
    session: Session, earlier: RowMapping, item: ItemRow, shown: Presentation, sent: JudgementIn
) -> None:
    """Raise Conflict if another answer was stored under this key."""
    same = earlier["assignment_id"] == shown.assignment_id
    if same:
        # complete it as `submit` did: a choice may have been filled in, or become a tie
        again = sent.model_copy(update={"confirmed": True})
        columns = _columns(session, item, shown, again)
        same = columns == {name: earlier[name] for name in columns}
    if not same:
        problem = "this key was used for another judgement"
        raise Conflict(problem, fix="use a new key for every judgement")


def _columns(
    session: Session, item: ItemRow, shown: Presentation, sent: JudgementIn
) -> dict[str, Any]:
    """The checked judgement, with response ids instead of public ids."""
    schema = session.get_one(Project, item.project_id).schema
    answers = [answer.id for answer in answers_of(session, shown.order)]
    whole = check(sent, answers, item.kind, LabelSchema.model_validate(schema))
    return columns_of(whole, dict(zip(answers, shown.order, strict=True)))
