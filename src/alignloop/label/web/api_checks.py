"""The API of leads for the queue: rules, pauses, gold questions, scores, events."""

import dataclasses
from typing import Any

from fastapi import APIRouter, Request

from alignloop.label.guards import Id, Lead, Store
from alignloop.label.store import projects, seats
from alignloop.label.store.check_view import checked_people
from alignloop.label.store.events import latest_events
from alignloop.label.store.gold import change_gold
from alignloop.label.store.ranking import set_scores
from alignloop.label.store.rules import QueueRules, rules_of
from alignloop.label.web.api import RESPONSES_404, problems
from alignloop.label.web.api_lead import note
from alignloop.label.web.schemas import GoldPatch, PersonPatch, RulesPatch, ScoresIn

router = APIRouter(prefix="/api/v1/projects/{slug}", tags=["lead"])
RESPONSES_404_422 = {**RESPONSES_404, **problems(409)}


@router.get("/rules", responses=RESPONSES_404)
def get_rules(slug: str, _principal: Lead, database: Store) -> QueueRules:
    """How annotators are checked, what they get, and the entry test."""
    with database.reading() as session:
        return rules_of(projects.get_project(session, slug))


@router.patch("/rules", responses=RESPONSES_404)
def change_rules(
    request: Request, slug: str, body: RulesPatch, principal: Lead, database: Store
) -> QueueRules:
    """Change some rules, for everybody from now on."""
    changes = body.model_dump(mode="json", exclude_unset=True)
    with database.transaction() as session:
        made = seats.change_rules(session, projects.get_project(session, slug), changes)
        note(session, request, principal, "rules changed", slug, **changes)
        return made


@router.get("/people", responses=RESPONSES_404)
def list_people(slug: str, _principal: Lead, database: Store) -> list[dict[str, Any]]:
    """Everybody in the project with their checks: evidence, flags and pauses."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = checked_people(session, project.id, rules_of(project))
    return [dataclasses.asdict(one) for one in found]


ACTIONS = {
    "pause": "annotator paused",
    "resume": "annotator resumed",
    "admit": "annotator admitted",
}


@router.patch("/people/{name:path}", status_code=204, responses=RESPONSES_404)
def change_person(
    request: Request, slug: str, name: str, body: PersonPatch, principal: Lead, database: Store
) -> None:
    """Pause an annotator, let them go on with new counts, or let them in without entry test."""
    change = {"pause": seats.pause_by_lead, "resume": seats.resume, "admit": seats.admit}
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        change[body.action](session, project.id, name)
        note(session, request, principal, ACTIONS[body.action], f"{slug}/{name}")


@router.get("/events", responses=RESPONSES_404)
def list_events(slug: str, _principal: Lead, database: Store) -> list[dict[str, Any]]:
    """The latest events of the project, newest first."""
    with database.reading() as session:
        rows = latest_events(session, projects.get_project(session, slug).id)
        return [{"id": r.id, "at": r.at, "kind": r.kind, "data": r.data} for r in rows]


@router.patch("/items/{item_id}", status_code=204, responses=RESPONSES_404_422)
def change_item(
    request: Request, slug: str, item_id: Id, body: GoldPatch, principal: Lead, database: Store
) -> None:
    """Say what a gold question is for, and why its answer is right."""
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        change_gold(session, project.id, item_id, **changes)
        note(session, request, principal, "gold question changed", slug, item=item_id)


@router.post("/scores", responses=RESPONSES_404_422)
def score(
    request: Request, slug: str, body: ScoresIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Put the open items in the order of scores, highest first, with a random control share.

    Items without a score keep their places.
    """
    with database.reading() as session:
        project = projects.get_project(session, slug)
    ranked, control = set_scores(
        database,
        project.id,
        {int(item): found for item, found in body.scores.items()},
        why=body.why,
        control=body.control,
        seed=body.seed,
    )
    with database.transaction() as session:
        note(session, request, principal, "items ranked", slug, ranked=ranked, why=body.why)
    return {"ranked": ranked, "control": control}
