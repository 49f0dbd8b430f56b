"""The screens about people: accounts and links, members of a project, tokens, the audit log."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from alignloop.label.guards import Admin, After, Lead, Store
from alignloop.label.pages.lead import screen
from alignloop.label.pages.templating import PageRoute
from alignloop.label.store import accounts, assigning, audit, members, projects, tokens
from alignloop.label.store.tables import User

router = APIRouter(
    route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False
)
PAGE_OF_LOG = 100


@router.get("/lead/users")
def users(request: Request, principal: Lead, database: Store) -> Response:
    """The accounts, and the links that still work."""
    with database.reading() as session:
        me = session.get_one(User, principal.user_id)
        mine = members.slugs_by_user(session)
        found = [
            vars(one)
            | {
                "projects": mine.get(one.id, []),
                "managed": one.id != me.id and members.may_manage(session, me, one),
            }
            for one in members.visible_users(session, me)
        ]
        links = accounts.open_links(session, by=principal.manages_as)
        joinable = members.visible_projects(session, me.id, every=principal.is_admin)
    roles = accounts.ROLES if principal.is_admin else ("annotator", "lead")
    values = {"users": found, "links": links, "projects": joinable, "roles": roles}
    return screen(request, principal, "users", **values)


@router.get("/lead/{slug}/members")
def project_members(request: Request, slug: str, principal: Lead, database: Store) -> Response:
    """Who works in a project, and the items that are assigned to them."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        inside = members.members_of(session, project.id)
        me = session.get_one(User, principal.user_id)
        others = {one.name for one in members.visible_users(session, me) if one.active}
        assigned = assigning.count_assigned(session, project.id)
        batches = projects.list_batches(session, project.id)
    return screen(
        request,
        principal,
        "members",
        project=project,
        members=inside,
        others=sorted(others - {one.name for one in inside}),
        assigned=assigned,
        batches=[one for one in batches if not one.closed],
    )


@router.get("/lead/tokens")
def list_tokens(request: Request, principal: Lead, database: Store) -> Response:
    """The API tokens."""
    with database.reading() as session:
        me = session.get_one(User, principal.user_id)
        managed = tokens.managed_by(session, me)
        found: list[dict[str, Any]] = [vars(one) | {"user": who.name} for one, who in managed]
        people = [
            one
            for one in members.visible_users(session, me)
            if members.may_manage(session, me, one)
        ]
    return screen(request, principal, "tokens", tokens=found, users=people)


@router.get("/lead/audit")
def audit_log(
    request: Request, principal: Admin, database: Store, before: After | None = None
) -> Response:
    """The audit log."""
    with database.reading() as session:
        names = accounts.user_names(session)
        found = audit.latest(session, limit=PAGE_OF_LOG, before=before)
    rows = [vars(one) | {"who": names.get(one.user_id, "")} for one in found]
    older = found[-1].id if len(found) == PAGE_OF_LOG else None
    return screen(request, principal, "audit", rows=rows, older=older)
