"""Who belongs to which project, and whose account somebody may change."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Select, bindparam, delete, select
from sqlalchemy.orm import Session

from alignloop.label.store.assigning import unassign_all
from alignloop.label.store.database import lock_queue
from alignloop.label.store.people_tables import Member
from alignloop.label.store.queue import free_place
from alignloop.label.store.refusals import Conflict, NotFound
from alignloop.label.store.tables import Assignment, ExportSnapshot, ItemRow, Project, User, now

# Queries are built once, as in `queue`: whether somebody belongs to the project of a thing.
_MINE = select(Member.project_id).where(Member.user_id == bindparam("user"))
_BY: dict[str, tuple[Select[int], str]] = {
    "slug": (
        _MINE.join(Project, Project.id == Member.project_id).where(
            Project.slug == bindparam("which")
        ),
        "there is no such project",
    ),
    "assignment_id": (
        _MINE.join(ItemRow, ItemRow.project_id == Member.project_id)
        .join(Assignment, Assignment.item_id == ItemRow.id)
        .where(Assignment.id == bindparam("which")),
        "you have no such assignment",
    ),
    "export_id": (
        _MINE.join(ExportSnapshot, ExportSnapshot.project_id == Member.project_id).where(
            ExportSnapshot.id == bindparam("which")
        ),
        "there is no such export, or its file is gone",
    ),
}
SCOPED_BY = tuple(_BY)  # what in an address names a project


def check_member(session: Session, user_id: int, name: str, which: str | int) -> None:
    """Raise NotFound unless somebody belongs to the project of this slug, assignment or export.

    The refusal is that of a thing that does not exist, so others' projects stay unknown.
    """
    query, problem = _BY[name]
    if session.execute(query, {"user": user_id, "which": which}).first() is None:
        raise NotFound(problem, where=str(which))


def visible_projects(session: Session, user_id: int, *, every: bool) -> list[Project]:
    """The projects that somebody belongs to, or `every` one for an admin, by title."""
    found = select(Project).order_by(Project.title, Project.id)
    mine = found.join(Member, Member.project_id == Project.id).where(Member.user_id == user_id)
    return list(session.scalars(found if every else mine))


def members_of(session: Session, project_id: int) -> list[User]:
    """The members of a project, by name."""
    joined = select(User).join(Member, Member.user_id == User.id)
    return list(session.scalars(joined.where(Member.project_id == project_id).order_by(User.name)))


def named(session: Session, project_id: int, names: Sequence[str]) -> list[User]:
    """Members by name. Raises NotFound for a name that nobody has, Conflict for other people."""
    inside = {one.name: one for one in members_of(session, project_id)}
    for name in names:
        if name not in inside:
            known = session.scalar(select(User.id).where(User.name == name))
            if known is None:
                raise NotFound("there is no such user", where=name)
            fix = "make them a member first"
            raise Conflict("this person is not in the project", where=name, fix=fix)
    return [inside[name] for name in names]


def slugs_by_user(session: Session) -> dict[int, list[str]]:
    """The names of each member's projects, by the user's id."""
    rows = session.execute(
        select(Member.user_id, Project.slug)
        .join(Project, Project.id == Member.project_id)
        .order_by(Project.slug)
    )
    found: dict[int, list[str]] = {}
    for user_id, slug in rows:
        found.setdefault(user_id, []).append(slug)
    return found


def project_ids(session: Session, user_id: int) -> set[int]:
    """The ids of the projects that somebody belongs to."""
    return set(session.scalars(_MINE, {"user": user_id}))


def add_members(session: Session, project_ids: Iterable[int], user_id: int) -> None:
    """Let somebody work in these projects; harmless if they do already."""
    for project_id in sorted(project_ids):
        if session.get(Member, (user_id, project_id)) is None:
            session.add(Member(user_id=user_id, project_id=project_id, added_at=now()))
    session.flush()


def remove_member(session: Session, project_id: int, user_id: int) -> None:
    """Take somebody out of a project: open items go back, judgements stay. Raises NotFound."""
    lock_queue(session, project_id)
    mine = Member.user_id == user_id, Member.project_id == project_id
    if not session.execute(delete(Member).where(*mine).returning(Member.user_id)).all():
        raise NotFound("this person is not in the project")
    held = (
        select(Assignment, ItemRow)
        .join(ItemRow, ItemRow.id == Assignment.item_id)
        .where(ItemRow.project_id == project_id, Assignment.user_id == user_id)
        .where(Assignment.state == "leased")
    )
    for assignment, item in session.execute(held):
        free_place(assignment, item)
    unassign_all(session, project_id, user_id)


def may_manage(session: Session, manager: User, user: User) -> bool:
    """Whether a lead may give links and tokens for an account, or disable it.

    Who holds a link of an account sees what it sees; so leads manage only accounts that see no
    more than they do. Admins manage all.
    """
    if manager.role == "admin" or manager.id == user.id:
        return True
    return user.role != "admin" and project_ids(session, user.id) <= project_ids(
        session, manager.id
    )


def visible_users(session: Session, manager: User) -> list[User]:
    """The accounts that a lead sees, by name: members of their projects, and who has no project."""
    every = list(session.scalars(select(User).order_by(User.name)))
    if manager.role == "admin":
        return every
    belongs: dict[int, set[int]] = {}
    for row in session.execute(select(Member.user_id, Member.project_id)):
        belongs.setdefault(row.user_id, set()).add(row.project_id)
    mine = belongs.get(manager.id, set())

    def is_visible(user: User) -> bool:
        free = user.role != "admin" and user.id not in belongs
        return free or user.id == manager.id or bool(belongs.get(user.id, set()) & mine)

    return [one for one in every if is_visible(one)]
