"""Judgements: submitting them once, withdrawing them, and which of them are valid."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, exists, insert, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store import audit
from alignloop.label.store.discard_tables import Discard, DiscardedJudgement
from alignloop.label.store.projects import get_project
from alignloop.label.store.queue import LEASE, locked_assignment, take_place
from alignloop.label.store.refusals import Conflict
from alignloop.label.store.rules import rules_of
from alignloop.label.store.seats import check_may_work, find_seat
from alignloop.label.store.tables import (
    Assignment,
    Cursor,
    ItemRow,
    Presentation,
    Project,
    judgements,
    now,
)
from alignloop.label.store.task_view import answer_id, task_of
from alignloop.label.store.tasks import CANNOT_BE_SHOWN, JudgementIn, LabelSchema, Task
from alignloop.label.store.turns import CHECK
from alignloop.label.store.validation import check, columns_of
from alignloop.label.store.watching import Change, after_judgement, believed_ms

MOST_MS = 2**31 - 1  # that the column holds: 24 days
GIVEN_AWAY = "your time for this item ran out, and another annotator has it now"
DISCARDED = "discarded"  # the state of an assignment whose judgement a lead took out


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
    if assignment.state == DISCARDED:
        problem = "the lead took your judgement of this item out, and others are asked"
        raise Conflict(problem, fix="continue with the next one")
    at = at or now()
    project = session.get_one(Project, item.project_id)
    columns = _columns(project, item, shown, sent)
    # late answers are welcome as long as the place is still free
    if assignment.state == "released" and not take_place(item):
        raise Conflict(GIVEN_AWAY, fix="continue with the next one")
    if columns["verdict"] == "skip":
        item.taken -= 1  # a skip does not use up a place
        if sent.skip_reason == CANNOT_BE_SHOWN:
            _report(session, item, user_id)
    if not assignment.revising and assignment.turn >= 0:  # the entry test is no work
        session.get_one(Cursor, (user_id, item.batch_id)).done += 1
    assignment.state, assignment.revising = "done", ""
    before = session.execute(_NEWEST, {"assignment": assignment.id}).one_or_none()
    columns |= _times(project, shown, sent, at) | {
        "assignment_id": assignment.id,
        "item_id": assignment.item_id,
        "user_id": assignment.user_id,
        "idempotency_key": sent.key,
        "supersedes": None if before is None else before.id,
        "guideline_version": shown.guideline_version,
        "source": source,
        "created_at": at,
    }
    made = session.scalars(_KEEP, columns).one()
    votes = session.execute(_VOTES, {"item": item.id}).all()
    change = Change(
        item=item,
        shown=shown.order,
        before=None if before is None or before.withdrawn else before,
        after=next(vote for vote in votes if vote.id == made),
        votes=votes,
    )
    after_judgement(session, project, change, at)
    return made


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
    """Return the item of the annotator's latest judgement, to be judged anew; it is filled in.

    The judgement stays valid until the new one replaces it. None if there is nothing to undo;
    answers of the entry test and of training stay, since the right ones were told. Raises NotFound
    for an unknown project, Paused, and Conflict if another annotator has taken the place that
    their skip freed.
    """
    at = at or now()
    project = get_project(session, slug)
    seat = find_seat(session, project.id, user_id)
    latest = _latest(session, project.id, user_id)
    if seat is None or latest is None:
        return None
    check_may_work(seat)
    assignment, item = locked_assignment(session, latest, user_id)
    if assignment.state == "done":  # otherwise the same undo arrived twice at once
        _reopen(session, assignment, item)
    assignment.lease_until = at + lease
    session.flush()
    return task_of(session, project, assignment, seat, locale, at)


def standing() -> Select[Any]:
    """The valid judgements: neither withdrawn, nor superseded, nor discarded.

    >>> session.execute(standing().join(ItemRow, ItemRow.id == judgements.c.item_id).where(...))
    """
    later = judgements.alias()
    superseded = exists().where(later.c.supersedes == judgements.c.id)
    discarded = exists().where(
        DiscardedJudgement.judgement_id == judgements.c.id,
        DiscardedJudgement.discard_id.in_(discards_in_force()),
    )
    return select(judgements).where(~judgements.c.withdrawn, ~superseded, ~discarded)


def discards_in_force() -> Select[int]:
    """The ids of the discards that were not undone."""
    undoing = aliased(Discard)
    undone = exists().where(undoing.undoes == Discard.id)
    return select(Discard.id).where(Discard.undoes.is_(None), ~undone)


def discarded_among(session: Session, judgement_ids: Collection[int]) -> set[int]:
    """Those of the judgements that a lead took out."""
    out = select(DiscardedJudgement.judgement_id).where(
        DiscardedJudgement.judgement_id.in_(judgement_ids),
        DiscardedJudgement.discard_id.in_(discards_in_force()),
    )
    return set(session.scalars(out))


def _reopen(session: Session, assignment: Assignment, item: ItemRow) -> None:
    """Lease a judged item to its annotator again; a skip needs a place for that."""
    head = session.execute(_NEWEST, {"assignment": assignment.id}).mappings().one()
    if head["verdict"] == "skip" and not take_place(item):
        raise Conflict("another annotator has this item now", fix="continue with the next one")
    assignment.state = "leased"
    assignment.revising = "skip" if head["verdict"] == "skip" else "judged"


def _times(
    project: Project, shown: Presentation, sent: JudgementIn, at: datetime
) -> dict[str, Any]:
    """The columns of time: as sent, by our clock, what we believe, and whether that is too fast."""
    passed = max(0, round((at - shown.shown_at).total_seconds() * 1000))
    believed = believed_ms(sent.visible_ms, passed)
    return {
        "visible_ms": believed,
        "client_ms": sent.visible_ms,
        "server_ms": min(passed, MOST_MS),
        "too_fast": sent.verdict != "skip" and believed < 1000 * rules_of(project).min_seconds,
    }


def _latest(session: Session, project_id: int, user_id: int) -> int | None:
    """The assignment of a user's latest valid judgement that they may change."""
    found = (
        standing()
        .join(ItemRow, ItemRow.id == judgements.c.item_id)
        .join(Assignment, Assignment.id == judgements.c.assignment_id)
        .where(judgements.c.user_id == user_id, ItemRow.project_id == project_id)
        .where(Assignment.state == "done", _WAS_NOT_EXPLAINED)
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
        project = session.get_one(Project, item.project_id)
        columns = _columns(project, item, shown, again)
        same = columns == {name: earlier[name] for name in columns}
    if not same:
        problem = "this key was used for another judgement"
        raise Conflict(problem, fix="use a new key for every judgement")


def _columns(
    project: Project, item: ItemRow, shown: Presentation, sent: JudgementIn
) -> dict[str, Any]:
    """The checked judgement, with response ids instead of those on the screen."""
    ids = {answer_id(project.secret, shown.assignment_id, one): one for one in shown.order}
    schema = LabelSchema.model_validate(project.schema)
    return columns_of(check(sent, list(ids), item.kind, schema), ids)


_VOTES = standing().where(judgements.c.item_id == bindparam("item"))
_WAS_NOT_EXPLAINED = ItemRow.gold_verdict.is_(None) | (ItemRow.gold_use == CHECK)
