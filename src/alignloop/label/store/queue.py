"""The queue: which item an annotator gets next, for how long, and returning it.

Every change of a project's queue holds its lock (`lock_queue`), so checking for a free place and
taking it are one step, and an item never gets more judgements than wanted.
"""

from datetime import datetime, timedelta

from sqlalchemy import BindParameter, bindparam, literal_column, or_, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store import events
from alignloop.label.store.database import lock_queue
from alignloop.label.store.left import done_in
from alignloop.label.store.presentation_order import shown_order
from alignloop.label.store.projects import get_project, guideline_version
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.rules import rules_of
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.seats import check_may_work, seat_of
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Cursor,
    ItemResponse,
    ItemRow,
    OrderCounter,
    Presentation,
    Project,
    now,
)
from alignloop.label.store.task_view import task_of
from alignloop.label.store.tasks import Task
from alignloop.label.store.turns import (
    CHECK,
    Found,
    due_repeat,
    entry_item,
    is_gold_turn,
    next_gold,
    only_gold,
    turn_of_repeat,
)

LEASE = timedelta(minutes=30)
BEFORE_ALL = -1
MOST_SET_ASIDE = 20  # items in one claim that cannot be shown; more is no fault of items


def claim(
    session: Session,
    slug: str,
    user_id: int,
    *,
    locale: str = "en",
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> Task | None:
    """The annotator's next item, leased to them; the same one until they answer or release it.

    None if nothing is left for them. Raises NotFound for an unknown project, and Paused if they
    may not go on. It writes, so it needs `database.transaction()`.
    """
    at = at or now()
    project = get_project(session, slug)
    lock_queue(session, project.id)
    seat = seat_of(session, project.id, user_id, at)
    check_may_work(seat)
    for _ in range(MOST_SET_ASIDE):
        assignment = _leased_to(session, project.id, user_id)
        if assignment is None:
            # lazily at each claim, so that no background job is needed
            _free_expired(session, project.id, at)
            found = _next_item(session, project, seat)
            if found is None:
                return None
            assignment = _assign(session, project, seat, found, at + lease, at)
        assignment.lease_until = at + lease
        session.flush()
        try:
            return task_of(session, project, assignment, seat, locale, at)
        except ValueError as error:  # what is stored cannot be shown
            _set_aside(session, project, assignment, str(error))
    return None


def release(session: Session, assignment_id: int, user_id: int) -> None:
    """Return an item: another annotator gets it, or the same one if nothing else is left.

    Raises NotFound, and Conflict if it is judged.
    """
    assignment, item = locked_assignment(session, assignment_id, user_id)
    if assignment.state == "done":
        raise Conflict("this item is already judged", fix="withdraw the judgement instead")
    if assignment.state == "leased":
        free_place(assignment, item)


def locked_assignment(
    session: Session, assignment_id: int, user_id: int
) -> tuple[Assignment, ItemRow]:
    """An assignment of this user with its item, read after locking the queue.

    Raises NotFound, also for another user's assignment.
    """
    which = {"assignment": assignment_id, "user": user_id}
    project_id = session.scalar(_PROJECT_OF, which)
    if project_id is None:
        raise NotFound("you have no such assignment", where=str(assignment_id))
    lock_queue(session, project_id)
    found = session.execute(_ASSIGNMENT, which).one()
    return found[0], found[1]


def free_place(assignment: Assignment, item: ItemRow, state: str = "released") -> None:
    """End a lease: the place returns to the queue, unless a judgement that stands holds it."""
    assignment.state = "done" if assignment.revising else state
    if assignment.revising != "judged":
        item.taken -= 1
    assignment.revising = ""


def take_place(item: ItemRow) -> bool:
    """Take one of an item's places if any is left."""
    if item.taken >= item.wanted:
        return False
    item.taken += 1
    return True


# Queries are built once: building one takes longer than SQLite takes to run it.
_user: BindParameter[int] = bindparam("user")
_project: BindParameter[int] = bindparam("project")
# A literal as in the partial indexes' condition: planners cannot match a bound parameter to it.
_is_leased = Assignment.state == literal_column("'leased'")
# "+ 0" hides the project index, by which SQLite would scan all items for a handful of leases.
_in_project = ItemRow.project_id + 0 == _project
_mine = aliased(Assignment)

_ASSIGNMENT = (
    select(Assignment, ItemRow)
    .join(ItemRow, ItemRow.id == Assignment.item_id)
    .where(Assignment.id == bindparam("assignment"), Assignment.user_id == _user)
    # reload: the row may have changed between the first read and taking the lock
    .execution_options(populate_existing=True)
)
_PROJECT_OF = _ASSIGNMENT.with_only_columns(ItemRow.project_id)
_LEASED_TO = (
    select(Assignment)
    .join(ItemRow, ItemRow.id == Assignment.item_id)
    .where(_is_leased, Assignment.user_id == _user, _in_project)
    .order_by(Assignment.lease_until.desc(), Assignment.id.desc())
    .limit(1)
)
_EXPIRED = (
    select(Assignment, ItemRow)
    .join(ItemRow, ItemRow.id == Assignment.item_id)
    .where(_is_leased, Assignment.lease_until <= bindparam("at"), _in_project)
    # a judgement that is being changed holds its place anyway
    .where(Assignment.revising != "judged")
)
_BATCHES = (
    select(Batch, Cursor)
    .outerjoin(Cursor, (Cursor.batch_id == Batch.id) & (Cursor.user_id == _user))
    .where(Batch.project_id == _project, Batch.closed_at.is_(None))
    .order_by(Batch.priority.desc(), Batch.id)
)
# The first open item that the annotator has not had, or has returned (then with the assignment);
# gold questions and repeats have turns of their own.
_FIRST = (
    select(ItemRow, _mine)
    .outerjoin(_mine, (_mine.item_id == ItemRow.id) & (_mine.user_id == _user))
    .where(ItemRow.batch_id == bindparam("batch"), ItemRow.taken < ItemRow.wanted)
    .where(ItemRow.gold_verdict.is_(None), ItemRow.repeat_of.is_(None))
    .where(ItemRow.position > bindparam("after"))
    .where(or_(_mine.id.is_(None), _mine.state == "released"))
    .order_by(ItemRow.position)
    .limit(1)
)
_CURSOR = select(Cursor).where(Cursor.user_id == _user, Cursor.batch_id == bindparam("batch"))
_COUNTERS = select(OrderCounter).where(
    OrderCounter.user_id == _user, OrderCounter.project_id == _project
)
_STORED = (
    select(ItemResponse.response_id)
    .where(ItemResponse.item_id == bindparam("item"))
    .order_by(ItemResponse.position)
)


def _leased_to(session: Session, project_id: int, user_id: int) -> Assignment | None:
    """The annotator's current assignment; an expired lease stays theirs until it is needed."""
    return session.scalar(_LEASED_TO, {"user": user_id, "project": project_id})


def _free_expired(session: Session, project_id: int, at: datetime) -> None:
    for assignment, item in session.execute(_EXPIRED, {"at": at, "project": project_id}):
        free_place(assignment, item)
    session.flush()


def _next_item(session: Session, project: Project, seat: Seat) -> Found | None:
    """Training and entry test first; then by turns a gold question, a repeat or an ordinary item.

    Gold questions and repeats come only while there are ordinary items: at the end they would
    stand together.
    """
    rules = rules_of(project)
    if seat.entry == "":
        found = entry_item(session, project, seat, rules)
        if found is not None or seat.entry == "":
            return found
    if rules.quota is not None and done_in(session, project.id, seat.user_id) >= rules.quota:
        return None
    ordinary = _next_ordinary(session, project.id, seat.user_id)
    if ordinary is None:
        only = only_gold(session, project.id)
        return next_gold(session, project, seat.user_id) if only else None
    secret, user_id, turn = project.secret, seat.user_id, seat.turn
    if is_gold_turn(secret, user_id, turn, rules, in_doubt=seat.in_doubt) and (
        gold := next_gold(session, project, user_id)
    ):
        return gold
    return due_repeat(session, project, seat) or ordinary


def _next_ordinary(session: Session, project_id: int, user_id: int) -> Found | None:
    """The next item of the first batch that has one, wrapping around from the cursor.

    After the batch was put in a new order everyone starts from its top.
    """
    who = {"user": user_id, "project": project_id}
    batches: list[tuple[Batch, Cursor | None]] = [
        (row[0], row[1]) for row in session.execute(_BATCHES, who)
    ]
    for batch, cursor in batches:
        here = BEFORE_ALL
        if cursor is not None and cursor.ranking == batch.ranking:
            here = cursor.position
        # second pass, from the start: items returned by others and imported late
        for after in dict.fromkeys((here, BEFORE_ALL)):
            where = {"user": user_id, "batch": batch.id, "after": after}
            if found := session.execute(_FIRST, where).one_or_none():
                return Found(item=found[0], before=found[1])
    return None


def _assign(
    session: Session, project: Project, seat: Seat, found: Found, until: datetime, at: datetime
) -> Assignment:
    """Lease a place of an item, possibly again; an ordinary one moves the annotator's cursor."""
    item, before = found.item, found.before
    taken = take_place(item)
    assert taken, "the queue is locked, and the item was open"
    _move_cursor(session, item, seat.user_id)
    if before is not None:
        # a returned item keeps its presentation: the answers reappear in the same order
        before.state = "leased"
        return before
    is_work = item.gold_verdict is None or item.gold_use == CHECK
    assignment = Assignment(item_id=item.id, user_id=seat.user_id, state="leased", revising="")
    assignment.turn = seat.turn if is_work else BEFORE_ALL
    assignment.repeat_due = turn_of_repeat(session, project, item, seat) if is_work else None
    assignment.lease_until, assignment.created_at = until, at
    seat.turn += is_work
    session.add(assignment)
    session.flush()
    session.add(_present(session, project, assignment, at))
    return assignment


def _move_cursor(session: Session, item: ItemRow, user_id: int) -> None:
    where = {"user": user_id, "batch": item.batch_id}
    cursor = session.scalar(_CURSOR, where)
    if cursor is None:
        cursor = Cursor(user_id=user_id, batch_id=item.batch_id, done=0, position=BEFORE_ALL)
        cursor.ranking = 0
        session.add(cursor)
    if item.gold_verdict is None and item.repeat_of is None:
        cursor.position = item.position
        cursor.ranking = session.get_one(Batch, item.batch_id).ranking


def _set_aside(session: Session, project: Project, assignment: Assignment, why: str) -> None:
    """Never give an item that cannot be shown to the same annotator again; the leads hear of it."""
    free_place(assignment, session.get_one(ItemRow, assignment.item_id), "failed")
    told = {"item": assignment.item_id, "why": why[:500]}
    events.record(session, "item not shown", project.id, told)


def _present(
    session: Session,
    project: Project,
    assignment: Assignment,
    at: datetime,
) -> Presentation:
    """Draw the order of the answers; it stays the same whenever this annotator sees the item."""
    answers = list(session.scalars(_STORED, {"item": assignment.item_id}))
    size, user_id = len(answers), assignment.user_id
    counters = session.scalars(_COUNTERS, {"user": user_id, "project": project.id})
    mine = next((one for one in counters if one.size == size), None)
    if mine is None:
        mine = OrderCounter(user_id=user_id, project_id=project.id, size=size, count=0)
        session.add(mine)
    order = shown_order(project.secret, user_id, answers, mine.count)
    shown = Presentation(assignment_id=assignment.id, order=order, shown_at=at)
    shown.seed = f"{size}/{mine.count}"
    # stored with the presentation: the guideline may change before the answer arrives
    shown.guideline_version = guideline_version(session, project.id)
    mine.count += 1
    return shown
