"""The tables as SQLAlchemy models; migrations create them, and a test keeps both equal.

Judgements are append-only: a changed judgement is a new row that supersedes the old one, and an
undo is a row with `withdrawn`. Responses are referenced by id, never by position. Models that share
their name with a type elsewhere are called ...Row.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Named constraints, so that migrations can drop them on every database.
NAMES = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A time in UTC that keeps its zone on every database; SQLite would lose it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; a time without a zone is a bug."""
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without its zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC, whatever the zone of the server's connection."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


ORDINARY = "taken < wanted AND gold_verdict IS NULL AND repeat_of IS NULL"


class Base(DeclarativeBase):
    """Common to all tables: names of constraints, and JSON for dicts and lists."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it from the class)
        dict[str, Any]: JSON,
        list[Any]: JSON,
        datetime: UtcTime,
        str: Text,
    }


class User(Base):
    """A user. `password_hash` is null until an invitation is accepted."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str | None]
    role: Mapped[str] = mapped_column(String(16))  # lead | annotator
    locale: Mapped[str] = mapped_column(String(8), default="")  # "" = the browser's
    active: Mapped[bool]
    created_at: Mapped[datetime]


class Project(Base):
    """Items labelled under one guideline. `secret` keys the order in which answers are shown.

    `rules` is a `QueueRules`: checks of annotators, quotas, the entry test.
    `schema`: {"kind": "comparison" | "ranking" | "rating", "strength": true, "ratings": false,
    "allow": ["tie", "both_bad", "skip"]}.
    """

    __tablename__ = "project"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(64), unique=True)
    title: Mapped[str]
    locale: Mapped[str] = mapped_column(String(8), default="")
    secret: Mapped[str] = mapped_column(String(64))
    schema: Mapped[dict[str, Any]]
    rules: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    created_at: Mapped[datetime]

    @property
    def kind(self) -> str:
        """Comparison, ranking or rating."""
        return str(self.schema["kind"])


