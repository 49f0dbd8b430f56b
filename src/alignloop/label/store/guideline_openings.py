"""Which versions of a guideline an annotator has opened, if a project demands it."""

from contextlib import suppress

from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alignloop.label.store.projects import get_project
from alignloop.label.store.refusals import Forbidden, NotFound
from alignloop.label.store.tables import Guideline, GuidelineOpening, Project, now
from alignloop.label.store.tasks import LabelSchema

# Built once, as in `queue`.
_OPENED = (
    select(GuidelineOpening.guideline_id)
    .join(Guideline, Guideline.id == GuidelineOpening.guideline_id)
    .where(
        Guideline.project_id == bindparam("project"),
        Guideline.version == bindparam("version"),
        GuidelineOpening.user_id == bindparam("user"),
    )
)


def open_guideline(session: Session, slug: str, user_id: int, version: int) -> None:
    """Note that a user has opened a version of a guideline; the first time counts.

    Raises NotFound for a project or a version that does not exist.
    """
    project = get_project(session, slug)
    mine = Guideline.project_id == project.id, Guideline.version == version
    found = session.scalar(select(Guideline).where(*mine))
    if found is None:
        raise NotFound("there is no such version of the guideline", where=f"{slug}, {version}")
    if session.get(GuidelineOpening, (user_id, found.id)) is None:
        row = GuidelineOpening(user_id=user_id, guideline_id=found.id, opened_at=now())
        # another tab may note the same at the same moment
        with suppress(IntegrityError), session.begin_nested():
            session.add(row)


def is_due(session: Session, project: Project, user_id: int, version: int) -> bool:
    """Whether a user must open this version before judging."""
    if not LabelSchema.model_validate(project.schema).guideline_first:
        return False
    where = {"project": project.id, "version": version, "user": user_id}
    return session.scalar(_OPENED, where) is None


def require_opened(session: Session, project_id: int, user_id: int, version: int) -> None:
    """Raise Forbidden if a user must first open the version that their judgement would name."""
    if is_due(session, session.get_one(Project, project_id), user_id, version):
        problem = "the guideline of this project has to be opened before the first judgement"
        raise Forbidden(problem, fix="open the guideline, then submit again")
