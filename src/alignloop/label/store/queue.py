"""The queue: which item an annotator gets next, for how long, and returning it.

Every change of a project's queue holds its lock (`lock_queue`), so checking for a free place and
taking it are one step, and an item never gets more judgements than wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BindParameter,
    Boolean,
    and_,
    bindparam,
    exists,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.assigning import next_assigned, open_to
from alignloop.label.store.database import lock_queue
from alignloop.label.store.presentation_order import shown_order
from alignloop.label.store.projects import get_project, guideline_version
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Cursor,
    ItemResponse,
    ItemRow,
    OrderCounter,
    Presentation,
    Project,
    judgements,
    now,
)
from alignloop.label.store.task_view import task_of
from alignloop.label.store.tasks import Task

LEASE = timedelta(minutes=30)
REPEAT_AFTER = 5  # minimum number of items between an item and its repeat, if there are others
BEFORE_ALL = -1


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

    None if nothing is left for them. Raises NotFound for an unknown project. It writes, so it needs
    `database.transaction()`.
    """
    at = at or now()
    project = get_project(session, slug)
    lock_queue(session, project.id)
    assignment = _leased_to(session, project.id, user_id)
    if assignment is None:
        # lazily at each claim, so that no background job is needed
        _free_expired(session, project.id, at)
        found = _next_item(session, project.id, user_id)
        if found is None:
            return None
        assignment = _assign(session, project, found, user_id, at + lease, at)
    assignment.lease_until = at + lease
    session.flush()
    return task_of(session, project, assignment, locale, at)


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


def free_place(assignment: Assignment, item: ItemRow) -> None:
    """Return a leased place to the queue."""
    assignment.state = "released"
    item.taken -= 1


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
_original = aliased(Assignment)
_again: BindParameter[bool] = bindparam("again", type_=Boolean())
_judged, _later = judgements.alias(), judgements.alias()

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
)
_BATCHES = (
    select(Batch.id, Cursor)
    .outerjoin(Cursor, (Cursor.batch_id == Batch.id) & (Cursor.user_id == _user))
    .where(Batch.project_id == _project, Batch.closed_at.is_(None))
    .order_by(Batch.priority.desc(), Batch.id)
)
# The first open item that the annotator has not had, or has returned (then with the assignment).
# Repeats only if they judged the original (not skipped it) long enough ago.
_FIRST = (
    select(ItemRow, _mine)
    .outerjoin(_mine, (_mine.item_id == ItemRow.id) & (_mine.user_id == _user))
    .where(ItemRow.batch_id == bindparam("batch"), ItemRow.taken < ItemRow.wanted)
    .where(ItemRow.position > bindparam("after"))
    .where(or_(_mine.id.is_(None), and_(_mine.state == "released", _again)))
    .where(open_to(_user))
    .where(
        or_(
            ItemRow.repeat_of.is_(None),
            exists().where(
                _original.item_id == ItemRow.repeat_of,
                _original.user_id == _user,
                _original.state == "done",
                _original.turn <= bindparam("until"),
                _judged.c.assignment_id == _original.id,
                _judged.c.verdict != "skip",
                ~exists().where(_later.c.supersedes == _judged.c.id),
            ),
        )
    )
    .order_by(ItemRow.position)
    .limit(1)
)
_COUNTERS = select(OrderCounter).where(
    OrderCounter.user_id == _user, OrderCounter.project_id == _project
)
_STORED = (
    select(ItemResponse.response_id)
    .where(ItemResponse.item_id == bindparam("item"))
    .order_by(ItemResponse.position)
)


@dataclass(frozen=True, kw_only=True)
class _Next:
    """An item to assign, with the annotator's cursor and earlier assignment of it."""

    item: ItemRow
    cursor: Cursor | None
    before: Assignment | None
    counters: list[OrderCounter]
    in_turn: bool = True  # not an item assigned by the lead, which comes before its turn

    @property
    def turn(self) -> int:
        return sum(one.count for one in self.counters)


def _leased_to(session: Session, project_id: int, user_id: int) -> Assignment | None:
    """The annotator's current assignment; an expired lease stays theirs until it is needed."""
    return session.scalar(_LEASED_TO, {"user": user_id, "project": project_id})


def _free_expired(session: Session, project_id: int, at: datetime) -> None:
    for assignment, item in session.execute(_EXPIRED, {"at": at, "project": project_id}):
        free_place(assignment, item)
    session.flush()


def _next_item(session: Session, project_id: int, user_id: int) -> _Next | None:
    """The next item of the first batch that has one, wrapping around from the cursor."""
    who = {"user": user_id, "project": project_id}
    counters = list(session.scalars(_COUNTERS, who))
    turn = sum(one.count for one in counters)
    if assigned := next_assigned(session, project_id, user_id):
        item, cursor = assigned
        return _Next(item=item, cursor=cursor, before=None, counters=counters, in_turn=False)
    batches: list[tuple[int, Cursor | None]] = [
        (row[0], row[1]) for row in session.execute(_BATCHES, who)
    ]
    for batch_id, cursor in batches:
        here = BEFORE_ALL if cursor is None else cursor.position
        # second pass, from the start: items returned by others, imported late, and early repeats
        # a repeat too soon measures memory, not consistency; better early than never
        # what the annotator has returned waits for the second pass too
        for after, until, again in ((here, turn - REPEAT_AFTER, False), (BEFORE_ALL, turn, True)):
            where = {"user": user_id, "batch": batch_id, "after": after, "until": until}
            where["again"] = again
            found = session.execute(_FIRST, where).one_or_none()
            if found is not None:
                return _Next(item=found[0], cursor=cursor, before=found[1], counters=counters)
    return None


def _assign(
    session: Session, project: Project, found: _Next, user_id: int, until: datetime, at: datetime
) -> Assignment:
    """Lease a place of an item, possibly again, and move the annotator's cursor to it."""
    item, cursor, before = found.item, found.cursor, found.before
    taken = take_place(item)
    assert taken, "the queue is locked, and the item was open"
    if cursor is None:
        cursor = Cursor(user_id=user_id, batch_id=item.batch_id, done=0, position=BEFORE_ALL)
        session.add(cursor)
    if found.in_turn:
        cursor.position = item.position
    if before is not None:
        # a returned item keeps its presentation: the answers reappear in the same order
        before.state = "leased"
        return before
    assignment = Assignment(item_id=item.id, user_id=user_id, state="leased", turn=found.turn)
    assignment.lease_until, assignment.created_at = until, at
    session.add(assignment)
    session.flush()
    session.add(_present(session, project, assignment, found.counters, at))
    return assignment


def _present(
    session: Session,
    project: Project,
    assignment: Assignment,
    counters: Sequence[OrderCounter],
    at: datetime,
) -> Presentation:
    """Draw the order of the answers; it stays the same whenever this annotator sees the item."""
    answers = list(session.scalars(_STORED, {"item": assignment.item_id}))
    size, user_id = len(answers), assignment.user_id
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
