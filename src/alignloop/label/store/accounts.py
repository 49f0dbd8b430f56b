"""Users, and the one-time links that make their accounts."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from alignloop.label.store.tables import Invitation, User

INVITATION_LASTS = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks: by session or by token. `csrf` is the session's token, empty for API tokens."""

    user_id: int
    name: str
    role: str  # lead | annotator
    locale: str
    scopes: frozenset[str]  # of "judge" and "lead"
    via: str  # session | token
    csrf: str = ""


def invite(session: Session, role: str, name: str | None = None) -> str:
    """A one-time link's token for a new account, or for a new password of the account `name`."""
    raise NotImplementedError((session, role, name))


def invitation(session: Session, token: str) -> Invitation:
    """The invitation of a link. Raises NotFound where it is unknown, used or expired."""
    raise NotImplementedError((session, token))


def accept(session: Session, token: str, name: str, password: str) -> User:
    """Make the account (or set its password) and use up the link. Raises NotFound, Invalid, Conflict."""
    raise NotImplementedError((session, token, name, password))


def list_users(session: Session) -> list[User]:
    """All users by name."""
    raise NotImplementedError(session)


def set_active(session: Session, name: str, *, active: bool) -> User:
    """Disable an account, which ends its sessions and tokens at once, or enable it again."""
    raise NotImplementedError((session, name, active))


def set_locale(session: Session, user_id: int, locale: str) -> None:
    """The language that a person chose for the pages."""
    raise NotImplementedError((session, user_id, locale))
