"""The API's types about people: accounts, links, members, assigned items, tokens, the audit log."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from alignloop.label.store.accounts import Role
from alignloop.label.store.tasks import Received, Sent
from alignloop.label.web.schemas import Name, Scope, Slug

MAX_AT_ONCE = 200  # people in one request
PersonName = Annotated[str, Name]
ProjectSlug = Annotated[str, Slug]
People = Annotated[list[PersonName], Field(min_length=1, max_length=MAX_AT_ONCE)]
Projects = Annotated[list[ProjectSlug], Field(max_length=1000)]


class UserIn(Received):
    """A person to invite, and the projects they join."""

    name: str = Name
    role: Role = "annotator"
    projects: Projects = Field(default_factory=list[str])


class InvitationsIn(Received):
    """People to invite, one link each, and the projects they join."""

    names: People
    role: Role = "annotator"
    projects: Projects = Field(default_factory=list[str])


class UserOut(Sent):
    """A user, without secrets."""

    id: int
    name: str
    role: str
    active: bool
    created_at: datetime
    projects: list[str]


class UserPatch(Received):
    """What may change about a user: whether they may sign in, and their role (by admins)."""

    active: bool | None = None
    role: Role | None = None


class Invited(Sent):
    """A one-time link, shown only here."""

    name: str
    link: str


class InvitationOut(Sent):
    """An open link: for whom and until when. The link itself is not kept."""

    id: str
    name: str | None
    role: str
    projects: list[str]
    made_by: str | None
    created_at: datetime
    expires_at: datetime


class MembersIn(Received):
    """People who join a project, by name."""

    names: People


class MemberOut(Sent):
    """A member of a project."""

    name: str
    role: str
    active: bool


class AssignIn(Received):
    """Items of a batch for some people: all, those with these `comparison_ids`, or the next few.

    With `only` nobody else gets them; otherwise these people get them first.
    """

    batch: str = Name
    names: People
    comparison_ids: list[str] | None = Field(default=None, min_length=1, max_length=100_000)
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    only: bool = True


class UnassignIn(Received):
    """People whose items of a batch are taken back."""

    batch: str = Name
    names: People


class AssignedOut(Sent):
    """How many items of a batch are assigned to somebody, and how many of them are answered."""

    user: str
    batch: str
    assigned: int
    done: int


class TokenIn(Received):
    """A new API token for a user."""

    user: str = Name
    name: str = Name
    scopes: list[Scope] = Field(min_length=1, max_length=2)
    days: int = Field(default=90, ge=1, le=366)


class TokenOut(Sent):
    """A token, without its secret."""

    id: int
    user: str
    name: str
    scopes: list[str]
    expires_at: datetime
    last_used: datetime | None


class TokenMade(TokenOut):
    """A new token with its secret, shown only here."""

    token: str


class AuditOut(Sent):
    """One entry of the audit log."""

    id: int
    at: datetime
    user: str | None
    action: str
    target: str
    detail: dict[str, Any]
    address: str
