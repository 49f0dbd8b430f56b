"""The security table of the annotation application: who may do what, every route by every role."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import SLUG, World, browser, make_account, make_token, path_of, session_of

from alignloop.label.guards import GUARDS
from alignloop.label.store import accounts, members, queue
from alignloop.label.store.database import Database
from alignloop.label.web.app import create_app, guard_of, routes_of, scope_of

MakeWorld = Callable[..., World]


# --- roles ------------------------------------------------------------------------------------


ALLOWED = {
    "anyone": {"nobody", "annotator", "lead", "admin"},
    "annotator": {"annotator", "lead", "admin"},
    "lead": {"lead", "admin"},
    "admin": {"admin"},
}
ROLES = {"nobody": "", "annotator": "ann", "lead": "lea", "admin": "ada"}


def outcome(client: Any, method: str, path: str) -> str:
    """What the guard says: "in", "refused" for the role, or "hidden" from who is no member.

    A route that lets somebody in may still find that there is no such thing, in its own words.
    """
    answer = client.request(method, path)
    led_to_login = answer.status_code == 303 and answer.headers["location"].startswith("/login")
    if answer.status_code in (401, 403) or led_to_login:
        return "refused"
    guarded = {"there is no such project", "you have no such assignment"}
    guarded |= {"there is no such export, or its file is gone"}
    if answer.status_code != 404:
        return "in"
    is_page = answer.headers["content-type"].startswith("text/html")
    return "hidden" if is_page or answer.json()["detail"] in guarded else "in"


def expected(guard: str, scope: str, role: str, is_member: bool) -> str:
    if role not in ALLOWED[guard]:
        return "refused"
    return "hidden" if scope == "project" and not is_member and role != "admin" else "in"


@pytest.mark.slow
@pytest.mark.parametrize("is_member", [True, False])
def test_every_route_lets_in_the_roles_of_its_guard_and_the_members_of_its_project(
    app: FastAPI, people: World, is_member: bool
) -> None:
    make_account(people.database, "ada", "admin")
    real = things_of(people)
    if not is_member:
        set_members(people, ["ann", "lea"], adds=False)
    asked, client = 0, browser(app)
    for route in routes_of(app):
        guard, scope = guard_of(route), scope_of(route)
        assert guard in ALLOWED, route.path
        path = path_of(route).replace("/assignments/1", f"/assignments/{real['ann']}")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            for role, name in ROLES.items():
                sign(client, people, name)
                told = outcome(client, method, path)
                wanted = expected(guard, scope, role, is_member)
                # a real thing may be somebody else's or not there, which only members are told
                own_words = scope != "project" or is_member or role == "admin"
                assert told == wanted or (told == "hidden" and wanted == "in" and own_words), (
                    *(role, method, route.path),
                    *(told, wanted),
                )
                asked += scope == "project" and told == "hidden"
    assert asked > (0 if is_member else 40)


def things_of(people: World) -> dict[str, int]:
    """An assignment of ann's, so that what is hidden from her is really there."""
    with people.database.transaction() as session:
        ann = accounts.get_user(session, "ann").id
        task = queue.claim(session, SLUG, ann)
        assert task is not None
        return {"ann": task.assignment_id}


def set_members(people: World, names: list[str], *, adds: bool) -> None:
    with people.database.transaction() as session:
        for name in names:
            user_id = accounts.get_user(session, name).id
            if adds:
                members.add_members(session, [people.project_id], user_id)
            else:
                members.remove_member(session, people.project_id, user_id)


def sign(client: Any, people: World, name: str) -> None:
    """Give a browser a fresh session of somebody, without the cost of a password, or none."""
    client.cookies.clear()
    client.headers["X-CSRF-Token"] = ""
    if name:
        begun = session_of(people.database, name)
        client.cookies.set("alignloop", begun.cookie)
        client.headers["X-CSRF-Token"] = begun.csrf


LEADS_ALONE = {"users", "tokens", "audit", "items", "judgements", "quality", "exports", "import"}
LEADS_ALONE |= {"members", "assigned", "unassign", "{link}"}


def test_what_annotators_must_not_see_is_for_leads(app: FastAPI) -> None:
    guards = {(route.path, guard_of(route)) for route in routes_of(app)}
    for path, guard in guards:
        if set((path or "").split("/")) & LEADS_ALONE or (path or "").startswith("/lead"):
            assert guard == ("admin" if path and path.endswith("/audit") else "lead"), path
    open_ones = {path for path, guard in guards if guard == "anyone"}
    assert open_ones == {
        *("/login", "/invite/{token}", "/static"),
        *("/api/v1/login", "/api/v1/invitations/accept", "/api/v1/openapi.json"),
    }


def test_a_route_without_a_guard_stops_the_application(database: Database) -> None:
    from alignloop.label.web import api

    route = lambda: None  # noqa: E731
    api.router.add_api_route("/forgotten", route)
    try:
        with pytest.raises(AssertionError, match="forgotten"):
            create_app(database)
    finally:
        api.router.routes.pop()
    assert len(GUARDS) == 4


def test_a_route_that_does_not_say_whose_project_it_is_about_stops_the_application(
    database: Database,
) -> None:
    from alignloop.label.guards import Lead
    from alignloop.label.web import api

    def of_somebody(batch_id: int, principal: Lead) -> None: ...

    api.router.add_api_route("/batches/{batch_id}", of_somebody)
    try:
        with pytest.raises(AssertionError, match="whose project"):
            create_app(database)
    finally:
        api.router.routes.pop()


def test_tokens_reach_only_what_their_scope_says(app: FastAPI, people: World) -> None:
    with people.database.reading() as session:
        lead_id = accounts.get_user(session, "lea").id
    scoped = {scope: make_token(people.database, lead_id, scope) for scope in ("judge", "lead")}
    paths = {"judge": "/api/v1/projects", "lead": "/api/v1/users"}
    for scope, token in scoped.items():
        client = browser(app)
        client.headers["Authorization"] = f"Bearer {token}"
        for needed, path in paths.items():
            assert client.get(path).status_code == (200 if needed == scope else 403)
