"""API tokens: hashed, scoped, expiring."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from alignloop.label.store.accounts import Principal
from alignloop.label.store.database import Database
from alignloop.label.store.tables import ApiToken

LASTS = timedelta(days=90)


def create_token(
    session: Session, user_id: int, name: str, scopes: list[str], *, lasts: timedelta = LASTS
) -> tuple[ApiToken, str]:
    """A new token and its secret, which is shown once. Raises Invalid for a scope he has not."""
    raise NotImplementedError((session, user_id, name, scopes, lasts))


def list_tokens(session: Session) -> list[ApiToken]:
    """All tokens, the newest first."""
    raise NotImplementedError(session)


def revoke_token(session: Session, token_id: int) -> None:
    """End a token. Raises NotFound."""
    raise NotImplementedError((session, token_id))


def whose(database: Database, secret: str, *, at: datetime | None = None) -> Principal | None:
    """Whose token this is, with its scopes; None where it is unknown, expired, or he is disabled."""
    raise NotImplementedError((database, secret, at))
