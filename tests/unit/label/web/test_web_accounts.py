"""The security table of the annotation application: passwords, guessing, tokens, one-time links."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from fastapi import FastAPI
from label_support import PASSWORD, World, browser, make_account, make_token, session_of
from sqlalchemy import select

from alignloop.label.store import accounts, sign_in, tokens
from alignloop.label.store.database import Database
from alignloop.label.store.people_tables import ApiToken
from alignloop.label.store.tables import User

MakeWorld = Callable[..., World]


# --- passwords --------------------------------------------------------------------------------


def test_passwords_are_argon2id_with_19_mib_two_passes_one_lane(people: World) -> None:
    with people.database.reading() as session:
        stored = accounts.get_user(session, "ann").password_hash
    assert stored is not None
    found = extract_parameters(stored)
    assert found.type is Type.ID
    assert found.memory_cost >= 19 * 1024
    assert (found.time_cost, found.parallelism) == (2, 1)
    assert PASSWORD not in stored


@pytest.mark.parametrize("password", ["short", "x" * 201, "annabel-the-first"])
def test_a_poor_password_is_refused(database: Database, password: str) -> None:
    with database.transaction() as session:
        token = accounts.invite(session, "annotator")
    with pytest.raises(accounts.Invalid), database.transaction() as session:
        accounts.accept(session, token, "annabel-the-first", password)


def test_a_password_in_another_normal_form_of_the_name_is_the_same_account(
    app: FastAPI, people: World
) -> None:
    client = browser(app)
    body = {"name": "ａｎｎ", "password": PASSWORD}
    assert client.post("/api/v1/login", json=body).status_code == 200


# --- guessing ---------------------------------------------------------------------------------


def test_an_unknown_account_gets_the_same_words_and_the_same_work(
    app: FastAPI, people: World
) -> None:
    client = browser(app)
    bodies = [{"name": "ann", "password": "wrong"}, {"name": "nobody", "password": "wrong"}]
    found: list[tuple[int, Any, list[Any]]] = []
    for body in bodies:
        with patch.object(PasswordHasher, "verify", side_effect=spy(checked := [])):
            answer = client.post("/api/v1/login", json=body)
        found.append((answer.status_code, answer.json(), [extract_parameters(h) for h in checked]))
    assert found[0] == found[1]
    assert found[0][0] == 401
    assert len(found[0][2]) == 1  # one hash of the same cost, whoever is asked for


def spy(checked: list[str]) -> Callable[..., bool]:
    """PasswordHasher.verify that notes the hashes that it is given."""
    verify = PasswordHasher.verify

    def noted(hashed: str, password: str) -> bool:
        checked.append(hashed)
        return verify(accounts.HASHER, hashed, password)

    return noted


# --- tokens and invitations -------------------------------------------------------------------


def test_a_token_is_hashed_and_expires(people: World) -> None:
    token = make_token(people.database, people.users[0], "judge")
    with people.database.reading() as session:
        row = session.scalars(select(ApiToken)).one()
    assert token not in str(vars(row))
    assert len(token) >= 43
    assert tokens.whose(people.database, token) is not None
    assert tokens.whose(people.database, token, at=row.expires_at) is None
    assert tokens.whose(people.database, token + "x") is None


@pytest.mark.slow
def test_an_annotator_cannot_have_the_scope_of_a_lead(people: World) -> None:
    with pytest.raises(tokens.Invalid, match="no such scope"):
        make_token(people.database, people.users[0], "lead")


def test_a_token_lasts_a_year_at_most(people: World) -> None:
    with people.database.transaction() as session, pytest.raises(tokens.Invalid, match="a year"):
        tokens.create_token(session, people.users[0], "x", ["judge"], lasts=timedelta(days=400))


def test_a_link_works_once_and_not_for_ever(database: Database) -> None:
    with database.transaction() as session:
        token = accounts.invite(session, "annotator", "zoe")
        link = accounts.invitation(session, token)
        assert token not in str(vars(link))
        with pytest.raises(accounts.NotFound):
            accounts.invitation(session, token, at=link.expires_at)
    with database.transaction() as session:
        accounts.accept(session, token, "ignored: the link names her", PASSWORD)
    with pytest.raises(accounts.NotFound), database.transaction() as session:
        accounts.accept(session, token, "zoe", "another password")
    with database.reading() as session:
        assert [user.name for user in accounts.list_users(session)] == ["zoe"]


def test_a_link_without_a_name_cannot_take_somebody_elses(people: World) -> None:
    with people.database.transaction() as session:
        token = accounts.invite(session, "annotator")
    with pytest.raises(accounts.Conflict, match="taken"), people.database.transaction() as session:
        accounts.accept(session, token, "ａｎｎ", "another password")


def test_there_is_no_user_before_the_first_link_is_used(database: Database) -> None:
    with database.reading() as session:
        assert session.scalars(select(User)).all() == []
    with database.transaction() as session:
        first, second = accounts.invite_first_admin(session), accounts.invite_first_admin(session)
        assert first is not None
        assert second is not None
        with pytest.raises(accounts.NotFound):
            accounts.invitation(session, first)
        accounts.accept(session, second, "lea", PASSWORD)
        assert accounts.invite_first_admin(session) is None


def test_a_new_password_ends_the_old_sessions(people: World) -> None:
    begun = session_of(people.database, "ann")
    with people.database.transaction() as session:
        token = accounts.invite(session, "annotator", "ann")
    with people.database.transaction() as session:
        accounts.accept(session, token, "", "another long password")
    assert sign_in.who(people.database, begun.cookie) is None


def test_the_last_admin_can_neither_be_disabled_nor_made_a_lead(people: World) -> None:
    make_account(people.database, "ada", "admin")
    with people.database.transaction() as session, pytest.raises(accounts.Conflict, match="last"):
        accounts.set_active(session, "ada", active=False)
    with people.database.transaction() as session, pytest.raises(accounts.Conflict, match="last"):
        accounts.set_role(session, "ada", "lead")
    make_account(people.database, "bea", "admin")
    with people.database.transaction() as session:
        assert accounts.set_role(session, "ada", "lead").role == "lead"


def test_an_admin_invited_by_name_keeps_his_link_when_the_server_starts(database: Database) -> None:
    with database.transaction() as session:
        token = accounts.invite(session, "admin", "ada")
    with database.transaction() as session:
        assert accounts.invite_first_admin(session) is not None
    with database.transaction() as session:
        assert accounts.accept(session, token, "", PASSWORD).role == "admin"


def test_a_link_for_a_disabled_account_is_refused_and_kept(app: FastAPI, people: World) -> None:
    with people.database.transaction() as session:
        accounts.set_active(session, "ann", active=False)
        token = accounts.invite(session, "annotator", "ann")
    body = {"token": token, "name": "ann", "password": "another long password"}
    refused = browser(app).post("/api/v1/invitations/accept", json=body)
    assert (refused.status_code, refused.json()["detail"]) == (409, "this account is disabled")
    with people.database.transaction() as session:
        accounts.set_active(session, "ann", active=True)
    assert browser(app).post("/api/v1/invitations/accept", json=body).status_code == 200


def test_the_first_link_that_is_used_ends_the_others_of_the_account(people: World) -> None:
    with people.database.transaction() as session:
        astray, used = (accounts.invite(session, "annotator", "ann") for _ in range(2))
    with people.database.transaction() as session:
        accounts.accept(session, used, "", "another long password")
    with pytest.raises(accounts.NotFound), people.database.transaction() as session:
        accounts.accept(session, astray, "", "a third long password")


@pytest.mark.parametrize("change", ["disabled", "new password"])
def test_what_changes_while_the_password_is_checked_counts(people: World, change: str) -> None:
    def meanwhile(_hash: str, _given: str) -> bool:
        with people.database.transaction() as session:
            user = accounts.get_user(session, "ann")
            if change == "disabled":
                user.active = False
            else:
                user.password_hash = "of another password"
        return True

    with patch.object(sign_in, "_matches", meanwhile), pytest.raises(sign_in.SignInRefused):
        sign_in.log_in(people.database, "ann", PASSWORD, "10.0.0.1")
