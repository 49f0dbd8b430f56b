"""The routes of the pages, which only read. Every change goes through the JSON API."""

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.guards import Annotator, Anyone, Id, Store
from alignloop.label.pages import lead, views
from alignloop.label.pages.diff import differences
from alignloop.label.pages.templating import PageRoute, locale_of, page
from alignloop.label.store import accounts, projects
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.task_view import find_task
from alignloop.label.store.tasks import GuidelineText

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)


@router.get("/login")
def login(request: Request, _anyone: None = Anyone, after: str = "/") -> Response:
    """Sign in, and continue to the page requested."""
    return page(request, "login", None, after=_local(after))


@router.get("/invite/{token}")
def invite(request: Request, token: str, database: Store, _anyone: None = Anyone) -> Response:
    """A one-time link: choose a password, and a name if none is given."""
    with database.reading() as session:
        try:
            invitation = accounts.invitation(session, token)
        except NotFound:
            return page(request, "invite", None, status=404, invitation=None, token="")
    return page(request, "invite", None, invitation=invitation, token=token)


@router.get("/")
def list_projects(request: Request, principal: Annotator, database: Store) -> Response:
    """The projects."""
    with database.reading() as session:
        cards = [
            views.project_card(session, project, principal.user_id)
            for project in projects.list_projects(session)
        ]
    return page(request, "projects", principal, projects=cards)


@router.get("/p/{slug}")
def annotate(request: Request, slug: str, principal: Annotator, database: Store) -> Response:
    """The annotation screen; its script requests items one after another."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
    return page(request, "annotate", principal, project=project)


@router.get("/p/{slug}/guideline")
def guideline(request: Request, slug: str, principal: Annotator, database: Store) -> Response:
    """The current guideline."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        newest = projects.guideline(session, project.id)
    text = newest.text_zh if locale_of(request, principal) == "zh" else newest.text_en
    shown = GuidelineText(version=newest.version, text=text)
    return page(request, "guideline", principal, project=project, guideline=shown)


@router.get("/p/{slug}/task/{assignment_id}")
def show_task(
    request: Request, slug: str, assignment_id: Id, principal: Annotator, database: Store
) -> Response:
    """One item as a fragment of the annotation screen, only for its assignee."""
    locale = locale_of(request, principal)
    with database.reading() as session:
        task = find_task(session, slug, assignment_id, principal.user_id, locale)
    return page(request, "task", principal, task=task)


@router.get("/p/{slug}/task/{assignment_id}/differences")
def show_differences(
    request: Request, slug: str, assignment_id: Id, principal: Annotator, database: Store
) -> Response:
    """Where the answers of an item differ, as a fragment: it takes time, and few ask for it."""
    with database.reading() as session:
        task = find_task(session, slug, assignment_id, principal.user_id, "en")
    found = differences([answer.text for answer in task.answers])
    return page(request, "differences", principal, differences=found)


def _local(path: str) -> str:
    """A path on this site; anything else becomes "/", which prevents open redirects."""
    return path if re.fullmatch(r"/(?![/\\])[\w\-./]*", path, re.ASCII) else "/"


router.include_router(lead.router)
