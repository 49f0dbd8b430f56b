"""Limits on guessing passwords, which must not lock out those who know theirs.

A place is the browser if the account has signed in with it before, otherwise the network. Failures
of an account from one place make the next try from that place wait, longer each time; nobody
elsewhere waits. Two limits catch guessing from many places or at many accounts: they hold for
browsers (and for an account: networks) that are new to it.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from alignloop.label.store.database import lock_logins
from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.people_tables import Device, LoginAttempt
from alignloop.label.store.tables import User

FREE_TRIES = 5  # of an account from one place, before it has to wait
LONGEST_WAIT = timedelta(minutes=15)
REMEMBERED = timedelta(days=1)  # how long a failure counts at its place
BUSY = timedelta(hours=1)  # the window of the two limits
TRIES_BY_ACCOUNT, TRIES_BY_NETWORK = 100, 100
DEVICE_LASTS = timedelta(days=180)
DEVICES_PER_USER = 20


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a login comes from: `key` is the browser if the account knows it, or the network."""

    key: str
    is_device: bool
    is_known: bool  # the account has signed in from here before


def network_of(address: str) -> str:
    """The part of an address that one household shares: all of IPv4, 64 bits of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(ipaddress.ip_network(f"{found}/{32 if found.version == 4 else 64}", strict=False))


def place_of(session: Session, name: str, address: str, device: str) -> Place:
    """The place of a login; the same work for a name that does not exist."""
    mine = (
        select(Device.id_hash, Device.network)
        .join(User, User.id == Device.user_id)
        .where(User.name == name)
    )
    known = session.execute(mine).all()
    network = network_of(address)
    if hashed(device) in {row.id_hash for row in known}:
        return Place(key=f"device:{hashed(device)}", is_device=True, is_known=True)
    is_known = network in {row.network for row in known}
    return Place(key=network, is_device=False, is_known=is_known)


def note_attempt(session: Session, name: str, place: Place, at: datetime) -> int:
    """Count an attempt before its password is checked, so that parallel guesses count too.

    Returns 0, or how many seconds it has to wait; then it is not counted.
    """
    lock_logins(session, name)
    session.execute(delete(LoginAttempt).where(LoginAttempt.at <= at - REMEMBERED))
    wait = max(_wait_here(session, name, place, at), _wait_everywhere(session, name, place, at))
    if wait > timedelta():
        return max(1, round(wait.total_seconds()))
    session.add(LoginAttempt(account=name, place=place.key, is_known=place.is_known, at=at))
    return 0


def forget_attempts(session: Session, name: str, place: Place) -> None:
    """Forget the failures of an account at a place, after a login there."""
    mine = LoginAttempt.account == name, LoginAttempt.place == place.key
    session.execute(delete(LoginAttempt).where(*mine))


def know_device(session: Session, user_id: int, address: str, device: str, at: datetime) -> str:
    """Remember the browser of a login; returns the new id for its cookie.

    The id changes with every login, so one that somebody else has planted is worth nothing.
    """
    made = new_secret()
    # other accounts of a shared computer stay known in it
    for row in session.scalars(select(Device).where(Device.id_hash == hashed(device))):
        row.id_hash = hashed(made)
    session.flush()
    mine = session.get(Device, (user_id, hashed(made)))
    if mine is None:
        mine = Device(user_id=user_id, id_hash=hashed(made))
        session.add(mine)
    mine.network, mine.last_seen = network_of(address), at
    session.flush()
    newest = select(Device.id_hash).where(Device.user_id == user_id)
    newest = newest.order_by(Device.last_seen.desc()).limit(DEVICES_PER_USER)
    kept = list(session.scalars(newest))
    too_many = (Device.user_id == user_id) & Device.id_hash.not_in(kept)
    session.execute(delete(Device).where(too_many | (Device.last_seen <= at - DEVICE_LASTS)))
    return made


def _wait_here(session: Session, name: str, place: Place, at: datetime) -> timedelta:
    """1, 2, 4, ... seconds after the last failure, from the fifth on."""
    failures = select(func.count(LoginAttempt.id), func.max(LoginAttempt.at)).where(
        LoginAttempt.account == name, LoginAttempt.place == place.key
    )
    count, last = session.execute(failures).one()
    if count < FREE_TRIES:
        return timedelta()
    # the exponent is bounded, or a long list of failures would overflow
    delay = timedelta(seconds=2 ** min(count - FREE_TRIES, 20))
    return last + min(delay, LONGEST_WAIT) - at


def _wait_everywhere(session: Session, name: str, place: Place, at: datetime) -> timedelta:
    """The longest wait if an account, or all accounts from a network, fail too often."""
    recent = select(func.count(LoginAttempt.id)).where(LoginAttempt.at > at - BUSY)
    full = False
    if not place.is_known:
        strangers = recent.where(LoginAttempt.account == name, ~LoginAttempt.is_known)
        full = (session.scalar(strangers) or 0) >= TRIES_BY_ACCOUNT
    if not place.is_device:
        neighbours = recent.where(LoginAttempt.place == place.key)
        full = full or (session.scalar(neighbours) or 0) >= TRIES_BY_NETWORK
    return LONGEST_WAIT if full else timedelta()
