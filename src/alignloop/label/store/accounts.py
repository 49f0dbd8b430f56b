"""Users, and the one-time links that create their accounts."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from argon2 import PasswordHasher
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.members import add_members, may_manage, project_ids
from alignloop.label.store.people_tables import ApiToken, Device, Invitation, SignedIn
from alignloop.label.store.refusals import Conflict, Forbidden, Invalid, NotFound
from alignloop.label.store.tables import Project, User, now

INVITATION_LASTS = timedelta(days=7)
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
Role = Literal["annotator", "lead", "admin"]
ROLES: tuple[Role, ...] = ("annotator", "lead", "admin")
# OWASP's minimum for argon2id: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A signed-in user, by session or API token; `csrf` is the session's, "" for API tokens."""

    user_id: int
    name: str
    role: str  # admin | lead | annotator
    locale: str
    scopes: frozenset[str]  # of "judge" and "lead"
    via: str  # session | token
    csrf: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether they see every project and manage every account."""
        return self.role == "admin"

    @property
    def manages_as(self) -> int | None:
        """Whose links they see and end: their own (an id), or None for everybody's."""
        return None if self.is_admin else self.user_id

    @property
    def is_lead(self) -> bool:
        """Whether they see the lead's screens of their projects."""
        return "lead" in scopes_of(self.role)


@dataclass(frozen=True, kw_only=True)
class OpenLink:
    """A link that still works: for whom and until when. `made_by` is None for the command line."""

    id: str
    name: str | None
    role: str
    projects: list[str]
    made_by: str | None
    created_at: datetime
    expires_at: datetime


def scopes_of(role: str) -> frozenset[str]:
    """What a role may do: leads may judge too."""
    return frozenset({"judge"} if role == "annotator" else {"judge", "lead"})


def invite(
    session: Session,
    role: str,
    name: str | None = None,
    *,
    projects: Iterable[int] = (),
    by: int | None = None,
) -> str:
    """A one-time link's token for a new account, or for a new password of the account `name`.

    Who uses it joins `projects` (ids). Without a name the invited person chooses it. `by` is who
    invites, None for the command line. Raises Invalid for an unknown role, and Forbidden for an
    account or a project beyond the inviter's.
    """
    if role not in ROLES:
        raise Invalid(f"{role!r} is not a role", fix="choose annotator, lead or admin")
    joined = sorted(set(projects))
    name = None if name is None else checked_name(name)
    if by is not None:
        _check_inviter(session, session.get_one(User, by), role, name, joined)
    token = new_secret()
    link = Invitation(token_hash=hashed(token), role=role, created_at=now(), name=name)
    link.projects, link.made_by, link.expires_at = joined, by, now() + INVITATION_LASTS
    session.add(link)
    return token


def _check_inviter(
    session: Session, inviter: User, role: str, name: str | None, projects: list[int]
) -> None:
    if inviter.role == "admin":
        return
    if role == "admin" or not set(projects) <= project_ids(session, inviter.id):
        raise Forbidden("a lead invites into their own projects only", fix="ask an admin")
    user = session.scalar(select(User).where(User.name == name))
    if user is not None:
        check_manager(session, inviter, user)


def check_manager(session: Session, manager: User, user: User) -> None:
    """Raise Forbidden unless `manager` may change the account of `user`."""
    if not may_manage(session, manager, user):
        problem = "this account works in projects that are not yours"
        raise Forbidden(problem, where=user.name, fix="ask an admin")


def invite_first_admin(session: Session) -> str | None:
    """The token of the first admin's link; None if there is an admin. Earlier such links expire.

    Links that name their account are not affected.
    """
    admins = select(User.id).where(User.role == "admin", User.password_hash.is_not(None)).limit(1)
    if session.scalar(admins) is not None:
        return None
    mine = Invitation.role == "admin", Invitation.name.is_(None), Invitation.used_at.is_(None)
    session.execute(delete(Invitation).where(*mine))
    return invite(session, "admin")


def open_links(
    session: Session, *, by: int | None = None, at: datetime | None = None
) -> list[OpenLink]:
    """The links that still work, the newest first; with `by` only those of one inviter."""
    names = user_names(session)
    slugs = {row[0]: row[1] for row in session.execute(select(Project.id, Project.slug))}
    return [
        OpenLink(
            id=one.token_hash,
            name=one.name,
            role=one.role,
            projects=[slugs[project_id] for project_id in one.projects],
            made_by=names.get(one.made_by),
            created_at=one.created_at,
            expires_at=one.expires_at,
        )
        for one in _open_invitations(session, by, at)
    ]


def _open_invitations(
    session: Session, by: int | None, at: datetime | None = None
) -> list[Invitation]:
    still = Invitation.used_at.is_(None), Invitation.expires_at > (at or now())
    query = select(Invitation).where(*still).order_by(Invitation.created_at.desc())
    return list(session.scalars(query if by is None else query.where(Invitation.made_by == by)))


def revoke_invitation(session: Session, start: str, *, by: int | None = None) -> Invitation:
    """End a link; `start` is its id or the first characters. Raises NotFound."""
    found = [one for one in _open_invitations(session, by) if one.token_hash.startswith(start)]
    if len(found) != 1 or not start:
        raise NotFound("there is no such link", where=start, fix="choose one of the open links")
    session.delete(found[0])
    return found[0]


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
    joined = _still_allowed(session, link, user)
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
    add_members(session, joined, user.id)
    session.execute(delete(SignedIn).where(SignedIn.user_id == user.id))
    # a leaked earlier link must not take over an account that has just set its password
    others = delete(Invitation).where(Invitation.name == name, Invitation.used_at.is_(None))
    session.execute(others)
    return user


def _still_allowed(session: Session, link: Invitation, user: User | None) -> set[int]:
    """The projects that a link may still add to; they and the account may have changed meanwhile.

    Raises NotFound if the inviter may not change this account any more.
    """
    if link.made_by is None:
        return set(link.projects)
    inviter = session.get_one(User, link.made_by)
    if user is not None and not may_manage(session, inviter, user):
        raise NotFound("this link is no longer valid", fix="ask for a new one")
    if inviter.role == "admin":
        return set(link.projects)
    return set(link.projects) & project_ids(session, inviter.id)


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
    """Disable an account, which ends its sessions, tokens and links, or enable it again.

    Raises NotFound, and Conflict for the last active admin.
    """
    user = get_user(session, name)
    if not active:
        _check_not_last_admin(session, user)
        for table in (SignedIn, ApiToken, Device):
            session.execute(delete(table).where(table.user_id == user.id))
        _end_links_of(session, user)
    user.active = active
    return user


def set_role(session: Session, name: str, role: str) -> User:
    """Change what somebody may do; links that they made end.

    Raises NotFound, Invalid for an unknown role, and Conflict for the last active admin.
    """
    if role not in ROLES:
        raise Invalid(f"{role!r} is not a role", fix="choose annotator, lead or admin")
    user = get_user(session, name)
    if role != "admin":
        _check_not_last_admin(session, user)
    if role != user.role:
        _end_links_of(session, user)
    user.role = role
    return user


def _check_not_last_admin(session: Session, user: User) -> None:
    others = select(func.count(User.id)).where(
        User.role == "admin", User.active, User.id != user.id
    )
    if user.role == "admin" and user.active and not session.scalar(others):
        problem = "this is the last admin"
        raise Conflict(problem, where=user.name, fix="make somebody else an admin first")


def _end_links_of(session: Session, user: User) -> None:
    mine = Invitation.made_by == user.id, Invitation.used_at.is_(None)
    session.execute(delete(Invitation).where(*mine))


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
