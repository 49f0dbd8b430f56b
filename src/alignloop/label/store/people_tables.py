"""The tables about people: memberships, sessions, tokens, links, browsers, the audit log.

`User` is in `tables`, to which these refer.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from alignloop.label.store.tables import Base


class Member(Base):
    """Who works in a project. Only admins see projects that they do not belong to."""

    __tablename__ = "member"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True, index=True)
    added_at: Mapped[datetime]


class SignedIn(Base):
    """A session; its id is only in the browser's cookie, its hash is here."""

    __tablename__ = "session"

    id_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    last_seen: Mapped[datetime]
    expires_at: Mapped[datetime]


class ApiToken(Base):
    """A token for programs; `scopes` is a list of "judge" and "lead"."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used: Mapped[datetime | None]


class Invitation(Base):
    """A one-time link that creates an account, or sets a new password for the account `name`.

    Who uses it becomes a member of `projects` (ids). `made_by` is null for the command line.
    """

    __tablename__ = "invitation"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(100))
    projects: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    made_by: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Device(Base):
    """A browser in which somebody has signed in; its id is in a cookie, the hash is here."""

    __tablename__ = "device"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    id_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    network: Mapped[str] = mapped_column(String(64))  # from where, the last time
    last_seen: Mapped[datetime]


class LoginAttempt(Base):
    """A failed or unfinished login, stored while it counts against the limits (`throttle`).

    `place` is the browser if the account knows it ("device:..."), otherwise the network.
    """

    __tablename__ = "login_attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(100), index=True)
    place: Mapped[str] = mapped_column(String(80), index=True)
    is_known: Mapped[bool]  # the account has signed in from there before
    at: Mapped[datetime] = mapped_column(index=True)


class Setting(Base):
    """What the server leaves for the command line, such as the address that people open."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str]


class AuditLog(Base):
    """Who did what, from where: all logins and all actions of leads."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("user.id")
    )  # null: not signed in, or the CLI
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str]
    detail: Mapped[dict[str, Any]]
    address: Mapped[str] = mapped_column(String(64))
