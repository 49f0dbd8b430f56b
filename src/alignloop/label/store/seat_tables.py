"""Tables of the checks: an annotator's seat in a project, and events."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from alignloop.label.store.tables import Base


class Seat(Base):
    """An annotator in a project: turns, the entry test, counts for the checks, and pauses.

    The counts are of valid answers since the last time that the lead let them work on: gold
    questions, items on which two or more others agree, choices between two answers, and all
    answers. `flags` are the checks that raised an alarm since then.
    """

    __tablename__ = "seat"

    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True, index=True)
    turn: Mapped[int] = mapped_column(default=0)  # items given, without entry test and training
    last_at: Mapped[datetime]
    left: Mapped[int | None]  # estimated when `left_turn` was the turn
    left_turn: Mapped[int] = mapped_column(default=0)
    entry: Mapped[str] = mapped_column(String(8), default="")  # "" | passed | failed
    entry_try: Mapped[int] = mapped_column(default=1)
    entry_asked: Mapped[int] = mapped_column(default=0)  # in this try
    entry_right: Mapped[int] = mapped_column(default=0)
    gold: Mapped[int] = mapped_column(default=0)
    gold_right: Mapped[int] = mapped_column(default=0)
    peers: Mapped[int] = mapped_column(default=0)
    peers_agree: Mapped[int] = mapped_column(default=0)
    sides: Mapped[int] = mapped_column(default=0)
    sides_left: Mapped[int] = mapped_column(default=0)
    timed: Mapped[int] = mapped_column(default=0)
    too_fast: Mapped[int] = mapped_column(default=0)
    in_doubt: Mapped[bool] = mapped_column(default=False)
    flags: Mapped[list[Any]] = mapped_column(default=list)
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str] = mapped_column(String(16), default="")


class EventRow(Base):
    """Something that leads and webhooks want to know; rows never change."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]
