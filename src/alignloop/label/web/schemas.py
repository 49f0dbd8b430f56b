"""The API's request and response types, in addition to those of `store.tasks`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from alignloop.label.exports import Format, Kind
from alignloop.label.quality.reliability import Method
from alignloop.label.store.tasks import (
    BIGGEST_ID,
    Feedback,
    LabelSchema,
    Previous,
    PublicId,
    Received,
    Sent,
)

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


class PausedOut(ProblemOut):
    """403 for an annotator who may not go on in a project."""

    paused: bool = True


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
    """The id of a stored judgement; `feedback` after the entry test's questions and training's."""

    judgement_id: int
    feedback: Feedback | None = None


class ProjectIn(Received):
    """A new project."""

    slug: str = Slug
    title: str = Name
    locale: Literal["", "en", "zh"] = ""
    label_schema: LabelSchema = Field(default=LabelSchema(), alias="schema")
    guideline_en: str = Field(default="", max_length=100_000)
    guideline_zh: str = Field(default="", max_length=100_000)


class RulesPatch(Received):
    """Some of a project's rules (`GET .../rules` has all)."""

    model_config = ConfigDict(frozen=True, extra="allow")


class PersonPatch(Received):
    """What a lead does about an annotator in a project."""

    action: Literal["pause", "resume", "admit"]


class GoldPatch(Received):
    """What a gold question is for, and why its answer is right."""

    gold_use: Literal["check", "entry", "training"] | None = None
    explanation: str | None = Field(default=None, max_length=20_000)


class ScoresIn(Received):
    """Scores by item id; higher ones come first. `control` is the share chosen at random."""

    scores: dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,10}$")],
        Annotated[float, Field(allow_inf_nan=False)],
    ] = Field(min_length=1, max_length=200_000)
    why: Literal["uncertain", "ensemble", "length", "score"] = "score"
    control: float | None = Field(default=None, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, le=BIGGEST_ID)


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


NamedPerson = Annotated[str, Name]
Share = Annotated[float, Field(ge=0, le=1)]


class ExportIn(Received):
    """What to export: kinds, formats and filters as listed by `alignloop label export --help`.

    `annotators` are the only ones that count, `without` do not count; times have a zone.
    """

    kind: Kind = "pairs"
    format: Format = "jsonl"
    weights: Method = "none"
    batch: str = Field(default="", max_length=100)
    annotators: list[NamedPerson] = Field(default_factory=list[str], max_length=1000)
    without: list[NamedPerson] = Field(default_factory=list[str], max_length=1000)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    min_gold: Share | None = None
    min_dawid_skene: Share | None = None


class WhichIn(Received):
    """One annotator's judgements from `since` until before `until`."""

    annotator: str = Name
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class DiscardIn(WhichIn):
    """Which judgements to take out, and why."""

    why: str = Field(min_length=1, max_length=1000)


class PreviewOut(Sent):
    """What a discard takes out; `asked_again` items get a free place for others."""

    judgements: int
    questions: int
    asked_again: int
    gold: int


class DiscardMade(PreviewOut):
    """A discard that was made."""

    id: int


class DiscardOut(Sent):
    """A discard; it was undone if `undone_at` is given. `by` is "" for the command line."""

    id: int
    annotator: str
    since: datetime | None
    until: datetime | None
    why: str
    by: str
    created_at: datetime
    judgements: int
    undone_at: datetime | None


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
    gold_use: str
    explanation: str
    repeat_of: int | None
    priority: float | None
    wanted: int
    taken: int


class JudgementOut(Previous):
    """A judgement as the lead sees it, with answers by public id."""

    id: int
    item_id: int
    annotator: str
    visible_ms: int
    client_ms: int | None
    server_ms: int | None
    too_fast: bool
    order: list[str]
    guideline_version: int
    standing: bool
    discarded: bool
    created_at: datetime


class AdjudicationIn(Received):
    """The lead's verdict on an item; answers to rank need `ranking` (as in a judgement)."""

    item_id: int = Field(ge=1, le=BIGGEST_ID)
    verdict: Literal["choice", "tie", "both_bad"]
    choice: PublicId | None = None
    strength: int | None = Field(default=None, ge=0, le=3)
    ranking: list[list[PublicId]] = Field(default_factory=list[list[str]], max_length=9)
    comment: str = Field(default="", max_length=5000)


class AdjudicationOut(Sent):
    """A decision, or a withdrawal; `counts` marks the one in force. Answers by public id."""

    id: int
    item_id: int
    by: str
    verdict: str
    choice: str | None
    strength: int | None
    ranking: list[list[str]]
    comment: str
    created_at: datetime
    counts: bool


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
