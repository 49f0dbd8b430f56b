"""The security table of the annotation application: who may do what, every route by every role."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from label_support import World, browser, make_token, path_of, session_of

from alignloop.label.guards import GUARDS
from alignloop.label.store import accounts
from alignloop.label.store.database import Database
from alignloop.label.web.app import create_app, guard_of, routes_of

MakeWorld = Callable[..., World]


# --- roles ------------------------------------------------------------------------------------


def reached(client: Any, method: str, path: str) -> bool:
    """Whether the route let the request in: it may still find that there is no such thing."""
    answer = client.request(method, path)
    refused = answer.status_code in (401, 403)
    led_to_login = answer.status_code == 303 and answer.headers["location"].startswith("/login")
    return not refused and not led_to_login


ALLOWED = {
    "anyone": {"nobody", "annotator", "lead"},
    "annotator": {"annotator", "lead"},
    "lead": {"lead"},
}


@pytest.mark.slow
def test_every_route_lets_in_exactly_the_roles_of_its_guard(app: FastAPI, people: World) -> None:
    asked, client = 0, browser(app)
    for route in routes_of(app):
        guard = guard_of(route)
        assert guard in ALLOWED, route.path
        for method in sorted((route.methods or set()) - {"HEAD"}):
            for role, name in (("nobody", ""), ("annotator", "ann"), ("lead", "lea")):
                sign(client, people, name)
                allowed = reached(client, method, path_of(route))
                assert allowed is (role in ALLOWED[guard]), (role, method, route.path)
                asked += 1
    assert asked > 100


def sign(client: Any, people: World, name: str) -> None:
    """Give a browser a fresh session of somebody, without the cost of a password, or none."""
    client.cookies.clear()
    client.headers["X-CSRF-Token"] = ""
    if name:
        begun = session_of(people.database, name)
        client.cookies.set("alignloop", begun.cookie)
        client.headers["X-CSRF-Token"] = begun.csrf


LEADS_ALONE = {"users", "tokens", "audit", "items", "judgements", "quality", "exports", "import"}


def test_what_annotators_must_not_see_is_for_leads(app: FastAPI) -> None:
    guards = {(route.path, guard_of(route)) for route in routes_of(app)}
    for path, guard in guards:
        if set((path or "").split("/")) & LEADS_ALONE or (path or "").startswith("/lead"):
            assert guard == "lead", path
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
    assert len(GUARDS) == 3


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
