"""The API about people: accounts, links, members, assigned items, tokens, the audit log."""

from datetime import timedelta
from typing import Any, TypeVar

from fastapi import APIRouter, Request

from alignloop.label.guards import Admin, After, Id, Lead, Store, origin_of
from alignloop.label.store import accounts, assigning, audit, members, projects, tokens
from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Session
from alignloop.label.store.refusals import Forbidden, NotFound
from alignloop.label.store.tables import User
from alignloop.label.store.tasks import Sent
from alignloop.label.web.api import RESPONSES_401, RESPONSES_404
from alignloop.label.web.api_lead import RESPONSES_404_409, Limit, note
from alignloop.label.web.schemas_people import (
    AssignedOut,
    AssignIn,
    AuditOut,
    InvitationOut,
    InvitationsIn,
    Invited,
    MemberOut,
    MembersIn,
    TokenIn,
    TokenMade,
    TokenOut,
    UnassignIn,
    UserIn,
    UserOut,
    UserPatch,
)

Shown = TypeVar("Shown", bound=Sent)

router = APIRouter(prefix="/api/v1", tags=["people"])


@router.get("/users", responses=RESPONSES_401)
def list_users(principal: Lead, database: Store) -> list[UserOut]:
    """The accounts of your projects, and those without a project; admins see all."""
    with database.reading() as session:
        mine = members.slugs_by_user(session)
        found = members.visible_users(session, _me(session, principal))
        return [_shown(UserOut, one, projects=mine.get(one.id, [])) for one in found]


@router.post("/users", status_code=201, responses=RESPONSES_404)
def invite(request: Request, body: UserIn, principal: Lead, database: Store) -> Invited:
    """A one-time link for a new account, or for a new password of an existing one."""
    asked = InvitationsIn(names=[body.name], role=body.role, projects=body.projects)
    with database.transaction() as session:
        made = _invite(session, request, principal, asked)
        note(session, request, principal, "invited", body.name, role=body.role)
    return made[0]


@router.patch("/users/{name:path}", responses=RESPONSES_404_409)  # a name may contain a slash
def change_user(
    request: Request, name: str, body: UserPatch, principal: Lead, database: Store
) -> UserOut:
    """Disable an account, with its sessions and tokens, enable it again, or change its role."""
    with database.transaction() as session:
        user = accounts.get_user(session, name)
        accounts.check_manager(session, _me(session, principal), user)
        if body.active is not None:
            accounts.set_active(session, name, active=body.active)
            note(session, request, principal, "enabled" if body.active else "disabled", name)
        if body.role is not None:
            if not principal.is_admin:
                raise Forbidden("this is for admins", fix="ask an admin")
            accounts.set_role(session, name, body.role)
            note(session, request, principal, "role changed", name, role=body.role)
        mine = members.slugs_by_user(session)
        return _shown(UserOut, user, projects=mine.get(user.id, []))


@router.get("/invitations", responses=RESPONSES_401)
def list_invitations(principal: Lead, database: Store) -> list[InvitationOut]:
    """The links that still work, without the links themselves; leads see their own."""
    with database.reading() as session:
        found = accounts.open_links(session, by=principal.manages_as)
        return [InvitationOut.model_validate(one) for one in found]


@router.post("/invitations", status_code=201, responses=RESPONSES_404)
def invite_several(
    request: Request, body: InvitationsIn, principal: Lead, database: Store
) -> list[Invited]:
    """One-time links for several people; either all of them are made or none."""
    with database.transaction() as session:
        made = _invite(session, request, principal, body)
        for one in made:
            note(session, request, principal, "invited", one.name, role=body.role)
    return made


@router.delete("/invitations/{link}", status_code=204, responses=RESPONSES_404)
def revoke_invitation(request: Request, link: str, principal: Lead, database: Store) -> None:
    """End a link before it is used."""
    with database.transaction() as session:
        ended = accounts.revoke_invitation(session, link, by=principal.manages_as)
        note(session, request, principal, "link ended", ended.name or "")


@router.get("/projects/{slug}/members", responses=RESPONSES_404)
def list_members(slug: str, _principal: Lead, database: Store) -> list[MemberOut]:
    """Who works in a project."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = members.members_of(session, project.id)
        return [_shown(MemberOut, one) for one in found]


@router.post("/projects/{slug}/members", status_code=201, responses=RESPONSES_404)
def add_members(
    request: Request, slug: str, body: MembersIn, principal: Lead, database: Store
) -> list[MemberOut]:
    """Let people with an account work in a project; all of them or none."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        for name in body.names:
            members.add_members(session, [project.id], accounts.get_user(session, name).id)
            note(session, request, principal, "member added", f"{slug}/{name}")
        return [_shown(MemberOut, one) for one in members.members_of(session, project.id)]


