"""The lead's screens of work and people: progress, batches, guideline, users, tokens, the log."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.guards import After, Lead, Store
from alignloop.label.pages import views
from alignloop.label.pages.templating import PageRoute, screen
from alignloop.label.quality.forecast import forecast
from alignloop.label.store import accounts, audit, projects, tokens
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.tables import now

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)
PAGE_OF_LOG = 100


@router.get("/lead/users")
def users(request: Request, principal: Lead, database: Store) -> Response:
    """The users."""
    with database.reading() as session:
        found = accounts.list_users(session)
    return screen(request, principal, "users", users=found)


@router.get("/lead/tokens")
def list_tokens(request: Request, principal: Lead, database: Store) -> Response:
    """The API tokens."""
    with database.reading() as session:
        people = accounts.list_users(session)
        names = accounts.user_names(session)
        found = [vars(one) | {"user": names[one.user_id]} for one in tokens.list_tokens(session)]
    return screen(request, principal, "tokens", tokens=found, users=people)


@router.get("/lead/audit")
def audit_log(
    request: Request, principal: Lead, database: Store, before: After | None = None
) -> Response:
    """The audit log."""
    with database.reading() as session:
        names = accounts.user_names(session)
        found = audit.latest(session, limit=PAGE_OF_LOG, before=before)
    rows = [vars(one) | {"who": names.get(one.user_id, "")} for one in found]
    older = found[-1].id if len(found) == PAGE_OF_LOG else None
    return screen(request, principal, "audit", rows=rows, older=older)


@router.get("/lead/{slug}/progress")
def progress(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Work done, by whom, and the forecast."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        labels = load_labels(session, project.id)
        batches = views.batch_rows(projects.list_batches(session, project.id), labels)
    at = now()
    return screen(
        request,
        principal,
        "progress",
        project=project,
        forecast=forecast(labels, at),
        batches=batches,
        people=views.person_rows(labels, at),
    )


@router.get("/lead/{slug}/batches")
def batches(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Batches, and importing items."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rows = views.batches_with_gold(session, projects.list_batches(session, project.id))
    return screen(request, principal, "batches", project=project, batches=rows)


@router.get("/lead/{slug}/guideline")
def edit_guideline(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """The guideline in both languages, with all its versions."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        versions = projects.list_guidelines(session, project.id)
    return screen(request, principal, "guideline", project=project, versions=versions)
