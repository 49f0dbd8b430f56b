"""Projects, their guidelines in versions, and batches."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.tables import Batch, Guideline, Project
from alignloop.label.store.tasks import LabelSchema


def get_project(session: Session, slug: str) -> Project:
    """The project of this name in URLs. Raises NotFound."""
    raise NotImplementedError((session, slug))


def list_projects(session: Session) -> list[Project]:
    """All projects by title."""
    return list(session.scalars(select(Project).order_by(Project.title)))


def create_project(
    session: Session, slug: str, title: str, schema: LabelSchema, *, locale: str = ""
) -> Project:
    """A new project with a secret of its own and the default guideline. Raises Conflict, Invalid."""
    raise NotImplementedError((session, slug, title, schema, locale))


def guideline(session: Session, project_id: int) -> Guideline:
    """The version that holds."""
    raise NotImplementedError((session, project_id))


def add_guideline(session: Session, project_id: int, text_en: str, text_zh: str) -> Guideline:
    """A new version, which holds from now on."""
    raise NotImplementedError((session, project_id, text_en, text_zh))


def list_batches(session: Session, project_id: int) -> list[Batch]:
    """The batches in the order in which they are worked off."""
    raise NotImplementedError((session, project_id))


def create_batch(
    session: Session,
    project_id: int,
    name: str,
    *,
    overlap: int = 1,
    priority: int = 0,
    repeats: float = 0.0,
) -> Batch:
    """A new batch, open. Raises Conflict for a name that is there and Invalid for bad numbers."""
    raise NotImplementedError((session, project_id, name, overlap, priority, repeats))


def close_batch(session: Session, project_id: int, batch_id: int, *, closed: bool) -> Batch:
    """Stop handing out a batch's items, or go on with it. Raises NotFound."""
    raise NotImplementedError((session, project_id, batch_id, closed))
