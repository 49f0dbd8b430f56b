"""Members of projects, links for several people, and what leads may do to accounts."""

from typing import Any

import pytest
from fastapi import FastAPI
from label_support import (
    PASSWORD,
    SLUG,
    World,
    browser,
    items,
    make_account,
    make_token,
    session_of,
)
from sqlalchemy import select

from alignloop.label.store import accounts, members, projects, sign_in
from alignloop.label.store.database import Database
from alignloop.label.store.importing import import_items
from alignloop.label.store.people_tables import AuditLog
from alignloop.label.store.tables import ItemRow
from alignloop.label.store.tasks import LabelSchema


def as_(app: FastAPI, database: Database, name: str) -> Any:
    """A browser of somebody, without the cost of a password."""
    client, begun = browser(app), session_of(database, name)
    client.cookies.set("alignloop", begun.cookie)
    client.headers["X-CSRF-Token"] = begun.csrf
    return client


@pytest.fixture
def two(people: World) -> World:
    """A second project "other" with max, who leads it, and bob, who annotates there; ada is admin.

    lea and ann are in the first project only.
    """
    database = people.database
    with database.transaction() as session:
        other = projects.create_project(session, "other", "Other", LabelSchema())
        batch = projects.create_batch(session, other.id, "first")
    import_items(database, other.id, batch.id, items(3, start=50))
    for name, role in (("max", "lead"), ("bob", "annotator"), ("ada", "admin")):
        with database.transaction() as session:
            token = accounts.invite(session, role, name, projects=[other.id] * (role != "admin"))
        with database.transaction() as session:
            accounts.accept(session, token, name, PASSWORD)
    return people


def slugs(client: Any) -> set[str]:
    return {one["slug"] for one in client.get("/api/v1/projects").json()}


def test_everybody_sees_their_own_projects_and_admins_all(app: FastAPI, two: World) -> None:
    seen = {name: slugs(as_(app, two.database, name)) for name in ("ann", "lea", "bob", "ada")}
    assert seen == {"ann": {SLUG}, "lea": {SLUG}, "bob": {"other"}, "ada": {SLUG, "other"}}
    start = as_(app, two.database, "bob").get("/").text
    assert "Other" in start and "Demo" not in start


def test_a_lead_adds_and_removes_people(app: FastAPI, two: World) -> None:
    lea, bob = as_(app, two.database, "lea"), as_(app, two.database, "bob")
    assert bob.post(f"/api/v1/projects/{SLUG}/claim").status_code == 404
    path = f"/api/v1/projects/{SLUG}/members"
    added = lea.post(path, json={"names": ["bob"]})
    assert added.status_code == 201
    assert "bob" in {one["name"] for one in lea.get(path).json()}
    task = bob.post(f"/api/v1/projects/{SLUG}/claim").json()
    assert lea.delete(f"{path}/bob").status_code == 204
    body = {"key": "some-key-1", "verdict": "tie"}
    late = bob.post(f"/api/v1/assignments/{task['assignment_id']}/judgement", json=body)
    assert late.status_code == 404
    assert bob.post(f"/api/v1/projects/{SLUG}/claim").status_code == 404
    # the item that he had open is for others again
    with two.database.reading() as session:
        assert {one.taken for one in session.scalars(select(ItemRow))} == {0}
    assert slugs(bob) == {"other"}
    assert lea.delete(f"{path}/bob").status_code == 404


def test_adding_several_is_all_or_nothing(app: FastAPI, two: World) -> None:
    lea, path = as_(app, two.database, "lea"), f"/api/v1/projects/{SLUG}/members"
    refused = lea.post(path, json={"names": ["bob", "nobody"]})
    assert (refused.status_code, refused.json()["detail"]) == (404, "there is no such user")
    assert "bob" not in lea.get(path).text


