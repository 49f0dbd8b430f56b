"""Logging in, sessions, and rate limits."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from alignloop.label.store import accounts, audit
from alignloop.label.store.accounts import (
    HASHER,
    LONGEST_PASSWORD,
    Principal,
    normalised,
    scopes_of,
)
from alignloop.label.store.database import Database
from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.refusals import SignInRefused, TooManyAttempts
from alignloop.label.store.tables import LoginAttempt, SignedIn, User, now

IDLE = timedelta(hours=2)
ABSOLUTE = timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=1)  # record a session's last use at most this often
WINDOW = timedelta(minutes=15)
TRIES_BY_ACCOUNT, TRIES_BY_ADDRESS = 10, 30
# Verified instead if the account does not exist, to take the same time.
DUMMY_HASH = HASHER.hash(new_secret())


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A new session; `cookie` goes to the browser and is not stored."""

    cookie: str
    csrf: str
    user_id: int


def log_in(
    database: Database, name: str, password: str, address: str, *, at: datetime | None = None
) -> NewSession:
    """Check the password and begin a session. Raises SignInRefused or TooManyAttempts.

    Message and time are the same whether the name exists or not.
    """
    at = at or now()
    name, address = normalised(name)[:100], address[:64]
    with database.transaction() as session:
        # counted before checking the password, so parallel guesses count too
        full = _note_attempt(session, name, address, at)
    if full:
        raise TooManyAttempts("too many attempts to sign in", fix="wait a quarter of an hour")
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
            mine = LoginAttempt.account == name, LoginAttempt.address == address
            session.execute(delete(LoginAttempt).where(*mine))
            return begin(session, user.id, at=at)
    raise SignInRefused("the name or the password is wrong", fix="try again, or ask the lead")


def accept(database: Database, token: str, name: str, password: str, address: str) -> NewSession:
    """Use a one-time link, and begin a session. Raises as `accounts.accept`."""
    with database.transaction() as session:
        user = accounts.accept(session, token, name, password)
        audit.record(session, "link used", user_id=user.id, target=user.name, address=address)
        return begin(session, user.id)


def begin(session: Session, user_id: int, *, at: datetime | None = None) -> NewSession:
    """Begin a session for an authenticated user."""
    at = at or now()
    begun = NewSession(cookie=new_secret(), csrf=new_secret(), user_id=user_id)
    row = SignedIn(id_hash=hashed(begun.cookie), user_id=user_id, csrf=begun.csrf)
    row.created_at, row.last_seen, row.expires_at = at, at, at + ABSOLUTE
    # expired sessions are deleted whenever one begins
    session.execute(delete(SignedIn).where(SignedIn.expires_at <= at))
    session.add(row)
    return begun


def who(database: Database, cookie: str, *, at: datetime | None = None) -> Principal | None:
    """The user of a session; None if it is unknown, idle too long, too old, or closed."""
    at = at or now()
    query = (
        select(SignedIn.csrf, SignedIn.last_seen, User.id, User.name, User.role, User.locale)
        .join(User, User.id == SignedIn.user_id)
        .where(SignedIn.id_hash == hashed(cookie), User.active)
        .where(SignedIn.expires_at > at, SignedIn.last_seen > at - IDLE)
    )
    with database.reading() as session:
        found = session.execute(query).one_or_none()
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


def _note_attempt(session: Session, name: str, address: str, at: datetime) -> bool:
    """Record an attempt; returns whether there were too many before it."""
    # expired attempts are deleted here, so the table stays small without a job
    session.execute(delete(LoginAttempt).where(LoginAttempt.at <= at - WINDOW))
    mine = or_(LoginAttempt.account == name, LoginAttempt.address == address)
    counts = select(
        func.count(LoginAttempt.id).filter(LoginAttempt.account == name),
        func.count(LoginAttempt.id).filter(LoginAttempt.address == address),
    ).where(mine)
    by_account, by_address = session.execute(counts).one()
    full = by_account >= TRIES_BY_ACCOUNT or by_address >= TRIES_BY_ADDRESS
    if not full:
        session.add(LoginAttempt(account=name, address=address, at=at))
    return full


def _matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is right; always computes one hash, for constant time."""
    try:
        HASHER.verify(password_hash or DUMMY_HASH, password[: LONGEST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None
