"""The security table of the annotation application: headers, CSRF, sessions, hosts, audit log."""

import itertools
import re
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import FastAPI
from label_support import PASSWORD, SLUG, World, browser, make_token, path_of, session_of
from sqlalchemy import select

from alignloop.label.server_settings import ServerSettings
from alignloop.label.store import accounts, sign_in, tokens
from alignloop.label.store.people_tables import AuditLog, SignedIn
from alignloop.label.store.tables import now
from alignloop.label.web.app import create_app, guard_of, routes_of
from alignloop.label.web.shield import CONTENT_SECURITY_POLICY

MakeWorld = Callable[..., World]


# --- headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/login", "/api/v1/me", "/api/v1/openapi.json", "/nowhere", "/static/style.css", "/"]
)
def test_every_response_carries_the_policy(app: FastAPI, path: str) -> None:
    response = browser(app).get(path)
    assert response.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert (response.headers.get("cache-control") == "no-store") is not path.startswith("/static")


def test_a_mistake_of_ours_says_nothing_and_carries_the_policy(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    client._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    with patch("alignloop.label.web.api.members.visible_projects", side_effect=KeyError("secret")):
        response = client.get("/api/v1/projects")
    assert response.status_code == 500
    assert "secret" not in response.text
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("host", ["[", "[::1", "]", ""])
def test_a_host_that_is_none_is_refused_as_any_other(app: FastAPI, host: str) -> None:
    assert browser(app).get("/login", headers={"Host": host}).status_code == 400


# --- CSRF -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"X-CSRF-Token": ""}, 403),
        ({"X-CSRF-Token": "wrong"}, 403),
        ({"X-CSRF-Token": "ü".encode("latin-1").decode("latin-1")}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "http://localhost:8001"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_a_change_by_cookie_needs_token_and_origin(
    app: FastAPI, people: World, headers: dict[str, str], status: int
) -> None:
    client = browser(app, "ann")
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    response = client.post(f"/api/v1/projects/{SLUG}/claim", headers=sent)
    assert response.status_code == status, response.text


@pytest.mark.slow
def test_a_change_without_an_origin_is_refused(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    del client.headers["Origin"]
    assert client.post(f"/api/v1/projects/{SLUG}/claim").status_code == 403


def test_the_login_cannot_be_sent_from_another_site(app: FastAPI, people: World) -> None:
    client = browser(app)
    body = {"name": "ann", "password": PASSWORD}
    answer = client.post("/api/v1/login", json=body, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_an_api_token_needs_no_origin_since_no_browser_sends_it_by_itself(
    app: FastAPI, people: World
) -> None:
    token = make_token(people.database, people.users[0], "judge")
    client = browser(app)
    client.headers = {"Authorization": f"Bearer {token}"}  # type: ignore[assignment]
    assert client.post(f"/api/v1/projects/{SLUG}/claim").status_code == 200


def test_one_csrf_token_does_not_do_for_another_session(app: FastAPI, people: World) -> None:
    one, other = browser(app, "ann"), browser(app, "lea")
    one.headers["X-CSRF-Token"] = other.headers["X-CSRF-Token"]
    assert one.post(f"/api/v1/projects/{SLUG}/claim").status_code == 403


def test_nothing_changes_by_get(app: FastAPI, people: World) -> None:
    client = browser(app, "lea")
    file = sqlite3.connect(str(people.database.engine.url.database))
    version = "PRAGMA data_version"  # moves on with every commit of another connection
    before = file.execute(version).fetchone()
    for route in routes_of(app):
        if "GET" in (route.methods or ()):
            client.get(path_of(route))
    after = file.execute(version).fetchone()
    client.post(f"/api/v1/projects/{SLUG}/claim")
    changed = file.execute(version).fetchone()
    file.close()
    assert before == after
    assert after != changed  # so it is noticed when something does change


# --- sessions ---------------------------------------------------------------------------------


def cookie_of(app: FastAPI, scheme: str = "http") -> str:
    """The Set-Cookie header of a login."""
    client = browser(app, scheme=scheme)
    body = {"name": "lea", "password": PASSWORD}
    return client.post("/api/v1/login", json=body).headers["set-cookie"]


def test_the_cookie_is_http_only_and_bound_to_this_site(app: FastAPI, people: World) -> None:
    found = cookie_of(app)
    assert re.match(r"alignloop=[\w-]{43}; ", found)  # 256 bits
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(found.split("; "))
    assert "Domain" not in found
    assert "Secure" not in found


def test_with_tls_the_cookie_is_for_this_host_and_tls_alone(people: World) -> None:
    settings = ServerSettings(public_url="https://localhost", hosts=())
    found = cookie_of(create_app(people.database, settings), "https")
    assert found.startswith("__Host-alignloop=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(found.split("; "))


def test_a_login_makes_a_new_id_and_ends_the_old_session(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    old = client.cookies["alignloop"]
    client.post("/api/v1/login", json={"name": "ann", "password": PASSWORD})
    assert client.cookies["alignloop"] != old
    assert sign_in.who(people.database, old) is None
    assert sign_in.who(people.database, client.cookies["alignloop"]) is not None


def test_an_id_that_the_server_did_not_make_is_never_taken_over(
    app: FastAPI, people: World
) -> None:
    client = browser(app)
    client.cookies.set("alignloop", "chosen-by-somebody-else")
    signed_in = client.post("/api/v1/login", json={"name": "ann", "password": PASSWORD})
    assert "chosen-by-somebody-else" not in signed_in.headers["set-cookie"]
    assert sign_in.who(people.database, "chosen-by-somebody-else") is None


def test_only_the_hash_of_a_session_is_stored(people: World) -> None:
    begun = session_of(people.database, "ann")
    with people.database.reading() as session:
        row = session.scalars(select(SignedIn)).one()
    assert begun.cookie not in str(vars(row))
    assert len(row.id_hash) == 64


def test_a_session_ends_when_it_is_idle_and_at_the_latest_after_its_limit(people: World) -> None:
    begun, start = session_of(people.database, "ann"), now()
    step = sign_in.IDLE - timedelta(minutes=1)
    for number in itertools.count(1):  # busy all the time
        at = start + number * step
        if sign_in.who(people.database, begun.cookie, at=at) is None:
            break
    assert at >= start + sign_in.ABSOLUTE
    begun = session_of(people.database, "ann")
    idle = now() + sign_in.IDLE
    assert sign_in.who(people.database, begun.cookie, at=idle - timedelta(minutes=1)) is not None
    later = idle + sign_in.IDLE
    assert sign_in.who(people.database, begun.cookie, at=later) is None


def test_logging_out_ends_the_session_on_the_server(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    cookie = client.cookies["alignloop"]
    assert client.post("/api/v1/logout").status_code == 204
    assert sign_in.who(people.database, cookie) is None


def test_disabling_an_account_ends_its_sessions_and_tokens(people: World) -> None:
    begun = session_of(people.database, "ann")
    with people.database.reading() as session:
        user_id = accounts.get_user(session, "ann").id
    token = make_token(people.database, user_id, "judge")
    with people.database.transaction() as session:
        accounts.set_active(session, "ann", active=False)
    with people.database.transaction() as session:
        accounts.set_active(session, "ann", active=True)
    assert sign_in.who(people.database, begun.cookie) is None
    assert tokens.whose(people.database, token) is None


# --- hosts, bodies, the audit log -------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[("localhost", 200), ("localhost:8000", 200), ("127.0.0.1:9", 200), ("[::1]:8000", 200)],
        *[("evil.example", 400), ("127.0.0.1.evil.example", 400), ("", 400)],
    ],
)
def test_the_server_answers_to_its_own_names_only(app: FastAPI, host: str, status: int) -> None:
    assert browser(app).get("/login", headers={"Host": host}).status_code == status


def test_numbers_beyond_the_databases_are_refused_by_every_route(
    app: FastAPI, people: World
) -> None:
    client, asked = browser(app, "lea"), 0
    for route in routes_of(app):
        if "_id}" in (route.path or ""):
            path = re.sub(r"\{\w+_id\}", "9" * 30, route.path or "").replace("{slug}", SLUG)
            for method in route.methods or ():
                assert client.request(method, path).status_code == 422, path
                asked += 1
    assert asked >= 6


def test_what_no_database_keeps_is_refused(app: FastAPI, people: World) -> None:
    """NUL, and half a character, which JSON can write and UTF-8 cannot."""
    client = browser(app, "lea")
    for code in (r"\u0000", r"\ud800"):
        body = f'{{"slug": "a", "title": "a{code}b"}}'
        sent = client.post(
            "/api/v1/projects", content=body, headers={"Content-Type": "application/json"}
        )
        assert sent.status_code == 422 and "title" in sent.text, sent.text
    assert client.get("/api/v1/projects/a%00b").status_code == 400
    assert client.get(f"/api/v1/projects/{SLUG}/items?batch=%00").status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body_is_refused(app: FastAPI, people: World, chunked: bool) -> None:
    client = browser(app, "lea")
    body = b'{"slug": "' + b"x" * 2**21 + b'"}'
    content: Any = iter([body[:1000], body[1000:]]) if chunked else body
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/v1/projects", content=content, headers=headers)
    assert answer.status_code == 413, answer.text
    assert "bytes were sent" in answer.json()["detail"]


def test_every_action_of_a_lead_and_every_login_is_written_down(
    app: FastAPI, people: World
) -> None:
    client = browser(app, "lea")
    done = client.post("/api/v1/users", json={"name": "new", "role": "annotator"})
    assert done.status_code == 201
    client.post("/api/v1/login", json={"name": "lea", "password": "wrong"})
    with people.database.reading() as session:
        lead_id = accounts.get_user(session, "lea").id
        rows = session.scalars(select(AuditLog).order_by(AuditLog.id)).all()
    told = [(row.action, row.user_id, row.target) for row in rows[-3:]]
    assert told == [
        ("login", lead_id, "lea"),
        ("invited", lead_id, "new"),
        ("login refused", None, "lea"),
    ]
    assert {row.address for row in rows[-3:]} == {"testclient"}


def test_every_changing_route_of_leads_writes_to_the_audit_log(app: FastAPI) -> None:
    import inspect

    changing = [
        route
        for route in routes_of(app)
        if guard_of(route) in ("lead", "admin") and not (route.methods or set()) <= {"GET", "HEAD"}
    ]
    assert len(changing) >= 10
    for route in changing:
        assert route.endpoint is not None
        source = inspect.getsource(route.endpoint)
        assert "note(" in source or "_import" in source, route.path
