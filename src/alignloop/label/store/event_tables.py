"""Tables of events, and of the webhooks that are told of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from alignloop.label.store.tables import Base


class EventRow(Base):
    """Something that leads and webhooks want to know; rows never change."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]


class Webhook(Base):
    """An address that is told of a project's events, in order; the operator's alone to set.

    `last_event` is the last one sent or given up, `attempts` counts those of the next one, and
    `next_at` is when it may be tried. A sender that takes an event moves `next_at` on, so that no
    other sends it at the same time.
    """

    __tablename__ = "webhook"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    url: Mapped[str]
    secret: Mapped[str] = mapped_column(String(64))
    kinds: Mapped[list[Any]]  # [] = all
    last_event: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    delivered: Mapped[int] = mapped_column(default=0)
    given_up: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
