"""What is left for an annotator, and how long it takes them: estimates, renewed now and then."""

import math
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from alignloop.label.store.rules import QueueRules
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.tables import Assignment, Batch, Cursor, ItemRow, judgements
from alignloop.label.store.turns import BLOCK, CHECK, ENTRY, count_gold_of

ACTIVE = timedelta(days=3)  # who came within this shares what is left
MOST_COUNTED = 2000  # open items
PACE_OF = 40  # the latest judgements
FEWEST_FOR_PACE = 3

_open = (
    ItemRow.taken < ItemRow.wanted,
    ItemRow.gold_verdict.is_(None),
    ItemRow.repeat_of.is_(None),
)
# At most so many: counting 100,000 takes a fifth of a second.
_FEW = (
    select((ItemRow.wanted - ItemRow.taken).label("places"))
    .join(Batch, Batch.id == ItemRow.batch_id)
    .where(Batch.project_id == bindparam("project"), Batch.closed_at.is_(None), *_open)
    .limit(MOST_COUNTED)
    .subquery()
)
_OPEN = select(func.count(), func.coalesce(func.sum(_FEW.c.places), 0)).select_from(_FEW)
_SIZES = select(Batch.id, Batch.num_items, Batch.overlap).where(
    Batch.project_id == bindparam("project"), Batch.closed_at.is_(None)
)
_DONE_BY_ALL = select(Cursor.user_id, Cursor.done).where(
    Cursor.batch_id.in_(bindparam("batches", expanding=True))
)
_MINE_OPEN = (
    select(func.count(Assignment.id))
    .join(ItemRow, ItemRow.id == Assignment.item_id)
    .join(Batch, Batch.id == ItemRow.batch_id)
    .where(Assignment.user_id == bindparam("user"), Assignment.state.in_(("done", "leased")))
    .where(ItemRow.project_id == bindparam("project"), Batch.closed_at.is_(None), *_open)
)
_MY_GOLD = (
    select(func.count(Assignment.id))
    .join(ItemRow, ItemRow.id == Assignment.item_id)
    .join(Batch, Batch.id == ItemRow.batch_id)
    .where(Assignment.user_id == bindparam("user"), ItemRow.gold_verdict.is_not(None))
    .where(ItemRow.project_id == bindparam("project"), Batch.closed_at.is_(None))
    .where(ItemRow.gold_use == CHECK)
)
_ACTIVE = select(func.count(Seat.user_id)).where(
    Seat.project_id == bindparam("project"),
    Seat.last_at > bindparam("since"),
    Seat.paused_at.is_(None),
)
_DONE = (
    select(func.coalesce(func.sum(Cursor.done), 0))
    .join(Batch, Batch.id == Cursor.batch_id)
    .where(Cursor.user_id == bindparam("user"), Batch.project_id == bindparam("project"))
)
_TIMES = (
    select(judgements.c.visible_ms)
    .where(judgements.c.user_id == bindparam("user"), ~judgements.c.withdrawn)
    .order_by(judgements.c.created_at.desc())
    .limit(PACE_OF)
)


def done_in(session: Session, project_id: int, user_id: int) -> int:
    """How many items of a project an annotator has judged or skipped, of whatever kind."""
    return session.scalar(_DONE, {"user": user_id, "project": project_id}) or 0


def left_for(session: Session, seat: Seat, rules: QueueRules, at: datetime) -> int:
    """About how many items an annotator has before them, with the one on the screen.

    One less after each item of any kind; estimated anew once in a while, when nobody can tell from
    it of what kind the last one was.
    """
    if seat.entry == "" and rules.entry_items:
        asked = min(rules.entry_items, count_gold_of(session, seat.project_id, ENTRY))
        return max(1, asked - seat.entry_asked)
    passed = seat.turn - seat.left_turn
    if seat.left is None or passed >= BLOCK or passed >= seat.left:
        seat.left, seat.left_turn = estimate(session, seat, rules, at), seat.turn
    return max(1, seat.left - (seat.turn - seat.left_turn))


def left_as_told(seat: Seat | None) -> int | None:
    """What `left_for` says, without renewing it; None before the first item."""
    if seat is None or seat.left is None:
        return None
    return max(0, seat.left - (seat.turn - seat.left_turn))


def estimate(session: Session, seat: Seat, rules: QueueRules, at: datetime) -> int:
    """What comes to this annotator if all who are active go on: an equal part of the places left,
    at most the items that they may still get, with the gold questions among them, at most a quota.
    """
    who = {"user": seat.user_id, "project": seat.project_id}
    items, places = _open_to(session, who)
    where = {"project": seat.project_id, "since": at - ACTIVE}
    active = max(1, session.scalar(_ACTIVE, where) or 1)
    ordinary = max(0, min(items, math.ceil(places / active)))
    pool = count_gold_of(session, seat.project_id, CHECK) - (session.scalar(_MY_GOLD, who) or 0)
    gold = min(max(0, pool), round(ordinary * rules.gold_rate / (1 - rules.gold_rate)))
    found = ordinary + gold + 1  # with the one on the screen, which has its place
    if rules.quota is not None:
        found = min(found, rules.quota - done_in(session, seat.project_id, seat.user_id))
    return found


def _open_to(session: Session, who: dict[str, int]) -> tuple[int, int]:
    """Open items that an annotator has not judged, and places of open items: if there are many,
    estimated from the batches' sizes and what everybody has done."""
    items, places = session.execute(_OPEN, who).one()
    if items < MOST_COUNTED:
        return items - (session.scalar(_MINE_OPEN, who) or 0), places
    sizes = session.execute(_SIZES, who).all()
    done = session.execute(_DONE_BY_ALL, {"batches": [row.id for row in sizes]}).all()
    mine = sum(row.done for row in done if row.user_id == who["user"])
    places = sum(row.num_items * row.overlap for row in sizes) - sum(row.done for row in done)
    return sum(row.num_items for row in sizes) - mine, max(places, items)


def seconds_each(session: Session, user_id: int) -> float | None:
    """The median time of an annotator's latest judgements; None if there are few."""
    times = list(session.scalars(_TIMES, {"user": user_id}))
    return median(times) / 1000 if len(times) >= FEWEST_FOR_PACE else None
