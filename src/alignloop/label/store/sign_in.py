"""Logging in, and sessions."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from alignloop.label.store import accounts, audit, throttle
from alignloop.label.store.accounts import (
    HASHER,
    LONGEST_PASSWORD,
    Principal,
    normalised,
    scopes_of,
)
from alignloop.label.store.database import Database
from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.people_tables import SignedIn
from alignloop.label.store.refusals import SignInRefused, TooManyAttempts
from alignloop.label.store.tables import User, now

IDLE = timedelta(hours=2)
ABSOLUTE = timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=1)  # record a session's last use at most this often
# Verified instead if the account does not exist, to take the same time.
DUMMY_HASH = HASHER.hash(new_secret())

# Built once, as in `queue`: every request of a browser runs it.
_WHO = (
    select(SignedIn.csrf, SignedIn.last_seen, User.id, User.name, User.role, User.locale)
    .join(User, User.id == SignedIn.user_id)
    .where(SignedIn.id_hash == bindparam("hash"), User.active)
    .where(SignedIn.expires_at > bindparam("at"), SignedIn.last_seen > bindparam("idle"))
)


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A new session; `cookie` goes to the browser and is not stored."""

    cookie: str
    csrf: str
    user_id: int
    device: str = ""  # for the cookie by which the browser is known at the next login


def log_in(
    database: Database,
    name: str,
    password: str,
    address: str,
    *,
    device: str = "",
    at: datetime | None = None,
) -> NewSession:
    """Check the password and begin a session. Raises SignInRefused or TooManyAttempts.

    `device` is the browser's cookie of an earlier login. Message and time are the same whether the
    name exists or not.
    """
    at = at or now()
    name, address = normalised(name)[:100], address[:64]
    with database.transaction() as session:
        place = throttle.place_of(session, name, address, device)
        wait = throttle.note_attempt(session, name, place, at)
    if wait:
        raise _too_many(wait)
    with database.reading() as session:
        user = session.scalar(select(User).where(User.name == name))
    # no transaction is open during the tens of milliseconds of argon2
    good = _matches(user.password_hash if user else None, password)
    known = user.password_hash if user else None
    with database.transaction() as session:
        # reread: the account may have been disabled, or its password changed, in the meantime
        user = session.scalar(select(User).where(User.name == name))
        if user is None or not good or not user.active or user.password_hash != known:
            audit.record(session, "login refused", user_id=None, target=name, address=address)
        else:
            audit.record(session, "login", user_id=user.id, target=name, address=address)
            throttle.forget_attempts(session, name, place)
            return begin(session, user.id, address=address, device=device, at=at)
    raise SignInRefused("the name or the password is wrong", fix="try again, or ask the lead")


def _too_many(wait: int) -> TooManyAttempts:
    fix = f"try again in {wait} seconds" if wait < 100 else f"try again in {-(-wait // 60)} minutes"
    refusal = TooManyAttempts("too many attempts to sign in", fix=fix)
    refusal.wait = wait
    return refusal


def accept(
    database: Database, token: str, name: str, password: str, address: str, *, device: str = ""
) -> NewSession:
    """Use a one-time link, and begin a session. Raises as `accounts.accept`."""
    with database.transaction() as session:
        user = accounts.accept(session, token, name, password)
        audit.record(session, "link used", user_id=user.id, target=user.name, address=address)
        return begin(session, user.id, address=address, device=device)


def begin(
    session: Session,
    user_id: int,
    *,
    address: str = "",
    device: str = "",
    at: datetime | None = None,
) -> NewSession:
    """Begin a session for an authenticated user, whose browser is known from now on."""
    at = at or now()
    known_as = throttle.know_device(session, user_id, address, device, at)
    begun = NewSession(cookie=new_secret(), csrf=new_secret(), user_id=user_id, device=known_as)
    row = SignedIn(id_hash=hashed(begun.cookie), user_id=user_id, csrf=begun.csrf)
    row.created_at, row.last_seen, row.expires_at = at, at, at + ABSOLUTE
    # expired sessions are deleted whenever one begins
    session.execute(delete(SignedIn).where(SignedIn.expires_at <= at))
    session.add(row)
    return begun


def who(database: Database, cookie: str, *, at: datetime | None = None) -> Principal | None:
    """The user of a session; None if it is unknown, idle too long, too old, or closed."""
    at = at or now()
    where = {"hash": hashed(cookie), "at": at, "idle": at - IDLE}
    with database.reading_once() as session:
        found = session.execute(_WHO, where).one_or_none()
    if found is None:
        return None
    csrf, last_seen, user_id, name, role, locale = found
    if at - last_seen >= SEEN_EVERY:
        with database.transaction(durably=False) as session:
            row = session.get(SignedIn, hashed(cookie))
            if row is not None:
                row.last_seen = at
    return Principal(
        user_id=user_id,
        name=name,
        role=role,
        locale=locale,
        scopes=scopes_of(role),
        via="session",
        csrf=csrf,
    )


def log_out(database: Database, cookie: str) -> None:
    """End a session."""
    with database.transaction() as session:
        session.execute(delete(SignedIn).where(SignedIn.id_hash == hashed(cookie)))


def _matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is right; always computes one hash, for constant time."""
    try:
        HASHER.verify(password_hash or DUMMY_HASH, password[: LONGEST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None