@router.delete("/projects/{slug}/members/{name:path}", status_code=204, responses=RESPONSES_404_409)
def remove_member(request: Request, slug: str, name: str, principal: Lead, database: Store) -> None:
    """Take somebody out of a project: their open items go back, their judgements stay."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        members.remove_member(session, project.id, accounts.get_user(session, name).id)
        note(session, request, principal, "member removed", f"{slug}/{name}")


@router.get("/projects/{slug}/assigned", responses=RESPONSES_404)
def list_assigned(slug: str, _principal: Lead, database: Store) -> list[AssignedOut]:
    """How many items are assigned to whom."""
    with database.reading() as session:
        project = projects.get_project(session, slug)
        found = assigning.count_assigned(session, project.id)
    return [AssignedOut.model_validate(one) for one in found]


@router.post("/projects/{slug}/assigned", status_code=201, responses=RESPONSES_404_409)
def assign(
    request: Request, slug: str, body: AssignIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Assign items to members of the project; returns how many `items`."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        batch = projects.get_batch(session, project.id, body.batch)
        people = [one.id for one in members.named(session, project.id, body.names)]
        chosen: dict[str, Any] = {"keys": body.comparison_ids, "count": body.count}
        done = assigning.assign(session, batch, people, only=body.only, **chosen)
        detail = {"names": body.names, "items": done, "only": body.only}
        note(session, request, principal, "items assigned", f"{slug}/{batch.name}", **detail)
    return {"items": done}


@router.post("/projects/{slug}/unassign", responses=RESPONSES_404_409)
def unassign(
    request: Request, slug: str, body: UnassignIn, principal: Lead, database: Store
) -> dict[str, int]:
    """Take assigned items back; returns how many assignments ended (`ended`)."""
    with database.transaction() as session:
        project = projects.get_project(session, slug)
        batch = projects.get_batch(session, project.id, body.batch)
        people = [one.id for one in members.named(session, project.id, body.names)]
        ended = assigning.unassign(session, batch, people)
        where = f"{slug}/{batch.name}"
        note(session, request, principal, "items taken back", where, names=body.names)
    return {"ended": ended}


@router.get("/tokens", responses=RESPONSES_401)
def list_tokens(principal: Lead, database: Store) -> list[TokenOut]:
    """The API tokens of the accounts that you manage, without their secrets."""
    with database.reading() as session:
        found = tokens.managed_by(session, _me(session, principal))
        return [_shown(TokenOut, one, user=user.name) for one, user in found]


@router.post("/tokens", status_code=201, responses=RESPONSES_404)
def create_token(request: Request, body: TokenIn, principal: Lead, database: Store) -> TokenMade:
    """Create an API token; its secret is shown only here."""
    with database.transaction() as session:
        user = accounts.get_user(session, body.user)
        accounts.check_manager(session, _me(session, principal), user)
        lasts = timedelta(days=body.days)
        made, secret = tokens.create_token(
            session, user.id, body.name, list(body.scopes), lasts=lasts
        )
        note(session, request, principal, "token made", f"{user.name}/{body.name}")
        return _shown(TokenMade, made, user=user.name, token=secret)


@router.delete("/tokens/{token_id}", status_code=204, responses=RESPONSES_404)
def revoke_token(request: Request, token_id: Id, principal: Lead, database: Store) -> None:
    """End a token."""
    with database.transaction() as session:
        ended = tokens.revoke_token(session, token_id)
        user = session.get_one(User, ended.user_id)
        accounts.check_manager(session, _me(session, principal), user)
        note(session, request, principal, "token ended", ended.name)


@router.get("/audit", responses=RESPONSES_401)
def list_audit(
    _principal: Admin, database: Store, before: After | None = None, limit: Limit = 200
) -> list[AuditOut]:
    """The audit log, newest first; `before` is the last id of the previous page."""
    with database.reading() as session:
        names = accounts.user_names(session)
        rows = audit.latest(session, limit=limit, before=before)
    return [_shown(AuditOut, row, user=names.get(row.user_id)) for row in rows]


def _invite(
    session: Session, request: Request, principal: Principal, body: InvitationsIn
) -> list[Invited]:
    mine = members.visible_projects(session, principal.user_id, every=principal.is_admin)
    ids = {one.slug: one.id for one in mine}
    if unknown := [slug for slug in body.projects if slug not in ids]:
        raise NotFound("there is no such project", where=unknown[0])
    joined = [ids[slug] for slug in body.projects]
    made: list[Invited] = []
    for name in dict.fromkeys(body.names):
        token = accounts.invite(session, body.role, name, projects=joined, by=principal.user_id)
        made.append(Invited(name=name, link=f"{origin_of(request)}/invite/{token}"))
    return made


def _me(session: Session, principal: Principal) -> User:
    return session.get_one(User, principal.user_id)


def _shown(kind: type[Shown], row: object, **more: object) -> Shown:
    """A store row in the API's form, with values from other tables."""
    same = (name for name in kind.model_fields if name not in more)
    return kind.model_validate({name: getattr(row, name) for name in same} | more)