class Guideline(Base):
    """One version of a project's guideline, in two languages; the highest version is current."""

    __tablename__ = "guideline"
    __table_args__ = (UniqueConstraint("project_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    version: Mapped[int]
    text_en: Mapped[str]
    text_zh: Mapped[str]
    created_at: Mapped[datetime]


class PromptRow(Base):
    """A prompt; `messages` is [{"role": ..., "content": ...}, ...] as in the record.

    `more` holds what annotators do not see: the record's tools, reference and metadata.
    """

    __tablename__ = "prompt"
    __table_args__ = (UniqueConstraint("project_id", "prompt_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    prompt_key: Mapped[str]  # the record's prompt_id
    messages: Mapped[list[Any]]
    category: Mapped[str] = mapped_column(default="")
    language: Mapped[str] = mapped_column(default="")
    source: Mapped[str] = mapped_column(default="")
    more: Mapped[dict[str, Any]] = mapped_column(default=dict)


class ResponseRow(Base):
    """One answer. Annotators see only `public_id`; `model` never leaves the server."""

    __tablename__ = "response"
    __table_args__ = (UniqueConstraint("prompt_id", "record_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"))
    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    record_id: Mapped[str]  # the record's response_id
    text: Mapped[str]
    text_hash: Mapped[str] = mapped_column(String(64))  # sha256 of the text
    length: Mapped[int]  # characters
    model: Mapped[str] = mapped_column(default="")
    settings: Mapped[dict[str, Any]]


class Batch(Base):
    """Items labelled together, `overlap` times each; higher `priority` comes first.

    `num_items` counts all items including gold and repeats, so a claim need not count them.
    """

    __tablename__ = "batch"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(100))
    overlap: Mapped[int]
    priority: Mapped[int] = mapped_column(default=0)
    repeats: Mapped[float] = mapped_column(default=0.0)  # share of items asked again
    num_items: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    ranking: Mapped[int] = mapped_column(default=0, server_default="0")
    # ^ how often its items were put in a new order, after which everyone starts from the top

    @property
    def closed(self) -> bool:
        """Whether its items are no longer given out."""
        return self.closed_at is not None


class ItemRow(Base):
    """One question for annotators: a prompt with K responses (`item_response`).

    `taken` is the number of places in use, of `wanted`: assignments that are leased, or done with
    a judgement other than skip. Gold items store the right answer (`gold_verdict` choice, tie or
    both_bad, and `gold_choice`, a response) and go to all annotators, for a check, the entry test
    or training (`gold_use`). A repeat names its original and goes only to annotators who judged
    that. `priority` is the score that placed the item at its position; null if none was given.
    """

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("project_id", "fingerprint"),
        Index("ix_item_key", "project_id", "comparison_key"),
        # for the queue: finding the next open item reads little but this index; gold questions and
        # repeats have turns of their own
        Index(
            "ix_item_ordinary",
            "batch_id",
            "position",
            "wanted",
            "taken",
            sqlite_where=text(ORDINARY),
            postgresql_where=text(ORDINARY),
        ),
        Index(
            "ix_item_gold",
            "project_id",
            "gold_use",
            "position",
            sqlite_where=text("gold_verdict IS NOT NULL"),
            postgresql_where=text("gold_verdict IS NOT NULL"),
        ),
        Index(
            "ix_item_repeat_of",
            "repeat_of",
            sqlite_where=text("repeat_of IS NOT NULL"),
            postgresql_where=text("repeat_of IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"), index=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompt.id"), index=True)
    comparison_key: Mapped[str]  # the record's comparison_id; a repeat has its original's
    fingerprint: Mapped[str] = mapped_column(String(64))  # of the content; duplicates share it
    kind: Mapped[str] = mapped_column(String(16))  # comparison | ranking
    why: Mapped[str] = mapped_column(String(16))
    # ^ random | uncertain | ensemble | coverage | gold | repeat | import
    why_detail: Mapped[dict[str, Any]]
    gold_verdict: Mapped[str | None] = mapped_column(String(16))
    gold_choice: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    repeat_of: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    wanted: Mapped[int]
    taken: Mapped[int] = mapped_column(default=0)
    position: Mapped[int] = mapped_column(BigInteger)  # order within the batch; a keyed hash
    gold_use: Mapped[str] = mapped_column(String(8), default="check", server_default="check")
    # ^ check | entry | training; means nothing for other items
    explanation: Mapped[str] = mapped_column(default="", server_default="")
    priority: Mapped[float | None]


class ItemResponse(Base):
    """The responses of an item. `position` is the stored order, not the displayed one."""

    __tablename__ = "item_response"

    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    response_id: Mapped[int] = mapped_column(
        ForeignKey("response.id"), primary_key=True, index=True
    )
    position: Mapped[int]


class Assignment(Base):
    """An item assigned to an annotator, at most once; `turn` counts per annotator and project.

    `revising` is "judged" or "skip" while a judgement that stands is being changed. `repeat_due` is
    the turn from which the item's repeat may come; null if it has none, or it came.
    """

    __tablename__ = "assignment"
    __table_args__ = (
        UniqueConstraint("item_id", "user_id"),
        Index("ix_assignment_of_user", "user_id", "item_id"),
        Index(
            "ix_assignment_repeat_due",
            "user_id",
            "repeat_due",
            sqlite_where=text("repeat_due IS NOT NULL"),
            postgresql_where=text("repeat_due IS NOT NULL"),
        ),
        # only current leases, which are few: a claim looks for expired ones and for its own
        Index(
            "ix_assignment_leased",
            "lease_until",
            sqlite_where=text("state = 'leased'"),
            postgresql_where=text("state = 'leased'"),
        ),
        Index(
            "ix_assignment_leased_to",
            "user_id",
            sqlite_where=text("state = 'leased'"),
            postgresql_where=text("state = 'leased'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    state: Mapped[str] = mapped_column(String(16))  # leased | done | released | discarded
    turn: Mapped[int]
    revising: Mapped[str] = mapped_column(String(8), default="", server_default="")
    repeat_due: Mapped[int | None]
    lease_until: Mapped[datetime]
    created_at: Mapped[datetime]


class Presentation(Base):
    """What an assignment showed: `order` lists response ids, starting with answer A."""

    __tablename__ = "presentation"

    id: Mapped[int] = mapped_column(primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), unique=True)
    order: Mapped[list[Any]]
    seed: Mapped[str] = mapped_column(String(32))  # the order's input in addition to the secret
    guideline_version: Mapped[int]
    shown_at: Mapped[datetime]


# One judgement of one annotator. A plain table, because rows never change: the valid row is the one
# that is neither superseded nor `withdrawn` (`labels.project_labels.standing`).
# `choice` is a response id if `verdict` is "choice". `ratings` is {"<response id>": 1..10},
# `ranking` [[best ids], [next ids], ...], `harmful` [response ids].
judgements = Table(
    "judgement",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", Integer, ForeignKey("assignment.id"), index=True, nullable=False),
    Column("item_id", Integer, ForeignKey("item.id"), index=True, nullable=False),
    Column("user_id", Integer, ForeignKey("user.id"), nullable=False),
    Column("idempotency_key", String(64), nullable=False),
    Column("supersedes", Integer, ForeignKey("judgement.id"), unique=True),
    Column("withdrawn", Boolean, default=False, nullable=False),
    Column("choice", Integer, ForeignKey("response.id")),
    Column("verdict", String(16), nullable=False),  # choice | tie | both_bad | skip
    Column("skip_reason", Text, default="", nullable=False),
    Column("strength", Integer),  # 0..3
    Column("ratings", JSON, nullable=False),
    Column("ranking", JSON, nullable=False),
    Column("harmful", JSON, nullable=False),
    Column("comment", Text, default="", nullable=False),
    Column("visible_ms", Integer, nullable=False),  # what we believe of the next two
    Column("client_ms", Integer),  # as sent; null before this was kept apart
    Column("server_ms", Integer),  # from showing the item to the judgement
    Column("too_fast", Boolean, default=False, server_default=false(), nullable=False),
    Column("guideline_version", Integer, nullable=False),
    Column("source", String(8), nullable=False),  # user | api
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("user_id", "idempotency_key"),
    Index("ix_judgement_of_user", "user_id", "created_at"),
)


class Cursor(Base):
    """An annotator's progress in a batch: the last position assigned, and items judged."""

    __tablename__ = "place"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    done: Mapped[int]
    ranking: Mapped[int] = mapped_column(default=0, server_default="0")  # the batch's, when set


class OrderCounter(Base):
    """How many items with `size` answers an annotator saw in a project; balances the order."""

    __tablename__ = "dealt"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class Adjudication(Base):
    """The lead's verdict on an item; the latest one counts, and "withdrawn" withdraws it."""

    __tablename__ = "adjudication"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    verdict: Mapped[str] = mapped_column(String(16))  # choice | tie | both_bad | withdrawn
    choice: Mapped[int | None] = mapped_column(ForeignKey("response.id"))
    strength: Mapped[int | None]  # 0..3
    ranking: Mapped[list[Any]] = mapped_column(default=list)  # as in `judgements`
    comment: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]


class ExportSnapshot(Base):
    """One export: the query, the counts, and the hash of its content."""

    __tablename__ = "export_snapshot"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    query: Mapped[dict[str, Any]]
    hash: Mapped[str] = mapped_column(String(64))
    counts: Mapped[dict[str, Any]]
    path: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))  # null: the command line
    created_at: Mapped[datetime]


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
    """A one-time link that creates an account, or sets a new password for the account `name`."""

    __tablename__ = "invitation"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class LoginAttempt(Base):
    """A login attempt, stored while it counts against the limits of account and address."""

    __tablename__ = "login_attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(100), index=True)
    address: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[datetime] = mapped_column(index=True)


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


def now() -> datetime:
    """The current time; store functions take it as an argument if tests need to set it."""
    return datetime.now(UTC)