def test_who_makes_a_project_is_in_it(app: FastAPI, two: World) -> None:
    lea = as_(app, two.database, "lea")
    made = lea.post(
        "/api/v1/projects", json={"slug": "new", "title": "New", "guideline_en": "Prefer *short*."}
    )
    assert made.status_code == 201
    assert slugs(lea) == {SLUG, "new"}
    assert slugs(as_(app, two.database, "ann")) == {SLUG}
    assert "Prefer <em>short</em>." in lea.get("/p/new/guideline").text


# --- what leads may do to accounts -------------------------------------------------------------


@pytest.mark.parametrize("name", ["bob", "max", "ada"])
def test_a_lead_gets_no_way_into_accounts_that_see_more(
    app: FastAPI, two: World, name: str
) -> None:
    """A link, a token or a role for such an account would open the other project."""
    lea = as_(app, two.database, "lea")
    for method, path, body in (
        ("POST", "/api/v1/users", {"name": name}),
        ("POST", "/api/v1/invitations", {"names": ["new", name]}),
        ("POST", "/api/v1/tokens", {"user": name, "name": "x", "scopes": ["judge"]}),
        ("PATCH", f"/api/v1/users/{name}", {"active": False}),
        ("PATCH", f"/api/v1/users/{name}", {"role": "annotator"}),
    ):
        assert lea.request(method, path, json=body).status_code == 403, (method, path)
    token = make_token(two.database, user_id(two, name), "judge")
    with two.database.reading() as session:
        (token_id,) = [t.id for t, _ in tokens_of(session, name)]
    assert lea.delete(f"/api/v1/tokens/{token_id}").status_code == 403
    assert tokens_alive(two.database, token)
    assert name not in {one["name"] for one in lea.get("/api/v1/users").json()}
    assert lea.get("/api/v1/tokens").json() == []
    with two.database.reading() as session:
        assert accounts.open_links(session) == []


def tokens_of(session: Any, name: str) -> list[Any]:
    from alignloop.label.store import tokens

    ada = accounts.get_user(session, "ada")
    return [(one, who) for one, who in tokens.managed_by(session, ada) if who.name == name]


def tokens_alive(database: Database, token: str) -> bool:
    from alignloop.label.store import tokens

    return tokens.whose(database, token) is not None


def user_id(world: World, name: str) -> int:
    with world.database.reading() as session:
        return accounts.get_user(session, name).id


def test_a_lead_cannot_make_admins_nor_invite_into_other_projects(app: FastAPI, two: World) -> None:
    lea = as_(app, two.database, "lea")
    asked: list[tuple[dict[str, Any], int]] = [
        ({"name": "new", "role": "admin"}, 403),
        ({"name": "new", "projects": ["other"]}, 404),
        ({"name": "new", "projects": ["nowhere"]}, 404),
        ({"name": "new", "role": "lead", "projects": [SLUG]}, 201),
    ]
    for body, status in asked:
        assert lea.post("/api/v1/users", json=body).status_code == status, body
    role = lea.patch("/api/v1/users/ann", json={"role": "lead"})
    assert (role.status_code, role.json()["detail"]) == (403, "this is for admins")
    assert lea.get("/lead/audit").status_code == 403


def test_an_old_link_of_a_lead_ends_when_the_account_comes_to_see_more(two: World) -> None:
    database = two.database
    with database.transaction() as session:
        lea = accounts.get_user(session, "lea").id
        link = accounts.invite(session, "annotator", "ann", by=lea)
        other = projects.get_project(session, "other").id
        members.add_members(session, [other], accounts.get_user(session, "ann").id)
    with pytest.raises(accounts.NotFound), database.transaction() as session:
        accounts.accept(session, link, "", "another long password")


def test_a_link_adds_to_no_project_that_its_maker_has_left(two: World) -> None:
    database = two.database
    with database.transaction() as session:
        lea = accounts.get_user(session, "lea").id
        link = accounts.invite(session, "annotator", "new", projects=[two.project_id], by=lea)
        members.remove_member(session, two.project_id, lea)
    with database.transaction() as session:
        made = accounts.accept(session, link, "", PASSWORD)
        assert members.project_ids(session, made.id) == set()


