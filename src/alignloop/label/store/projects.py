"""Projects, versions of their guidelines, and batches."""

import re
import secrets

from sqlalchemy import bindparam, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tables import Batch, Guideline, Project, now
from alignloop.label.store.tasks import LabelSchema

SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
DEFAULT_OVERLAP = 1  # judgements of each item, wherever a batch is made
MAX_OVERLAP = 100
MAX_REPEATS = 0.5

GUIDELINE_EN = """\
Which answer would you rather have been given? Read the whole of both before you choose. \
Weigh first whether an answer is true and does what was asked, then whether it is clear; length \
alone counts for nothing. Choose *tie* where you see no difference that matters, *both bad* where \
you would want neither, and *skip* where you cannot judge.
"""
GUIDELINE_ZH = """\
您更愿意得到哪一个回答？请把两个回答都读完再选择。先看回答是否真实、是否做到了所要求的事，\
再看是否清楚；篇幅长短本身不算优点。看不出有意义的差别时选“平手”，两个都不想要时选“都不好”，\
无法判断时选“跳过”。
"""


_BY_SLUG = select(Project).where(Project.slug == bindparam("slug"))


def get_project(session: Session, slug: str | None) -> Project:
    """The project with this slug, or the only one if none is given. Raises NotFound."""
    if slug:
        project = session.scalar(_BY_SLUG, {"slug": slug})
        if project is None:
            raise NotFound("there is no such project", where=slug)
        return project
    found = list_projects(session)
    if len(found) == 1:
        return found[0]
    problem = "there are several projects" if found else "there is no project yet"
    names = ", ".join(sorted(one.slug for one in found))
    fix = "create one: alignloop label project add NAME"
    raise NotFound(problem, fix=f"name one of: {names}" if found else fix)


def list_projects(session: Session) -> list[Project]:
    """All projects by title."""
    return list(session.scalars(select(Project).order_by(Project.title, Project.id)))


def create_project(
    session: Session,
    slug: str,
    title: str,
    schema: LabelSchema,
    *,
    locale: str = "",
    text_en: str = "",
    text_zh: str = "",
) -> Project:
    """Create a project with a new secret, and with our guideline if none is given.

    Raises Invalid for an invalid slug and Conflict for one that is taken.
    """
    if not SLUG.fullmatch(slug):
        fix = "use small letters, digits and hyphens, at most 64"
        raise Invalid("this is not a valid name for a project's address", where=slug, fix=fix)
    if session.scalar(select(Project.id).where(Project.slug == slug)) is not None:
        problem = "there is already a project with this name"
        raise Conflict(problem, where=slug, fix="choose another name")
    project = Project(slug=slug, title=title, locale=locale, created_at=now())
    project.secret, project.schema = secrets.token_hex(32), schema.model_dump(mode="json")
    session.add(project)
    _flush_name(session, "there is already a project with this name", slug)
    add_guideline(session, project.id, text_en or GUIDELINE_EN, text_zh or GUIDELINE_ZH)
    return project


def guideline(session: Session, project_id: int) -> Guideline:
    """The current version."""
    newest = select(Guideline).where(Guideline.project_id == project_id)
    return session.scalars(newest.order_by(Guideline.version.desc()).limit(1)).one()


_VERSION = select(func.max(Guideline.version)).where(Guideline.project_id == bindparam("project"))


def guideline_version(session: Session, project_id: int) -> int:
    """The number of the current version; 0 if there is none."""
    return session.scalar(_VERSION, {"project": project_id}) or 0


def list_guidelines(session: Session, project_id: int) -> list[Guideline]:
    """All versions, the newest first."""
    mine = select(Guideline).where(Guideline.project_id == project_id)
    return list(session.scalars(mine.order_by(Guideline.version.desc())))


def add_guideline(session: Session, project_id: int, text_en: str, text_zh: str) -> Guideline:
    """Add a version, which is current from now on."""
    row = Guideline(project_id=project_id, version=guideline_version(session, project_id) + 1)
    row.text_en, row.text_zh, row.created_at = text_en, text_zh, now()
    session.add(row)
    session.flush()
    return row


def list_batches(session: Session, project_id: int) -> list[Batch]:
    """The batches in working order."""
    mine = select(Batch).where(Batch.project_id == project_id)
    return list(session.scalars(mine.order_by(Batch.priority.desc(), Batch.id)))


def get_batch(session: Session, project_id: int, name: str) -> Batch:
    """The batch with this name. Raises NotFound."""
    mine = select(Batch).where(Batch.project_id == project_id, Batch.name == name)
    batch = session.scalar(mine)
    if batch is None:
        raise NotFound("there is no such batch", where=name, fix="create it first")
    return batch


def create_batch(
    session: Session,
    project_id: int,
    name: str,
    *,
    overlap: int = DEFAULT_OVERLAP,
    priority: int = 0,
    repeats: float = 0.0,
) -> Batch:
    """Create an open batch. Raises Conflict for a name that exists and Invalid for bad numbers."""
    check_numbers(overlap=overlap, repeats=repeats)
    if not name.strip():
        raise Invalid("a batch needs a name")
    taken = select(Batch.id).where(Batch.project_id == project_id, Batch.name == name)
    if session.scalar(taken) is not None:
        problem = "there is already a batch with this name"
        raise Conflict(problem, where=name, fix="choose another name")
    batch = Batch(project_id=project_id, name=name, overlap=overlap, priority=priority)
    batch.repeats, batch.created_at, batch.num_items = repeats, now(), 0
    session.add(batch)
    _flush_name(session, "there is already a batch with this name", name)
    return batch


def check_numbers(*, overlap: int, repeats: float) -> None:
    """Raise Invalid for numbers that no batch may have."""
    if not 1 <= overlap <= MAX_OVERLAP:
        raise Invalid(f"{overlap} judgements per item are not allowed", fix="give 1 to 100")
    if not 0 <= repeats <= MAX_REPEATS:
        raise Invalid(f"{repeats} is not a valid share of repeats", fix="give 0 to 0.5")


def _flush_name(session: Session, problem: str, name: str) -> None:
    """Insert what was added; on PostgreSQL somebody may have taken its name a moment ago."""
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(problem, where=name, fix="choose another name") from error
