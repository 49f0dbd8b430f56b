"""Tables of what leads took out: discards and their judgements."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from alignloop.label.store.tables import Base


class Discard(Base):
    """One annotator's judgements of a period taken out by a lead, or the undoing of that.

    Rows never change: what a row with `undoes` names is valid again.
    """

    __tablename__ = "discard"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    why: Mapped[str]
    made_by: Mapped[int | None] = mapped_column(ForeignKey("user.id"))  # null: the command line
    undoes: Mapped[int | None] = mapped_column(ForeignKey("discard.id"), unique=True)
    created_at: Mapped[datetime]


class DiscardedJudgement(Base):
    """A judgement that a discard took out."""

    __tablename__ = "discarded_judgement"

    discard_id: Mapped[int] = mapped_column(ForeignKey("discard.id"), primary_key=True)
    judgement_id: Mapped[int] = mapped_column(
        ForeignKey("judgement.id"), primary_key=True, index=True
    )
