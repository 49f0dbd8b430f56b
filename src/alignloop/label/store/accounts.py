"""Users, and the one-time links that create their accounts."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.refusals import Conflict, Invalid, NotFound
from alignloop.label.store.tables import ApiToken, Invitation, SignedIn, User, now

INVITATION_LASTS = timedelta(days=7)
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
ROLES = ("lead", "annotator")
# OWASP's minimum for argon2id: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A signed-in user, by session or API token; `csrf` is the session's, "" for API tokens."""

    user_id: int
    name: str
    role: str  # lead | annotator
    locale: str
    scopes: frozenset[str]  # of "judge" and "lead"
    via: str  # session | token
    csrf: str = ""


def scopes_of(role: str) -> frozenset[str]:
    """What a role may do: leads may judge too."""
    return frozenset({"judge", "lead"} if role == "lead" else {"judge"})


def invite(session: Session, role: str, name: str | None = None) -> str:
    """A one-time link's token for a new account, or for a new password of the account `name`.

    Without a name the invited person chooses it. Raises Invalid for an unknown role.
    """
    if role not in ROLES:
        raise Invalid(f"{role!r} is not a role", fix="choose lead or annotator")
    token = new_secret()
    link = Invitation(token_hash=hashed(token), role=role, created_at=now())
    link.name = None if name is None else checked_name(name)
    link.expires_at = now() + INVITATION_LASTS
    session.add(link)
    return token


def invite_first_lead(session: Session) -> str | None:
    """The token of the first lead's link; None if there is a lead. Earlier such links expire.

    Links that name their account are not affected.
    """
    leads = select(User.id).where(User.role == "lead", User.password_hash.is_not(None)).limit(1)
    if session.scalar(leads) is not None:
        return None
    mine = Invitation.role == "lead", Invitation.name.is_(None), Invitation.used_at.is_(None)
    session.execute(delete(Invitation).where(*mine))
    return invite(session, "lead")


def invitation(
    session: Session, token: str, *, at: datetime | None = None, lock: bool = False
) -> Invitation:
    """The invitation of a link. Raises NotFound if it is unknown, used or expired."""
    link = session.get(Invitation, hashed(token), with_for_update=lock)
    if link is None or link.used_at is not None or link.expires_at <= (at or now()):
        raise NotFound("this link is no longer valid", fix="ask for a new one")
    return link


def accept(session: Session, token: str, name: str, password: str) -> User:
    """Create the account, or set its password, and use up the link.

    A new password ends all sessions of the account and its other password links. Raises NotFound
    (the link), Invalid (name or password) and Conflict (the name is taken, or its account is
    disabled).
    """
    link = invitation(session, token, lock=True)
    name = link.name or checked_name(name)
    check_password(password, name)
    user = session.scalar(select(User).where(User.name == name))
    if user is not None and link.name is None:
        raise Conflict("this name is taken", where=name, fix="choose another one")
    if user is not None and not user.active:
        raise Conflict("this account is disabled", where=name, fix="ask the lead")
    if user is None:
        user = User(name=name, role=link.role, active=True, created_at=now(), locale="")
        session.add(user)
    user.password_hash = HASHER.hash(password)
    link.used_at = now()
    session.flush()
    session.execute(delete(SignedIn).where(SignedIn.user_id == user.id))
    # a leaked earlier link must not take over an account that has just set its password
    others = delete(Invitation).where(Invitation.name == name, Invitation.used_at.is_(None))
    session.execute(others)
    return user


def add_simulated(session: Session, name: str, at: datetime) -> int:
    """An account without a password, so no one can sign in as a simulated annotator."""
    user = User(name=name, role="annotator", active=True, created_at=at)
    session.add(user)
    session.flush()
    return user.id


def list_users(session: Session) -> list[User]:
    """All users by name."""
    return list(session.scalars(select(User).order_by(User.name)))


def user_names(session: Session) -> dict[int | None, str]:
    """User names by id."""
    return {row[0]: row[1] for row in session.execute(select(User.id, User.name))}


def get_user(session: Session, name: str) -> User:
    """The user of this name. Raises NotFound."""
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        raise NotFound("there is no such user", where=name)
    return user


def set_active(session: Session, name: str, *, active: bool) -> User:
    """Disable an account, which deletes its sessions and tokens, or enable it again.

    Raises NotFound, and Conflict for the last active lead.
    """
    user = get_user(session, name)
    leads = select(func.count(User.id)).where(User.role == "lead", User.active, User.id != user.id)
    if not active and user.role == "lead" and not session.scalar(leads):
        raise Conflict("this is the last lead", where=name, fix="invite another lead first")
    user.active = active
    if not active:
        session.execute(delete(SignedIn).where(SignedIn.user_id == user.id))
        session.execute(delete(ApiToken).where(ApiToken.user_id == user.id))
    return user


def set_locale(session: Session, user_id: int, locale: str) -> None:
    """Set a user's language for the pages. Raises Invalid."""
    if locale not in ("", "en", "zh"):
        raise Invalid("there is no such language", where=locale, fix="choose en or zh")
    session.get_one(User, user_id).locale = locale


def normalised(name: str) -> str:
    """A name in NFKC, so full-width letters or composed accents cannot imitate another user."""
    return unicodedata.normalize("NFKC", name).strip()


def checked_name(name: str) -> str:
    """A user's name, normalised. Raises Invalid for one that is empty, long or not printable."""
    name = normalised(name)
    if not 0 < len(name) <= 100 or not name.isprintable():
        fix = "give 1 to 100 characters"
        raise Invalid("this is not a valid user name", where=name[:100], fix=fix)
    return name


def check_password(password: str, name: str) -> None:
    """Raises Invalid for a password that is too short, too long, or the name itself."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        problem = f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
        raise Invalid(problem, fix="use a sentence")
    if password.casefold() == name.casefold():
        raise Invalid("the password equals the name", fix="choose a different one")
