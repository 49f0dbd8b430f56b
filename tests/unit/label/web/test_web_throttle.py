"""Guessing passwords: what an attacker gets, and what those who know theirs notice of it."""

import threading
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from label_support import PASSWORD, World, browser, make_account
from sqlalchemy import func, select

from alignloop.label.store import sign_in, throttle
from alignloop.label.store.database import Database
from alignloop.label.store.people_tables import Device, LoginAttempt
from alignloop.label.store.tables import now

START = now()
HOME, OFFICE = "192.0.2.7", "203.0.113.9"


def attempt(
    database: Database, name: str, address: str, password: str = "wrong", **more: Any
) -> str | sign_in.NewSession:
    """A login: the new session, "wrong", or "wait"."""
    # The hash itself is tested elsewhere, and takes tens of milliseconds.
    with patch.object(sign_in, "_matches", lambda _hash, given: given == PASSWORD):
        try:
            return sign_in.log_in(database, name, password, address, **more)
        except sign_in.SignInRefused:
            return "wrong"
        except sign_in.TooManyAttempts as refusal:
            assert refusal.wait > 0
            return "wait"


def got_in(found: str | sign_in.NewSession) -> bool:
    return isinstance(found, sign_in.NewSession)


def guess(database: Database, name: str, address: str, seconds: int, every: int = 1) -> list[float]:
    """Guess every few seconds; the times at which a password was really checked."""
    checked = []
    for second in range(0, seconds, every):
        at = START + timedelta(seconds=second)
        if attempt(database, name, address, at=at) == "wrong":
            checked.append(second)
    return checked


# --- an attack from one place ------------------------------------------------------------------


def test_each_failure_makes_the_next_try_from_there_wait_twice_as_long(people: World) -> None:
    checked = guess(people.database, "ann", OFFICE, 300)
    # five at once, then 1, 2, 4, ... seconds after the last one
    assert checked == [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131, 259]


def test_a_day_of_guessing_from_one_address_is_some_hundred_guesses(people: World) -> None:
    checked = guess_as_soon_as_allowed(people.database, "ann", OFFICE, 24 * 3600)
    assert len(checked) < 110
    assert checked[-1] - checked[-2] == throttle.LONGEST_WAIT.total_seconds()
    # an account that does not exist behaves the same
    elsewhere = "203.0.113.10"
    found = guess_as_soon_as_allowed(people.database, "nobody", elsewhere, 24 * 3600)
    assert found == checked


def guess_as_soon_as_allowed(
    database: Database, name: str, address: str, seconds: int
) -> list[float]:
    """Guess without a pause, waiting only as long as told; when a password was checked."""
    second, checked = 0, []
    while second < seconds:
        try:
            with patch.object(sign_in, "_matches", lambda *_: False):
                sign_in.log_in(database, name, "wrong", address, at=at(second))
        except sign_in.SignInRefused:
            checked.append(second)
        except sign_in.TooManyAttempts as refusal:
            second += refusal.wait
    return checked


def test_an_attack_on_an_account_does_not_touch_it_elsewhere(people: World) -> None:
    guess(people.database, "ann", OFFICE, 600)
    assert attempt(people.database, "ann", OFFICE, PASSWORD, at=at(601)) == "wait"
    assert got_in(attempt(people.database, "ann", HOME, PASSWORD, at=at(601)))
    # nor does it touch others at the attacked place
    assert got_in(attempt(people.database, "lea", OFFICE, PASSWORD, at=at(601)))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_known_browser_is_let_in_from_the_attackers_own_address(people: World) -> None:
    mine = attempt(people.database, "ann", OFFICE, PASSWORD, at=at(0))
    assert isinstance(mine, sign_in.NewSession)
    guess(people.database, "ann", OFFICE, 600)
    assert attempt(people.database, "ann", OFFICE, PASSWORD, at=at(601)) == "wait"
    again = attempt(people.database, "ann", OFFICE, PASSWORD, device=mine.device, at=at(601))
    assert isinstance(again, sign_in.NewSession)
    assert again.device != mine.device


