"""Items that the lead assigns to people: they get them first, or nobody else gets them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.database import lock_queue
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tables import Assigned, Assignment, Batch, Cursor, ItemRow, User

CHUNK_SIZE = 1000  # values in one statement; databases limit them
Value = TypeVar("Value", int, str)

# Queries are built once, as in `queue`.
_user = bindparam("user", type_=Assigned.user_id.type)
_mine = aliased(Assignment)
# The first assigned item that somebody has not had; one that they returned waits for its turn.
_FIRST = (
    select(ItemRow, Cursor)
    .join(Assigned, (Assigned.item_id == ItemRow.id) & (Assigned.user_id == _user))
    .join(Batch, Batch.id == ItemRow.batch_id)
    .outerjoin(Cursor, (Cursor.batch_id == ItemRow.batch_id) & (Cursor.user_id == _user))
    .outerjoin(_mine, (_mine.item_id == ItemRow.id) & (_mine.user_id == _user))
    # "+ 0" hides the project index, by which SQLite would scan all items for a handful
    .where(ItemRow.project_id + 0 == bindparam("project"), Batch.closed_at.is_(None))
    .where(ItemRow.taken < ItemRow.wanted, _mine.id.is_(None))
    .order_by(Batch.priority.desc(), Batch.id, ItemRow.position)
    .limit(1)
)


@dataclass(frozen=True, kw_only=True)
class AssignedCount:
    """How many items of a batch are assigned to somebody, and how many of them are answered."""

    user: str
    batch: str
    assigned: int
    done: int


def next_assigned(
    session: Session, project_id: int, user_id: int
) -> tuple[ItemRow, Cursor | None] | None:
    """The first open item assigned to somebody, with their cursor in its batch."""
    found = session.execute(_FIRST, {"user": user_id, "project": project_id}).one_or_none()
    return None if found is None else (found[0], found[1])


def open_to(user: ColumnElement[int]) -> ColumnElement[bool]:
    """The condition that an item is not kept for others."""
    mine = exists().where(Assigned.item_id == ItemRow.id, Assigned.user_id == user)
    return or_(ItemRow.reserved.is_(False), mine)


def assign(
    session: Session,
    batch: Batch,
    user_ids: Sequence[int],
    *,
    keys: Sequence[str] | None = None,
    count: int | None = None,
    only: bool = True,
) -> int:
    """Assign items of a batch to people, who get them first; with `only` nobody else gets them.

    All its ordinary items, or those with these comparison ids (`keys`), or the first `count` open
    ones that nobody is assigned to. Returns how many. Raises NotFound for an unknown id.
    """
    lock_queue(session, batch.project_id)
    item_ids = _chosen(session, batch, keys, count)
    there = {
        (row.user_id, row.item_id)
        for some in _chunks(item_ids)
        for row in session.scalars(select(Assigned).where(Assigned.item_id.in_(some)))
    }
    pairs = [(user, item) for user in user_ids for item in item_ids if (user, item) not in there]
    if pairs:
        rows = [{"user_id": user, "item_id": item} for user, item in pairs]
        session.execute(insert(Assigned), rows)
    for some in _chunks(item_ids):
        session.execute(update(ItemRow).where(ItemRow.id.in_(some)).values(reserved=only))
    return len(item_ids)


def unassign(session: Session, batch: Batch, user_ids: Sequence[int]) -> int:
    """Take these people's items of a batch back; returns how many assignments ended.

    Items that are then assigned to nobody go to everybody.
    """
    lock_queue(session, batch.project_id)
    return _end(session, user_ids, ItemRow.batch_id == batch.id)


def unassign_all(session: Session, project_id: int, user_id: int) -> None:
    """Take all of somebody's items of a project back."""
    _end(session, [user_id], ItemRow.project_id == project_id)


def count_assigned(session: Session, project_id: int) -> list[AssignedCount]:
    """What is assigned to whom, by batch and name."""
    done = (Assignment.item_id == Assigned.item_id) & (Assignment.user_id == Assigned.user_id)
    rows = session.execute(
        select(User.name, Batch.name, func.count(Assigned.item_id), func.count(Assignment.id))
        .select_from(Assigned)
        .join(User, User.id == Assigned.user_id)
        .join(ItemRow, ItemRow.id == Assigned.item_id)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .outerjoin(Assignment, done & (Assignment.state == "done"))
        .where(ItemRow.project_id == project_id)
        .group_by(Batch.id, Batch.name, User.name)
        .order_by(Batch.id, User.name)
    )
    return [AssignedCount(user=row[0], batch=row[1], assigned=row[2], done=row[3]) for row in rows]


def _chosen(
    session: Session, batch: Batch, keys: Sequence[str] | None, count: int | None
) -> list[int]:
    """Ids of the chosen items. Gold questions are for everybody, repeats for who had the first."""
    ordinary = (
        select(ItemRow.id, ItemRow.comparison_key)
        .where(ItemRow.batch_id == batch.id, ItemRow.gold_verdict.is_(None))
        .where(ItemRow.repeat_of.is_(None))
        .order_by(ItemRow.position)
    )
    if keys is None:
        free = ordinary.where(
            ItemRow.taken < ItemRow.wanted, ~exists().where(Assigned.item_id == ItemRow.id)
        )
        return list(session.scalars(ordinary if count is None else free.limit(count)))
    found = {
        key: item_id
        for some in _chunks(list(keys))
        for item_id, key in session.execute(ordinary.where(ItemRow.comparison_key.in_(some)))
    }
    if missing := [key for key in keys if key not in found]:
        problem = f"{len(missing)} of these ids are no ordinary items of the batch"
        raise NotFound(problem, where=missing[0], fix="give the comparison_id of its items")
    return list(found.values())


def _end(session: Session, user_ids: Sequence[int], which: ColumnElement[bool]) -> int:
    here = select(ItemRow.id).where(which)
    mine = Assigned.user_id.in_(user_ids), Assigned.item_id.in_(here)
    ended = session.execute(delete(Assigned).where(*mine).returning(Assigned.item_id)).all()
    nobody = ~exists().where(Assigned.item_id == ItemRow.id)
    session.execute(update(ItemRow).where(which, ItemRow.reserved, nobody).values(reserved=False))
    return len(ended)


def _chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for first in range(0, len(values), CHUNK_SIZE):
        yield values[first : first + CHUNK_SIZE]
