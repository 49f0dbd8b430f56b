"""The API's request and response types, in addition to those of `store.tasks`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from alignloop.label.exports import Format, Kind
from alignloop.label.store.tasks import BIGGEST_ID, LabelSchema, Previous, PublicId, Received, Sent

Slug = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")
Name = Field(min_length=1, max_length=100)
Scope = Literal["judge", "lead"]


class ProblemOut(Sent):
    """An error: what is wrong, and what to do."""

    detail: str
    fix: str = ""


class ContradictionOut(ProblemOut):
    """409 for a judgement whose ratings contradict its choice; both ids are answers'."""

    contradiction: str | None = None
    chosen: str | None = None
    better: str | None = None


class Me(Sent):
    """The signed-in user; send `csrf` in the header X-CSRF-Token with every change."""

    name: str
    role: Literal["lead", "annotator"]
    locale: str
    scopes: list[Scope]
    csrf: str


class LoginIn(Received):
    """A name and a password."""

    name: str = Field(min_length=1, max_length=100)
    password: str = Field(min_length=1, max_length=1000)


class AcceptIn(LoginIn):
    """A one-time link's token, and the account to create."""

    token: str = Field(min_length=1, max_length=100)


class MePatch(Received):
    """What users may change about their own account: the language of the pages."""

    locale: Literal["", "en", "zh"]


class ProjectOut(Sent):
    """A project, as every user sees it."""

    slug: str
    title: str
    kind: str


class Judged(Sent):
    """The id of a stored judgement."""

    judgement_id: int


class ProjectIn(Received):
    """A new project."""

    slug: str = Slug
    title: str = Name
    locale: Literal["", "en", "zh"] = ""
    label_schema: LabelSchema = Field(default=LabelSchema(), alias="schema")
    guideline_en: str = Field(default="", max_length=100_000)
    guideline_zh: str = Field(default="", max_length=100_000)


class GuidelineIn(Received):
    """A new version of the guideline."""

    text_en: str = Field(max_length=100_000)
    text_zh: str = Field(max_length=100_000)


class BatchIn(Received):
    """A new batch. `repeats` is the share of items shown again to the same annotator."""

    name: str = Name
    overlap: int = Field(default=1, ge=1, le=100)
    priority: int = Field(default=0, ge=-1000, le=1000)
    repeats: float = Field(default=0.0, ge=0.0, le=0.5)


class BatchPatch(Received):
    """What may change about a batch: whether its items are given out."""

    closed: bool


class BatchOut(Sent):
    """A batch; `num_items` includes gold questions and repeats."""

    id: int
    name: str
    overlap: int
    priority: int
    repeats: float
    num_items: int
    closed: bool


class ExportIn(Received):
    """What to export: kinds and formats as listed by `alignloop label export --help`."""

    kind: Kind = "pairs"
    format: Format = "jsonl"
    batch: str = Field(default="", max_length=100)


class ExportOut(Sent):
    """A finished export; `GET /api/v1/exports/{id}` returns its rows."""

    id: int
    kind: str
    hash: str
    counts: dict[str, int]


class ItemOut(Sent):
    """An item as the lead sees it, with the responses' models."""

    id: int
    batch: str
    comparison_key: str
    kind: str
    why: str
    why_detail: dict[str, Any]
    prompt: list[dict[str, str]]
    responses: list[dict[str, Any]]
    gold_verdict: str | None
    gold_choice: str | None
    repeat_of: int | None
    wanted: int
    taken: int


class JudgementOut(Previous):
    """A judgement as the lead sees it, with answers by public id."""

    id: int
    item_id: int
    annotator: str
    visible_ms: int
    order: list[str]
    guideline_version: int
    standing: bool
    created_at: datetime


class AdjudicationIn(Received):
    """The lead's verdict on an item."""

    item_id: int = Field(ge=1, le=BIGGEST_ID)
    verdict: Literal["choice", "tie", "both_bad"]
    choice: PublicId | None = None
    comment: str = Field(default="", max_length=5000)


class UserIn(Received):
    """A person to invite."""

    name: str = Name
    role: Literal["lead", "annotator"] = "annotator"


class UserOut(Sent):
    """A user, without secrets."""

    id: int
    name: str
    role: str
    active: bool
    created_at: datetime


class UserPatch(Received):
    """What may change about a user: whether they may sign in."""

    active: bool


class Invited(Sent):
    """A one-time link, shown only here."""

    link: str


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
