"""Logging in, sessions, and how often somebody may try."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Database

IDLE = timedelta(hours=2)
ABSOLUTE = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A session that has just begun: `cookie` goes to the browser and is kept nowhere."""

    cookie: str
    csrf: str
    user_id: int


def log_in(
    database: Database, name: str, password: str, address: str, *, at: datetime | None = None
) -> NewSession:
    """Check the password and begin a session. Raises SignInRefused or TooManyAttempts.

    Both say the same, and take as long, for names that exist and for names that do not.
    """
    raise NotImplementedError((database, name, password, address, at))


def who(database: Database, cookie: str, *, at: datetime | None = None) -> Principal | None:
    """Whose session this is; None where it is unknown, idle too long, too old, or closed."""
    raise NotImplementedError((database, cookie, at))


def log_out(database: Database, cookie: str) -> None:
    """End a session."""
    raise NotImplementedError((database, cookie))
