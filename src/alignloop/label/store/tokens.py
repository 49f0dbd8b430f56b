"""API tokens: hashed, scoped, expiring."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from alignloop.label.store.accounts import Principal, list_users, scopes_of
from alignloop.label.store.database import Database
from alignloop.label.store.keys import hashed, new_secret
from alignloop.label.store.members import may_manage
from alignloop.label.store.people_tables import ApiToken
from alignloop.label.store.refusals import Invalid, NotFound
from alignloop.label.store.tables import User, now

LASTS = timedelta(days=90)
LONGEST = timedelta(days=366)
USED_EVERY = timedelta(minutes=1)
PREFIX = "alignloop_"  # lets secret scanners recognise leaked tokens

# Built once, as in `queue`: every request of a program runs it.
_WHOSE = (
    select(ApiToken.id, ApiToken.scopes, ApiToken.last_used)
    .add_columns(User.id, User.name, User.role, User.locale)
    .join(User, User.id == ApiToken.user_id)
    .where(ApiToken.hash == bindparam("hash"), ApiToken.expires_at > bindparam("at"), User.active)
)


def create_token(
    session: Session, user_id: int, name: str, scopes: list[str], *, lasts: timedelta = LASTS
) -> tuple[ApiToken, str]:
    """Create a token; returns it with its secret, which is shown once.

    Raises Invalid for a scope that the user lacks, and for a lifetime of more than a year.
    """
    user = session.get_one(User, user_id)
    if not scopes or not set(scopes) <= scopes_of(user.role):
        allowed = ", ".join(sorted(scopes_of(user.role)))
        raise Invalid(f"{user.name} has no such scope", fix=f"choose from: {allowed}")
    if not timedelta() < lasts <= LONGEST:
        raise Invalid("a token lasts a year at most", fix="give 1 to 366 days")
    secret = PREFIX + new_secret()
    token = ApiToken(user_id=user_id, name=name, hash=hashed(secret), scopes=sorted(set(scopes)))
    token.created_at, token.expires_at = now(), now() + lasts
    session.add(token)
    session.flush()
    return token, secret


def list_tokens(session: Session) -> list[ApiToken]:
    """All tokens, newest first."""
    return list(session.scalars(select(ApiToken).order_by(ApiToken.id.desc())))


def managed_by(session: Session, manager: User) -> list[tuple[ApiToken, User]]:
    """The tokens of the accounts that somebody manages, newest first, each with its user."""
    owners = {one.id: one for one in list_users(session)}
    found = [(one, owners[one.user_id]) for one in list_tokens(session)]
    return [(one, owner) for one, owner in found if may_manage(session, manager, owner)]


def revoke_token(session: Session, token_id: int) -> ApiToken:
    """End a token. Raises NotFound."""
    token = session.get(ApiToken, token_id)
    if token is None:
        raise NotFound("there is no such token", where=str(token_id))
    session.delete(token)
    return token


def whose(database: Database, secret: str, *, at: datetime | None = None) -> Principal | None:
    """The user of a token, with its scopes; None if unknown, expired, or the user is disabled.

    If the user's role loses a scope, so does the token.
    """
    at = at or now()
    with database.reading_once() as session:
        found = session.execute(_WHOSE, {"hash": hashed(secret), "at": at}).one_or_none()
    if found is None:
        return None
    token_id, scopes, last_used, user_id, name, role, locale = found
    if last_used is None or at - last_used >= USED_EVERY:
        _note_use(database, token_id, at)
    return Principal(
        user_id=user_id,
        name=name,
        role=role,
        locale=locale,
        scopes=frozenset(scopes) & scopes_of(role),
        via="token",
    )


def _note_use(database: Database, token_id: int, at: datetime) -> None:
    with database.transaction(durably=False) as session:
        token = session.get(ApiToken, token_id)
        if token is not None:
            token.last_used = at
