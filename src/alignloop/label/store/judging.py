"""Judgements: taking them in once, taking them back, and which of them hold."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, exists, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.answers import Said, check, said_in
from alignloop.label.store.keys import new_secret
from alignloop.label.store.projects import get_project
from alignloop.label.store.queue import LEASE, locked_assignment, take_place
from alignloop.label.store.refusals import Conflict
from alignloop.label.store.showing import answers_of, task_of
from alignloop.label.store.tables import (
    Assignment,
    Item,
    Judgement,
    Place,
    Presentation,
    Project,
    now,
)
from alignloop.label.store.tasks import JudgementIn, LabelSchema, Task

GIVEN_AWAY = "your time for this item was up, and somebody else has it now"


# Queries are built once, as in `queue`.
_WITH_KEY = select(Judgement).where(
    Judgement.user_id == bindparam("user"), Judgement.idempotency_key == bindparam("key")
)
_SHOWN = select(Presentation).where(Presentation.assignment_id == bindparam("assignment"))
# What the next judgement of an assignment supersedes.
_NEWEST = (
    select(Judgement.id)
    .where(Judgement.assignment_id == bindparam("assignment"))
    .order_by(Judgement.id.desc())
    .limit(1)
)


def submit(
    session: Session,
    assignment_id: int,
    user_id: int,
    sent: JudgementIn,
    *,
    source: str = "user",
    at: datetime | None = None,
) -> int:
    """Keep a judgement and give its id; sent again with the same key it gives the same id.

    Raises NotFound (no such assignment of his), Invalid (names what was not shown, lacks what the
    schema asks), Contradiction (ratings against the choice, not confirmed) and Conflict (judged
    already, lease expired and the place taken, a key used for another answer).
    """
    assignment, item = locked_assignment(session, assignment_id, user_id)
    earlier = session.scalar(_WITH_KEY, {"user": user_id, "key": sent.key})
    if earlier is not None:
        return _same(session, earlier, assignment, sent)
    if assignment.state == "done":
        raise Conflict("this item is judged already", fix="take the judgement back first")
    shown = session.scalars(_SHOWN, {"assignment": assignment.id}).one()
    said = _checked(session, item, shown, sent)
    if assignment.state == "released" and not take_place(item):
        raise Conflict(GIVEN_AWAY, fix="go on with the next one")
    if said.verdict == "skip":
        item.taken -= 1  # a skip takes nobody's place
    assignment.state = "done"
    session.get_one(Place, (user_id, item.batch_id)).done += 1
    row = _row(assignment, said, key=sent.key, source=source, at=at or now())
    row.supersedes = session.scalar(_NEWEST, {"assignment": assignment.id})
    row.skip_reason, row.comment = sent.skip_reason, sent.comment
    row.visible_ms, row.guideline_version = sent.visible_ms, shown.guideline_version
    session.add(row)
    session.flush()
    return row.id


def undo(
    session: Session,
    slug: str,
    user_id: int,
    *,
    locale: str = "en",
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> Task | None:
    """Withdraw the annotator's latest judgement and give him that item again, answers filled in.

    None where there is nothing to undo. Raises NotFound for an unknown project, and Conflict where
    his skip's place was taken since.
    """
    at = at or now()
    project = get_project(session, slug)
    latest = _latest(session, project.id, user_id)
    if latest is None:
        return None
    assignment, item = locked_assignment(session, latest, user_id)
    if assignment.state == "done":  # else the same undo was sent twice at once
        _withdraw(session, assignment, item, at)
    assignment.lease_until = at + lease
    session.flush()
    return task_of(session, project, assignment, locale, at)


def standing() -> Select[Judgement]:
    """The judgements that hold: not withdrawn, and nothing supersedes them.

    >>> session.scalars(standing().join(Item, Item.id == Judgement.item_id).where(...))
    """
    later = aliased(Judgement)
    superseded = exists().where(later.supersedes == Judgement.id)
    return select(Judgement).where(~Judgement.withdrawn, ~superseded)


def _withdraw(session: Session, assignment: Assignment, item: Item, at: datetime) -> None:
    """Append a judgement that takes the newest one back, and lease the item again."""
    head = session.get_one(Judgement, session.scalar(_NEWEST, {"assignment": assignment.id}))
    if head.verdict == "skip" and not take_place(item):
        raise Conflict("somebody else has this item now", fix="go on with the next one")
    assignment.state = "leased"
    session.get_one(Place, (assignment.user_id, item.batch_id)).done -= 1
    key = f"undo-{new_secret()[:24]}"
    row = _row(assignment, said_in(head), key=key, source=head.source, at=at)
    row.supersedes, row.withdrawn = head.id, True
    row.visible_ms, row.guideline_version = 0, head.guideline_version
    session.add(row)


def _latest(session: Session, project_id: int, user_id: int) -> int | None:
    """The assignment of somebody's latest judgement that holds."""
    mine = Judgement.user_id == user_id, Item.project_id == project_id
    found = standing().join(Item, Item.id == Judgement.item_id).where(*mine)
    found = found.order_by(Judgement.id.desc()).limit(1)
    return session.scalar(found.with_only_columns(Judgement.assignment_id))


def _same(session: Session, earlier: Judgement, assignment: Assignment, sent: JudgementIn) -> int:
    """The id of what was kept under this key, if it is the same answer. Raises Conflict."""
    problem, fix = "this key was used for another judgement", "take a new key for every judgement"
    if earlier.assignment_id != assignment.id:
        raise Conflict(problem, fix=fix)
    shown = session.scalars(_SHOWN, {"assignment": assignment.id}).one()
    item = session.get_one(Item, assignment.item_id)
    # Checked again, since a choice may have been filled in and a verdict turned into a tie.
    said = _checked(session, item, shown, sent.model_copy(update={"confirmed": True}))
    words = (sent.comment, sent.skip_reason) == (earlier.comment, earlier.skip_reason)
    if said != said_in(earlier) or not words:
        raise Conflict(problem, fix=fix)
    return earlier.id


def _checked(session: Session, item: Item, shown: Presentation, sent: JudgementIn) -> Said:
    """The judgement with ids of responses in place of the public ones."""
    schema = session.get_one(Project, item.project_id).schema
    answers = [answer.id for answer in answers_of(session, shown.order)]
    said = check(sent, answers, item.kind, LabelSchema.model_validate(schema))
    ids = [str(one) for one in shown.order]
    return said.named(dict(zip(answers, ids, strict=True)))


def _row(assignment: Assignment, said: Said, *, key: str, source: str, at: datetime) -> Judgement:
    """A judgement's row as far as its sayings go; answers are named by ids of responses."""
    fields: dict[str, Any] = {
        "verdict": said.verdict,
        "choice": None if said.choice is None else int(said.choice),
        "strength": said.strength,
        "ratings": said.ratings,
        "ranking": [[int(one) for one in group] for group in said.ranking],
        "harmful": [int(one) for one in said.harmful],
    }
    return Judgement(
        assignment_id=assignment.id,
        item_id=assignment.item_id,
        user_id=assignment.user_id,
        idempotency_key=key,
        source=source,
        withdrawn=False,
        skip_reason="",
        comment="",
        created_at=at,
        **fields,
    )
