"""The queue: which item an annotator gets next, for how long, and giving it back.

Whoever changes the queue of a project holds its lock (`lock_queue`), so that "is there a place
left?" and "take it" are one step, and an item never gets more judgements than were asked for.
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.database import lock_queue
from alignloop.label.store.order import shown_order
from alignloop.label.store.projects import get_project, guideline
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.showing import task_of
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Dealt,
    Item,
    ItemResponse,
    Place,
    Presentation,
    Project,
    now,
)
from alignloop.label.store.tasks import Task

LEASE = timedelta(minutes=30)
REPEAT_AFTER = 5  # at least so many items lie between an item and its repeat, where there are any
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
    """The annotator's next item, leased to him; the same one until he answers or gives it back.

    None where nothing is left for him. Raises NotFound for an unknown project. Writes, so that it
    needs `database.transaction()`.
    """
    at = at or now()
    project = get_project(session, slug)
    lock_queue(session, project.id)
    assignment = _leased_to(session, project.id, user_id)
    if assignment is None:
        _free_expired(session, project.id, at)
        item = _next_item(session, project.id, user_id)
        if item is None:
            return None
        assignment = _assign(session, project, item, user_id, at)
    assignment.lease_until = at + lease
    session.flush()
    return task_of(session, project, assignment, locale, at)


def release(session: Session, assignment_id: int, user_id: int) -> None:
    """Give an item back: somebody else gets it, or the same person once he is through.

    Raises NotFound, and Conflict where it is judged.
    """
    assignment, item = locked_assignment(session, assignment_id, user_id)
    if assignment.state == "done":
        raise Conflict("this item is judged already", fix="take the judgement back instead")
    if assignment.state == "leased":
        free_place(assignment, item)


def locked_assignment(
    session: Session, assignment_id: int, user_id: int
) -> tuple[Assignment, Item]:
    """An assignment of this user with its item, as they are once the queue is locked.

    Raises NotFound, also for an assignment of somebody else.
    """
    mine = (Assignment.id == assignment_id) & (Assignment.user_id == user_id)
    both = select(Assignment, Item).join(Item, Item.id == Assignment.item_id).where(mine)
    project_id = session.scalar(both.with_only_columns(Item.project_id))
    if project_id is None:
        raise NotFound("there is no such assignment of yours", where=str(assignment_id))
    lock_queue(session, project_id)
    found = session.execute(both.execution_options(populate_existing=True)).one()
    return found[0], found[1]


def free_place(assignment: Assignment, item: Item) -> None:
    """Give a leased place back to the queue."""
    assignment.state = "released"
    item.taken -= 1


def take_place(item: Item) -> bool:
    """Take one of an item's places for somebody, if there is one left."""
    if item.taken >= item.wanted:
        return False
    item.taken += 1
    return True


def _leased_to(session: Session, project_id: int, user_id: int) -> Assignment | None:
    """What somebody has on his screen; a lease that ran out is still his while nobody needs it."""
    mine = (
        select(Assignment)
        .join(Item, Item.id == Assignment.item_id)
        .where(Assignment.state == "leased", Assignment.user_id == user_id)
        .where(Item.project_id == project_id)
        .order_by(Assignment.lease_until.desc(), Assignment.id.desc())
    )
    return session.scalars(mine.limit(1)).one_or_none()


def _free_expired(session: Session, project_id: int, at: datetime) -> None:
    expired = (
        select(Assignment, Item)
        .join(Item, Item.id == Assignment.item_id)
        .where(Assignment.state == "leased", Assignment.lease_until <= at)
        .where(Item.project_id == project_id)
    )
    for assignment, item in session.execute(expired):
        free_place(assignment, item)
    session.flush()


def _next_item(session: Session, project_id: int, user_id: int) -> Item | None:
    """The next item of the first batch that has one, round and round from where he stands."""
    batches = (
        select(Batch.id, func.coalesce(Place.position, BEFORE_ALL))
        .outerjoin(Place, (Place.batch_id == Batch.id) & (Place.user_id == user_id))
        .where(Batch.project_id == project_id, Batch.closed_at.is_(None))
        .order_by(Batch.priority.desc(), Batch.id)
    )
    turn = _turn(session, project_id, user_id)
    for batch_id, position in session.execute(batches):
        ahead = Item.position > position
        item = _first(session, batch_id, user_id, ahead, repeats_until=turn - REPEAT_AFTER)
        if item is None:
            # Behind him lies what others gave back, what was filed late, and early repeats.
            item = _first(session, batch_id, user_id, Item.position >= 0, repeats_until=turn)
        if item is not None:
            return item
    return None


def _first(
    session: Session,
    batch_id: int,
    user_id: int,
    where: ColumnElement[bool],
    *,
    repeats_until: int,
) -> Item | None:
    """The first open item that somebody has not had; repeats only of what he has judged."""
    original = aliased(Assignment)
    had = exists().where(
        Assignment.item_id == Item.id,
        Assignment.user_id == user_id,
        Assignment.state != "released",
    )
    judged = exists().where(
        original.item_id == Item.repeat_of,
        original.user_id == user_id,
        original.state == "done",
        original.turn <= repeats_until,
    )
    open_items = (
        select(Item)
        .where(Item.batch_id == batch_id, Item.taken < Item.wanted, where, ~had)
        .where(or_(Item.repeat_of.is_(None), judged))
        .order_by(Item.position)
    )
    return session.scalars(open_items.limit(1)).one_or_none()


def _turn(session: Session, project_id: int, user_id: int) -> int:
    """How many items somebody was given in a project."""
    mine = Dealt.user_id == user_id, Dealt.project_id == project_id
    return session.scalar(select(func.coalesce(func.sum(Dealt.count), 0)).where(*mine)) or 0


def _assign(
    session: Session, project: Project, item: Item, user_id: int, at: datetime
) -> Assignment:
    """Lease an item's place to somebody, anew or again, and move him to its position."""
    taken = take_place(item)
    assert taken, "the queue is locked, and the item was open"
    place = session.get(Place, (user_id, item.batch_id))
    if place is None:
        place = Place(user_id=user_id, batch_id=item.batch_id, done=0)
        session.add(place)
    place.position = item.position
    mine = Assignment.item_id == item.id, Assignment.user_id == user_id
    assignment = session.scalars(select(Assignment).where(*mine)).one_or_none()
    if assignment is not None:
        assignment.state = "leased"
        return assignment
    assignment = Assignment(item_id=item.id, user_id=user_id, state="leased", created_at=at)
    assignment.turn, assignment.lease_until = _turn(session, project.id, user_id), at
    session.add(assignment)
    session.flush()
    session.add(_present(session, project, assignment, at))
    return assignment


def _present(
    session: Session, project: Project, assignment: Assignment, at: datetime
) -> Presentation:
    """Draw the order of the answers, once for all times that the item is shown to this person."""
    stored = select(ItemResponse.response_id).where(ItemResponse.item_id == assignment.item_id)
    answers = list(session.scalars(stored.order_by(ItemResponse.position)))
    key = assignment.user_id, project.id, len(answers)
    dealt = session.get(Dealt, key)
    if dealt is None:
        dealt = Dealt(user_id=key[0], project_id=key[1], size=key[2], count=0)
        session.add(dealt)
    order = shown_order(project.secret, assignment.user_id, answers, dealt.count)
    shown = Presentation(assignment_id=assignment.id, order=order, shown_at=at)
    shown.seed = f"{len(answers)}/{dealt.count}"
    shown.guideline_version = guideline(session, project.id).version
    dealt.count += 1
    return shown