def test_who_is_signed_in_stays_signed_in(people: World) -> None:
    mine = attempt(people.database, "ann", OFFICE, PASSWORD)
    assert isinstance(mine, sign_in.NewSession)
    for n in range(40):
        attempt(people.database, "ann", f"198.51.100.{n}", at=now())
    assert sign_in.who(people.database, mine.cookie) is not None


def test_guesses_sent_all_at_once_count_too(people: World) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(attempt(people.database, "ann", OFFICE)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["wait"] * 11 + ["wrong"] * 5


# --- an attack from many places ----------------------------------------------------------------


def attack_from_everywhere(database: Database, name: str = "ann") -> int:
    """Five guesses from each of forty addresses within a minute; how many were checked."""
    found = [
        attempt(database, name, f"198.51.100.{place}", at=at(n + place / 100))
        for place in range(40)
        for n in range(5)
    ]
    return found.count("wrong")


def test_an_account_gets_a_hundred_guesses_an_hour_from_all_strangers(people: World) -> None:
    assert attack_from_everywhere(people.database) == throttle.TRIES_BY_ACCOUNT
    assert attempt(people.database, "ann", "198.51.100.99", PASSWORD, at=at(60)) == "wait"
    # the next hour brings the next hundred
    assert got_in(attempt(people.database, "ann", "198.51.100.99", PASSWORD, at=at(3700)))


def test_meanwhile_its_owner_signs_in_at_a_known_address_or_browser(people: World) -> None:
    home = attempt(people.database, "ann", HOME, PASSWORD, at=at(-5000))
    assert isinstance(home, sign_in.NewSession)
    attack_from_everywhere(people.database)
    assert got_in(attempt(people.database, "ann", HOME, PASSWORD, at=at(61)))
    attack_from_everywhere(people.database)
    home = attempt(people.database, "ann", HOME, PASSWORD, at=at(62))
    assert isinstance(home, sign_in.NewSession)
    on_a_train = {"device": home.device, "at": at(63)}
    assert got_in(attempt(people.database, "ann", "198.18.0.1", PASSWORD, **on_a_train))
    assert got_in(attempt(people.database, "lea", "198.18.0.2", PASSWORD, at=at(64)))


def test_a_browser_is_not_known_to_accounts_that_never_used_it(people: World) -> None:
    mine = attempt(people.database, "lea", HOME, PASSWORD, at=at(-5000))
    assert isinstance(mine, sign_in.NewSession)
    attack_from_everywhere(people.database)
    for device in (mine.device, "made up", ""):
        tried = attempt(people.database, "ann", OFFICE, PASSWORD, device=device, at=at(61))
        assert tried == "wait"


def test_trying_one_password_on_many_names_is_limited_by_address(people: World) -> None:
    found = [attempt(people.database, f"user{n}", OFFICE, at=at(n / 10)) for n in range(150)]
    assert found.count("wrong") == throttle.TRIES_BY_NETWORK
    assert attempt(people.database, "ann", OFFICE, PASSWORD, at=at(20)) == "wait"
    assert got_in(attempt(people.database, "ann", HOME, PASSWORD, at=at(20)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_a_network_is_what_one_household_has(one: str, other: str, same: bool) -> None:
    assert (throttle.network_of(one) == throttle.network_of(other)) is same


# --- ordinary use ------------------------------------------------------------------------------


def test_an_office_of_thirty_that_mistypes_is_not_locked(people: World) -> None:
    """Behind one address everybody mistypes twice and then gets in, three times over."""
    names = [f"person{n}" for n in range(30)]
    with patch.object(PasswordHasher, "hash", return_value="$argon2id$stub"):
        for name in names:
            make_account(people.database, name, "annotator")
    moment = 0.0
    for _ in range(3):
        for name in names:
            for password in ("wrong", "wrong", PASSWORD):
                moment += 0.5
                tried = attempt(people.database, name, OFFICE, password, at=at(moment))
                assert got_in(tried) if password == PASSWORD else tried == "wrong"


def test_a_login_forgets_the_failures_before_it(people: World) -> None:
    for n in range(4):
        attempt(people.database, "ann", HOME, at=at(n))
    assert got_in(attempt(people.database, "ann", HOME, PASSWORD, at=at(5)))
    with people.database.reading() as session:
        assert session.scalar(select(func.count(LoginAttempt.id))) == 0
    assert guess(people.database, "ann", HOME, 5) == [0, 1, 2, 3, 4]


def test_waiting_as_told_is_enough(people: World) -> None:
    guess(people.database, "ann", HOME, 30)
    with patch.object(sign_in, "_matches", lambda _hash, given: given == PASSWORD):
        with pytest.raises(sign_in.TooManyAttempts, match=r"try again in (\d+) seconds") as end:
            sign_in.log_in(people.database, "ann", PASSWORD, HOME, at=at(30))
        wait = end.value.wait
        sign_in.log_in(people.database, "ann", PASSWORD, HOME, at=at(30 + wait))


def test_two_accounts_in_one_browser_stay_known_there(people: World) -> None:
    device = ""
    for name in ("ann", "lea", "ann", "lea"):
        begun = attempt(people.database, name, HOME, PASSWORD, device=device)
        assert isinstance(begun, sign_in.NewSession)
        device = begun.device
    with people.database.reading() as session:
        rows = session.scalars(select(Device).where(Device.network == throttle.network_of(HOME)))
        assert len({row.user_id for row in rows}) == 2
    for name in ("ann", "lea"):
        attack_from_everywhere(people.database, name)
        tried = attempt(people.database, name, OFFICE, PASSWORD, device=device, at=at(61))
        assert isinstance(tried, sign_in.NewSession)
        device = tried.device


def test_browsers_are_forgotten(people: World) -> None:
    with people.database.transaction() as session:
        user_id = people.users[0]
        made = [
            throttle.know_device(session, user_id, HOME, "", START + timedelta(days=n))
            for n in range(throttle.DEVICES_PER_USER + 5)
        ]
        assert len(set(made)) == len(made)
        kept = select(func.count()).select_from(Device).where(Device.user_id == user_id)
        assert session.scalar(kept) == throttle.DEVICES_PER_USER
        later = START + timedelta(days=400)
        throttle.know_device(session, user_id, HOME, "", later)
        assert session.scalar(kept) == 1


def test_the_browser_is_told_how_long_to_wait(app: FastAPI, people: World) -> None:
    client = browser(app)
    body = {"name": "ann", "password": "wrong"}
    with patch.object(sign_in, "_matches", lambda *_: False):
        found = [client.post("/api/v1/login", json=body) for _ in range(6)]
    assert [one.status_code for one in found] == [401] * 5 + [429]
    assert int(found[-1].headers["retry-after"]) >= 1
    assert found[-1].json()["fix"].startswith("try again in ")


def test_the_browser_keeps_its_cookie_and_is_known_by_it(app: FastAPI, people: World) -> None:
    client = browser(app, "ann")
    first = client.cookies["alignloop-device"]
    client.post("/api/v1/logout")
    assert client.cookies["alignloop-device"] == first
    body = {"name": "ann", "password": "wrong"}
    with patch.object(sign_in, "_matches", lambda *_: False):
        stranger = browser(app)
        while stranger.post("/api/v1/login", json=body).status_code == 401:
            pass
    body["password"] = PASSWORD
    assert stranger.post("/api/v1/login", json=body).status_code == 429
    assert client.post("/api/v1/login", json=body).status_code == 200
    assert client.cookies["alignloop-device"] != first
