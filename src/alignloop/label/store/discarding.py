"""Discard and ask again: one annotator's judgements of a period are taken out, and can come back.

Nothing is deleted. The assignments become "discarded", so the items' places are free for others
and the same person never gets them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Row, func, insert, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.database import lock_queue
from alignloop.label.store.judging import DISCARDED, standing
from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Cursor,
    Discard,
    DiscardedJudgement,
    ItemRow,
    User,
    judgements,
    now,
)


@dataclass(frozen=True, kw_only=True)
class Which:
    """The judgements that `annotator` made in a project from `since` until before `until`."""

    annotator: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a discard takes out: `judgements` of `questions` (a repeat is its original's question).

    `asked_again` items of open batches get a free place; `gold` judgements were of gold questions,
    which are not asked again.
    """

    judgements: int
    questions: int
    asked_again: int
    gold: int


@dataclass(frozen=True, kw_only=True)
class DiscardSeen:
    """A discard as leads see it; `judgements` is how many it took out, `by` "" is a command."""

    id: int
    annotator: str
    since: datetime | None
    until: datetime | None
    why: str
    by: str
    created_at: datetime
    judgements: int
    undone_at: datetime | None


def preview(session: Session, project_id: int, which: Which) -> Preview:
    """What `discard` would take out, without doing it. Raises NotFound, Invalid."""
    rows = _rows(session, project_id, which)
    gold = [row for row in rows if row.gold_verdict is not None]
    freed = [row for row in rows if row.gold_verdict is None and row.verdict != "skip"]
    return Preview(
        judgements=len(rows),
        questions=len({row.comparison_key for row in rows}),
        asked_again=sum(row.closed_at is None for row in freed),
        gold=len(gold),
    )


def discard(
    session: Session, project_id: int, which: Which, why: str, *, by: int | None = None
) -> int:
    """Take an annotator's judgements out and free their places; returns the discard's id.

    `by` is the lead's user id, None on the command line. Raises NotFound (no such annotator) and
    Invalid (no reason, an empty period, nothing to discard).
    """
    if not why.strip():
        raise Invalid("a discard needs a reason", fix="say why these judgements do not count")
    lock_queue(session, project_id)
    rows = _rows(session, project_id, which)
    if not rows:
        problem = "this person has no valid judgements in this period"
        raise Invalid(problem, where=which.annotator, fix="choose another period")
    made = Discard(project_id=project_id, user_id=rows[0].user_id, why=why.strip(), made_by=by)
    made.since, made.until, made.created_at = which.since, which.until, now()
    session.add(made)
    session.flush()
    taken_out = [{"discard_id": made.id, "judgement_id": row.id} for row in rows]
    session.execute(insert(DiscardedJudgement), taken_out)
    _count(session, [row.id for row in rows], state=DISCARDED, step=-1)
    return made.id


def undo_discard(session: Session, project_id: int, discard_id: int, *, by: int | None) -> int:
    """Make the judgements of a discard valid again; returns how many they are.

    An item that others judged in the meantime then has more judgements than asked for. Raises
    NotFound, and Conflict if it was undone already.
    """
    lock_queue(session, project_id)
    old = session.get(Discard, discard_id)
    if old is None or old.project_id != project_id or old.undoes is not None:
        raise NotFound("there is no such discard", where=str(discard_id))
    if session.scalar(select(Discard.id).where(Discard.undoes == old.id)) is not None:
        raise Conflict("this discard was undone already", fix="load the page again")
    made = Discard(project_id=project_id, user_id=old.user_id, why=old.why, made_by=by)
    made.undoes, made.created_at = old.id, now()
    session.add(made)
    mine = DiscardedJudgement.discard_id == old.id
    ids = list(session.scalars(select(DiscardedJudgement.judgement_id).where(mine)))
    _count(session, ids, state="done", step=1)
    return len(ids)


def list_discards(session: Session, project_id: int) -> list[DiscardSeen]:
    """A project's discards, newest first, those that were undone too."""
    whose, maker, undoing = aliased(User), aliased(User), aliased(Discard)
    count = (
        select(func.count()).where(DiscardedJudgement.discard_id == Discard.id).scalar_subquery()
    )
    rows = session.execute(
        select(Discard, whose.name, maker.name, undoing.created_at, count)
        .join(whose, whose.id == Discard.user_id)
        .outerjoin(maker, maker.id == Discard.made_by)
        .outerjoin(undoing, undoing.undoes == Discard.id)
        .where(Discard.project_id == project_id, Discard.undoes.is_(None))
        .order_by(Discard.id.desc())
    )
    return [
        DiscardSeen(
            id=row.id,
            annotator=name,
            since=row.since,
            until=row.until,
            why=row.why,
            by=by or "",
            created_at=row.created_at,
            judgements=num,
            undone_at=undone_at,
        )
        for row, name, by, undone_at, num in rows
    ]


def _rows(session: Session, project_id: int, which: Which) -> Sequence[Row[Any]]:
    """The valid judgements meant, each with what the preview needs of its item."""
    if which.since is not None and which.until is not None and which.since >= which.until:
        raise Invalid("the period ends before it begins", fix="give a later end")
    user_id = session.scalar(select(User.id).where(User.name == which.annotator))
    if user_id is None:
        raise NotFound("there is no such account", where=which.annotator)
    return session.execute(_meant(project_id, user_id, which)).all()


def _meant(project_id: int, user_id: int, which: Which) -> Executable:
    mine = (
        standing()
        .join(ItemRow, ItemRow.id == judgements.c.item_id)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .where(judgements.c.user_id == user_id, ItemRow.project_id == project_id)
        .order_by(judgements.c.id)
    )
    if which.since is not None:
        mine = mine.where(judgements.c.created_at >= which.since)
    if which.until is not None:
        mine = mine.where(judgements.c.created_at < which.until)
    seen = judgements.c.id, judgements.c.user_id, judgements.c.verdict
    about = ItemRow.gold_verdict, ItemRow.comparison_key, Batch.closed_at
    return mine.with_only_columns(*seen, *about)


def _count(session: Session, judgement_ids: Sequence[int], *, state: str, step: int) -> None:
    """Set the assignments' state, and count the places and the annotator's progress by `step`."""
    for start in range(0, len(judgement_ids), CHUNK):
        rows = session.execute(
            select(judgements.c.verdict, Assignment, ItemRow)
            .join(Assignment, Assignment.id == judgements.c.assignment_id)
            .join(ItemRow, ItemRow.id == Assignment.item_id)
            .where(judgements.c.id.in_(judgement_ids[start : start + CHUNK]))
            .execution_options(populate_existing=True)
        )
        for verdict, assignment, item in rows.all():
            assignment.state = state
            if verdict != "skip":  # a skip uses no place
                item.taken += step
            session.get_one(Cursor, (assignment.user_id, item.batch_id)).done += step
        session.flush()


CHUNK = 500  # rows in one query: SQLite allows 32,766 parameters, PostgreSQL 65,535
