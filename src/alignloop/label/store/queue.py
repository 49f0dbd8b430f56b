"""The queue: which item an annotator gets next, for how long, and giving it back.

Whoever changes the queue of a project holds its lock (`lock_queue`), so that "is there a place
left?" and "take it" are one step, and an item never gets more judgements than were asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, bindparam, exists, literal_column, or_, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.store.database import lock_queue
from alignloop.label.store.order import shown_order
from alignloop.label.store.projects import get_project, guideline_version
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.showing import task_of
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Dealt,
    Item,
    ItemResponse,
    Judgement,
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
        found = _next_item(session, project.id, user_id)
        if found is None:
            return None
        assignment = _assign(session, project, found, user_id, at + lease, at)
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
    which = {"assignment": assignment_id, "user": user_id}
    project_id = session.scalar(_PROJECT_OF, which)
    if project_id is None:
        raise NotFound("there is no such assignment of yours", where=str(assignment_id))
    lock_queue(session, project_id)
    found = session.execute(_ASSIGNMENT, which).one()
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


# Queries are built once: building one takes longer than SQLite takes to answer it.
_user: BindParameter[int] = bindparam("user")
_project: BindParameter[int] = bindparam("project")
# As it stands in the partial indexes' condition: of a bound value no planner can tell.
_is_leased = Assignment.state == literal_column("'leased'")
# No index on the project: by it, SQLite would walk through all items for a handful of leases.
_in_project = Item.project_id + 0 == _project
_mine = aliased(Assignment)
_original = aliased(Assignment)
_said, _later = aliased(Judgement), aliased(Judgement)

_ASSIGNMENT = (
    select(Assignment, Item)
    .join(Item, Item.id == Assignment.item_id)
    .where(Assignment.id == bindparam("assignment"), Assignment.user_id == _user)
    .execution_options(populate_existing=True)
)
_PROJECT_OF = _ASSIGNMENT.with_only_columns(Item.project_id)
_LEASED_TO = (
    select(Assignment)
    .join(Item, Item.id == Assignment.item_id)
    .where(_is_leased, Assignment.user_id == _user, _in_project)
    .order_by(Assignment.lease_until.desc(), Assignment.id.desc())
    .limit(1)
)
_EXPIRED = (
    select(Assignment, Item)
    .join(Item, Item.id == Assignment.item_id)
    .where(_is_leased, Assignment.lease_until <= bindparam("at"), _in_project)
)
_BATCHES = (
    select(Batch.id, Place)
    .outerjoin(Place, (Place.batch_id == Batch.id) & (Place.user_id == _user))
    .where(Batch.project_id == _project, Batch.closed_at.is_(None))
    .order_by(Batch.priority.desc(), Batch.id)
)
# The first open item that somebody has not had, with his assignment where he gave it back; of
# repeats only those of what he has judged, not skipped, long enough ago.
_FIRST = (
    select(Item, _mine)
    .outerjoin(_mine, (_mine.item_id == Item.id) & (_mine.user_id == _user))
    .where(Item.batch_id == bindparam("batch"), Item.taken < Item.wanted)
    .where(Item.position > bindparam("after"))
    .where(or_(_mine.id.is_(None), _mine.state == "released"))
    .where(
        or_(
            Item.repeat_of.is_(None),
            exists().where(
                _original.item_id == Item.repeat_of,
                _original.user_id == _user,
                _original.state == "done",
                _original.turn <= bindparam("until"),
                _said.assignment_id == _original.id,
                _said.verdict != "skip",
                ~exists().where(_later.supersedes == _said.id),
            ),
        )
    )
    .order_by(Item.position)
    .limit(1)
)
_DEALT = select(Dealt).where(Dealt.user_id == _user, Dealt.project_id == _project)
_STORED = (
    select(ItemResponse.response_id)
    .where(ItemResponse.item_id == bindparam("item"))
    .order_by(ItemResponse.position)
)


@dataclass(frozen=True, kw_only=True)
class _Next:
    """An item to give out: where its annotator stands, and his assignment if he had it before."""

    item: Item
    place: Place | None
    before: Assignment | None
    dealt: list[Dealt]

    @property
    def turn(self) -> int:
        return sum(one.count for one in self.dealt)


def _leased_to(session: Session, project_id: int, user_id: int) -> Assignment | None:
    """What somebody has on his screen; a lease that ran out is still his while nobody needs it."""
    return session.scalar(_LEASED_TO, {"user": user_id, "project": project_id})


def _free_expired(session: Session, project_id: int, at: datetime) -> None:
    for assignment, item in session.execute(_EXPIRED, {"at": at, "project": project_id}):
        free_place(assignment, item)
    session.flush()


def _next_item(session: Session, project_id: int, user_id: int) -> _Next | None:
    """The next item of the first batch that has one, round and round from where he stands."""
    who = {"user": user_id, "project": project_id}
    dealt = list(session.scalars(_DEALT, who))
    turn = sum(one.count for one in dealt)
    batches: list[tuple[int, Place | None]] = [
        (row[0], row[1]) for row in session.execute(_BATCHES, who)
    ]
    for batch_id, place in batches:
        here = BEFORE_ALL if place is None else place.position
        # Behind him lies what others gave back, what was filed late, and early repeats.
        for after, until in ((here, turn - REPEAT_AFTER), (BEFORE_ALL, turn)):
            where = {"user": user_id, "batch": batch_id, "after": after, "until": until}
            found = session.execute(_FIRST, where).one_or_none()
            if found is not None:
                return _Next(item=found[0], place=place, before=found[1], dealt=dealt)
    return None


def _assign(
    session: Session, project: Project, found: _Next, user_id: int, until: datetime, at: datetime
) -> Assignment:
    """Lease an item's place to somebody, anew or again, and move him to its position."""
    item, place, before = found.item, found.place, found.before
    taken = take_place(item)
    assert taken, "the queue is locked, and the item was open"
    if place is None:
        place = Place(user_id=user_id, batch_id=item.batch_id, done=0)
        session.add(place)
    place.position = item.position
    if before is not None:
        before.state = "leased"
        return before
    assignment = Assignment(item_id=item.id, user_id=user_id, state="leased", turn=found.turn)
    assignment.lease_until, assignment.created_at = until, at
    session.add(assignment)
    session.flush()
    session.add(_present(session, project, assignment, found.dealt, at))
    return assignment


def _present(
    session: Session,
    project: Project,
    assignment: Assignment,
    dealt: Sequence[Dealt],
    at: datetime,
) -> Presentation:
    """Draw the order of the answers, once for all times that the item is shown to this person."""
    answers = list(session.scalars(_STORED, {"item": assignment.item_id}))
    size, user_id = len(answers), assignment.user_id
    mine = next((one for one in dealt if one.size == size), None)
    if mine is None:
        mine = Dealt(user_id=user_id, project_id=project.id, size=size, count=0)
        session.add(mine)
    order = shown_order(project.secret, user_id, answers, mine.count)
    shown = Presentation(assignment_id=assignment.id, order=order, shown_at=at)
    shown.seed = f"{size}/{mine.count}"
    shown.guideline_version = guideline_version(session, project.id)
    mine.count += 1
    return shown
