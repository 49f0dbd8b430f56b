"""Judgements: taking them in once, taking them back, and which of them hold."""

from datetime import datetime

from sqlalchemy import Select
from sqlalchemy.orm import Session

from alignloop.label.store.tables import Judgement
from alignloop.label.store.tasks import JudgementIn, Task


def submit(
    session: Session,
    assignment_id: int,
    user_id: int,
    sent: JudgementIn,
    *,
    source: str = "user",
    at: datetime | None = None,
) -> int:
    """Keep a judgement and give its id; sent again with the same key it gives the same id.

    Raises NotFound (no such assignment of his), Invalid (names what was not shown, lacks what the
    schema asks), Contradiction (ratings against the choice, not confirmed) and Conflict (judged
    already, lease expired and the place taken, a key used for another answer).
    """
    raise NotImplementedError((session, assignment_id, user_id, sent, source, at))


def undo(
    session: Session, slug: str, user_id: int, *, locale: str = "en", at: datetime | None = None
) -> Task | None:
    """Withdraw the annotator's latest judgement and give him that item again, answers filled in.

    None where there is nothing to undo. Raises Conflict where his skip's place was taken since.
    """
    raise NotImplementedError((session, slug, user_id, locale, at))


def standing() -> Select[tuple[Judgement]]:
    """The judgements that hold: not withdrawn, and nothing supersedes them.

    >>> session.scalars(standing().join(Item, Item.id == Judgement.item_id).where(...))
    """
    raise NotImplementedError
