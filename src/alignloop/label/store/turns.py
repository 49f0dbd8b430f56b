"""Whose turn it is: gold questions at their rate, repeats when due, the entry test first."""

import math
from dataclasses import dataclass

from sqlalchemy import BindParameter, Select, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.presentation_order import KEYED_BELOW, keyed, shuffled
from alignloop.label.store.rules import QueueRules
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.tables import Assignment, Batch, ItemRow, Project, judgements

BLOCK = 20  # turns; each has its gold questions at places drawn for it
REPEAT_AFTER, REPEAT_WITHIN = 5, 20  # turns from an item to its repeat, drawn uniformly

CHECK, ENTRY, TRAINING = "check", "entry", "training"

# Queries are built once, as in `queue`.
_user: BindParameter[int] = bindparam("user")
_project: BindParameter[int] = bindparam("project")
_mine, _original = aliased(Assignment), aliased(Assignment)
_judged, _later = judgements.alias(), judgements.alias()
_is_open = Batch.closed_at.is_(None)
_GOLD = (
    select(ItemRow, _mine)
    .join(Batch, Batch.id == ItemRow.batch_id)
    .outerjoin(_mine, (_mine.item_id == ItemRow.id) & (_mine.user_id == _user))
    .where(ItemRow.project_id == _project, ItemRow.gold_use == bindparam("use"), _is_open)
    .where(ItemRow.gold_verdict.is_not(None))
)
_GOLD_AFTER = (
    _GOLD.where(or_(_mine.id.is_(None), _mine.state == "released"))
    .where(ItemRow.position >= bindparam("after"))
    .order_by(ItemRow.position)
    .limit(1)
)
# Asked before, the longest ago first.
_GOLD_AGAIN = _GOLD.where(_mine.state == "done").order_by(_mine.lease_until, _mine.id).limit(1)
_COUNT_GOLD = (
    select(func.count(ItemRow.id))
    .join(Batch, Batch.id == ItemRow.batch_id)
    .where(ItemRow.project_id == _project, ItemRow.gold_use == bindparam("use"), _is_open)
    .where(ItemRow.gold_verdict.is_not(None))
)
# Repeats that are due, with the original's assignment and the annotator's own of the repeat.
_DUE = (
    select(ItemRow, _mine, _original)
    .join(_original, _original.item_id == ItemRow.repeat_of)
    .join(Batch, Batch.id == ItemRow.batch_id)
    .outerjoin(_mine, (_mine.item_id == ItemRow.id) & (_mine.user_id == _user))
    .where(_original.user_id == _user, _original.repeat_due <= bindparam("turn"))
    .where(ItemRow.repeat_of.is_not(None), ItemRow.project_id + 0 == _project, _is_open)
    .where(ItemRow.taken < ItemRow.wanted)
    # judged, not skipped
    .where(
        _original.state == "done",
        exists().where(
            _judged.c.assignment_id == _original.id,
            _judged.c.verdict != "skip",
            ~exists().where(_later.c.supersedes == _judged.c.id),
        ),
    )
    .order_by(_original.repeat_due, _original.id)
)
_HAS_REPEAT = select(ItemRow.id).where(ItemRow.repeat_of == bindparam("item")).limit(1)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An item to give out, with the annotator's earlier assignment of it if they returned it."""

    item: ItemRow
    before: Assignment | None


def is_gold_turn(
    secret: str, user_id: int, turn: int, rules: QueueRules, *, in_doubt: bool
) -> bool:
    """Whether an annotator's turn is for a gold question.

    Of each BLOCK of turns, gold_rate * BLOCK are (the fraction by chance), at least `gold_early` of
    the first, and more in doubt; the places are drawn by HMAC(secret, annotator, block).
    """
    if rules.gold_rate == 0:
        return False
    block, place = divmod(turn, BLOCK)
    name = f"gold/{user_id}/{block}"
    chance = keyed(secret, f"{name}/rounding") / KEYED_BELOW
    num = math.floor(rules.gold_rate * BLOCK + chance)
    if block == 0:
        num = max(num, rules.gold_early)
    if in_doubt:
        num = max(num, round(rules.gold_rate_in_doubt * BLOCK))
    return shuffled(secret, name, BLOCK).index(place) < num


def next_gold(session: Session, project: Project, user_id: int, use: str = CHECK) -> Found | None:
    """A gold question that the annotator has not had; each starts at another place of the pool."""
    start = keyed(project.secret, f"gold start/{user_id}/{use}")
    for after in (start, 0):
        where = {"user": user_id, "project": project.id, "use": use, "after": after}
        if row := session.execute(_GOLD_AFTER, where).one_or_none():
            return Found(item=row[0], before=row[1])
    return None


def entry_item(session: Session, project: Project, seat: Seat, rules: QueueRules) -> Found | None:
    """Training, then the entry test, for who has not passed; None if that is over.

    Further tries ask new questions while there are any, then the ones asked longest ago.
    """
    if found := next_gold(session, project, seat.user_id, TRAINING):
        return found
    if rules.entry_items == 0:
        seat.entry = "passed"
        return None
    if found := next_gold(session, project, seat.user_id, ENTRY):
        return found
    where = {"user": seat.user_id, "project": project.id, "use": ENTRY}
    row = session.execute(_GOLD_AGAIN, where).one_or_none()
    if row is None:
        return None
    row[1].state = "released"
    row[0].taken -= 1
    return Found(item=row[0], before=row[1])


def count_gold_of(session: Session, project_id: int, use: str) -> int:
    """How many gold questions of one use the open batches have."""
    return session.scalar(_COUNT_GOLD, {"project": project_id, "use": use}) or 0


def due_repeat(session: Session, project: Project, seat: Seat) -> Found | None:
    """The repeat that is due for longest, of an item that the annotator judged."""
    where = {"user": seat.user_id, "project": project.id, "turn": seat.turn}
    for item, mine, original in session.execute(_DUE, where):
        if mine is None or mine.state == "released":
            return Found(item=item, before=mine)
        if mine.state != "leased":
            original.repeat_due = None  # it came
    return None


def turn_of_repeat(session: Session, project: Project, item: ItemRow, seat: Seat) -> int | None:
    """From which turn on the repeat of an item given now may come; None if it has none."""
    if item.repeat_of is not None or session.scalar(_HAS_REPEAT, {"item": item.id}) is None:
        return None
    drawn = keyed(project.secret, f"repeat after/{seat.user_id}/{item.id}")
    return seat.turn + REPEAT_AFTER + drawn % (REPEAT_WITHIN - REPEAT_AFTER + 1)


def schedule_repeats(session: Session, project_id: int) -> None:
    """Let repeats that were added later come to those who have judged their originals."""
    again, given = aliased(ItemRow), aliased(Assignment)
    missing = exists().where(
        again.repeat_of == Assignment.item_id,
        again.project_id == project_id,
        ~exists().where(given.item_id == again.id, given.user_id == Assignment.user_id),
    )
    late = update(Assignment).where(Assignment.repeat_due.is_(None), missing)
    session.execute(late.values(repeat_due=Assignment.turn + REPEAT_AFTER))


def only_gold(session: Session, project_id: int) -> bool:
    """Whether the open batches hold gold questions alone: then they are all that is given out."""
    ordinary: Select[tuple[int]] = (
        select(ItemRow.id)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .where(ItemRow.project_id == project_id, _is_open)
        .where(ItemRow.gold_verdict.is_(None), ItemRow.repeat_of.is_(None))
    )
    return session.scalar(ordinary.limit(1)) is None