@pytest.mark.parametrize("change", ["disabled", "annotator"])
def test_links_end_with_the_power_of_their_maker(two: World, change: str) -> None:
    with two.database.transaction() as session:
        lea = accounts.get_user(session, "lea").id
        link = accounts.invite(session, "lead", "new", by=lea)
    with two.database.transaction() as session:
        if change == "disabled":
            accounts.set_active(session, "lea", active=False)
        else:
            accounts.set_role(session, "lea", change)
    with two.database.reading() as session, pytest.raises(accounts.NotFound):
        accounts.invitation(session, link)


def test_an_admin_changes_roles(app: FastAPI, two: World) -> None:
    ada = as_(app, two.database, "ada")
    changed = ada.patch("/api/v1/users/ann", json={"role": "lead"})
    assert changed.json()["role"] == "lead"
    assert as_(app, two.database, "ann").get(f"/lead/{SLUG}/members").status_code == 200
    with two.database.reading() as session:
        last = session.scalars(select(AuditLog).order_by(AuditLog.id.desc())).first()
    assert last is not None
    assert (last.action, last.target, last.detail) == ("role changed", "ann", {"role": "lead"})


# --- links -------------------------------------------------------------------------------------


def test_several_people_get_a_link_each_and_join_the_project(app: FastAPI, two: World) -> None:
    lea, names = as_(app, two.database, "lea"), ["zoe", "yun", "李雷"]
    body = {"names": names, "projects": [SLUG]}
    made = lea.post("/api/v1/invitations", json=body).json()
    assert [one["name"] for one in made] == names
    assert len({one["link"] for one in made}) == 3
    assert all(one["link"].startswith("http://localhost/invite/") for one in made)
    told = lea.get("/api/v1/invitations").json()
    assert {one["name"] for one in told} == set(names)
    assert {(one["made_by"], *one["projects"]) for one in told} == {("lea", SLUG)}
    assert not any(one["link"].rsplit("/", 1)[1] in str(told) for one in made)
    token = made[2]["link"].rsplit("/", 1)[1]
    entered = browser(app)
    sent = {"token": token, "name": "李雷", "password": PASSWORD}
    assert entered.post("/api/v1/invitations/accept", json=sent).status_code == 200
    assert slugs(entered) == {SLUG}
    assert {one["name"] for one in lea.get("/api/v1/invitations").json()} == {"zoe", "yun"}


def test_one_bad_name_makes_no_link_at_all(app: FastAPI, two: World) -> None:
    lea = as_(app, two.database, "lea")
    refused = lea.post("/api/v1/invitations", json={"names": ["zoe", " "]})
    assert refused.status_code == 422
    assert lea.get("/api/v1/invitations").json() == []


def test_a_link_can_be_revoked_by_who_made_it_and_by_admins(app: FastAPI, two: World) -> None:
    lea, max_ = as_(app, two.database, "lea"), as_(app, two.database, "max")
    made = lea.post("/api/v1/invitations", json={"names": ["zoe", "yun"]}).json()
    first, second = (one["id"] for one in lea.get("/api/v1/invitations").json())
    assert max_.get("/api/v1/invitations").json() == []
    assert max_.delete(f"/api/v1/invitations/{first}").status_code == 404
    assert lea.delete(f"/api/v1/invitations/{first}").status_code == 204
    ada = as_(app, two.database, "ada")
    assert [one["id"] for one in ada.get("/api/v1/invitations").json()] == [second]
    assert ada.delete(f"/api/v1/invitations/{second}").status_code == 204
    for one in made:
        assert browser(app).get(one["link"]).status_code == 404


def test_a_link_joins_an_existing_account_to_the_project(two: World) -> None:
    make_account(two.database, "kim", "annotator")
    with two.database.transaction() as session:
        other = projects.get_project(session, "other").id
        link = accounts.invite(session, "annotator", "kim", projects=[other])
    sign_in.accept(two.database, link, "kim", "another long password", "192.0.2.1")
    with two.database.reading() as session:
        kim = accounts.get_user(session, "kim").id
        assert other in members.project_ids(session, kim)
