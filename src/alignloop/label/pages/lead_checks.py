"""The lead's screen of the checks: people, events, and the rules of the queue."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.guards import Lead, Store
from alignloop.label.pages.templating import PageRoute, page
from alignloop.label.store import projects
from alignloop.label.store.check_view import checked_people
from alignloop.label.store.events import latest_events
from alignloop.label.store.rules import CHECKS, rules_of
from alignloop.label.store.turns import CHECK, ENTRY, TRAINING, count_gold_of

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)


@router.get("/lead/{slug}/checks")
def checks(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Who may go on, what the checks say, and the rules."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        rules = rules_of(project)
        people = checked_people(session, project.id, rules)
        events = latest_events(session, project.id)
        gold = {use: count_gold_of(session, project.id, use) for use in (CHECK, ENTRY, TRAINING)}
    return page(
        request,
        "lead_checks",
        principal,
        tab="checks",
        project=project,
        people=people,
        events=events,
        rules=rules.model_dump(),
        gold=gold,
        all_checks=CHECKS,
    )
