"""The API of annotators for guidelines: noting that a version has been opened."""

from fastapi import APIRouter
from pydantic import Field

from alignloop.label.guards import Annotator, Store
from alignloop.label.store.guideline_openings import open_guideline
from alignloop.label.store.tasks import BIGGEST_ID, Received
from alignloop.label.web.api import RESPONSES_404

router = APIRouter(prefix="/api/v1", tags=["annotator"])


class OpenedIn(Received):
    """The version of the guideline that was opened."""

    version: int = Field(ge=1, le=BIGGEST_ID)


@router.post("/projects/{slug}/guideline/opened", status_code=204, responses=RESPONSES_404)
def opened(slug: str, body: OpenedIn, principal: Annotator, database: Store) -> None:
    """Note that the user has opened a version of the guideline, as some projects demand."""
    with database.transaction() as session:
        open_guideline(session, slug, principal.user_id, body.version)
