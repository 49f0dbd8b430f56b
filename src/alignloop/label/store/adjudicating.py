"""The lead's decisions: made, changed and withdrawn by new rows, of which the newest counts."""

from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.overview import responses_of
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import Adjudication, ItemRow, ResponseRow, User, now
from alignloop.label.store.tasks import JudgementIn, LabelSchema
from alignloop.label.store.validation import check, columns_of

WITHDRAWN = "withdrawn"
_KEPT = ("verdict", "choice", "strength", "ranking", "comment")


@dataclass(frozen=True, kw_only=True)
class DecisionSeen:
    """A row of decisions; `counts` marks the one in force, answers are public ids."""

    id: int
    item_id: int
    by: str
    verdict: str
    choice: str | None
    strength: int | None
    ranking: list[list[str]]
    comment: str
    created_at: datetime
    counts: bool


def adjudicate(
    session: Session, project_id: int, user_id: int, item_id: int, decided: JudgementIn
) -> Adjudication:
    """Store the lead's verdict on an item; answers are named by public ids.

    More than two answers are ranked: "this one is best" would leave exports of rankings and ratings
    without the rest. Raises NotFound, and Invalid for a verdict that names no answer of the item.
    """
    item = _item(session, project_id, item_id)
    ids = {one.public_id: one.id for one in responses_of(session, [item_id])[item_id]}
    # a lead may say what annotators of this project may not, such as a tie
    kind = "ranking" if len(ids) > 2 else item.kind
    whole = check(decided, list(ids), kind, LabelSchema())
    columns = columns_of(whole, ids)
    row = Adjudication(item_id=item_id, user_id=user_id, created_at=now())
    for name in _KEPT:
        setattr(row, name, columns[name])
    session.add(row)
    session.flush()
    return row


def withdraw_decision(
    session: Session, project_id: int, user_id: int, item_id: int
) -> Adjudication:
    """Let the annotators' votes count again. Raises NotFound, and Conflict if undecided."""
    _item(session, project_id, item_id)
    newest = session.scalar(
        select(Adjudication)
        .where(Adjudication.item_id == item_id)
        .order_by(Adjudication.id.desc())
        .limit(1)
    )
    if newest is None or newest.verdict == WITHDRAWN:
        raise Conflict("this item is not decided", fix="load the page again")
    row = Adjudication(item_id=item_id, user_id=user_id, verdict=WITHDRAWN, created_at=now())
    row.strength, row.ranking = None, []
    session.add(row)
    session.flush()
    return row


def list_decisions(
    session: Session, project_id: int, *, after: int = 0, limit: int = 100
) -> list[DecisionSeen]:
    """Decisions by id, including those that were changed or withdrawn."""
    of_project = (
        select(Adjudication.id)
        .join(ItemRow, ItemRow.id == Adjudication.item_id)
        .where(ItemRow.project_id == project_id)
    )
    page = (
        select(Adjudication, User.name)
        .join(User, User.id == Adjudication.user_id)
        .where(Adjudication.id.in_(of_project), Adjudication.id > after)
        .order_by(Adjudication.id)
        .limit(limit)
    )
    rows = [(row, name) for row, name in session.execute(page)]
    items = {row.item_id for row, _ in rows}
    later = select(Adjudication.item_id, Adjudication.id).where(Adjudication.item_id.in_(items))
    newest = {row[0]: row[1] for row in session.execute(later.order_by(Adjudication.id))}
    named = {one for row, _ in rows for one in (row.choice, *chain(*row.ranking))}
    ids = select(ResponseRow.id, ResponseRow.public_id).where(ResponseRow.id.in_(named - {None}))
    names = {row[0]: row[1] for row in session.execute(ids)}
    return [_seen(row, by, names, newest[row.item_id] == row.id) for row, by in rows]


def _seen(row: Adjudication, by: str, names: dict[int, str], is_newest: bool) -> DecisionSeen:
    return DecisionSeen(
        id=row.id,
        item_id=row.item_id,
        by=by,
        verdict=row.verdict,
        choice=None if row.choice is None else names[row.choice],
        strength=row.strength,
        ranking=[[names[one] for one in equal] for equal in row.ranking],
        comment=row.comment,
        created_at=row.created_at,
        counts=is_newest and row.verdict != WITHDRAWN,
    )


def _item(session: Session, project_id: int, item_id: int) -> ItemRow:
    item = session.get(ItemRow, item_id)
    if item is None or item.project_id != project_id:
        raise NotFound("there is no such item", where=str(item_id))
    return item
