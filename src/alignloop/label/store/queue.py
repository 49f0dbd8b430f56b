"""The queue: which item an annotator gets next, for how long, and giving it back."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from alignloop.label.store.tables import now
from alignloop.label.store.tasks import Task

LEASE = timedelta(minutes=30)


def claim(
    session: Session,
    slug: str,
    user_id: int,
    *,
    locale: str = "en",
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> Task | None:
    """The annotator's next item, leased to him; the same one until he answers or gives it back.

    None where nothing is left for him. Raises NotFound for an unknown project. Writes, so that it
    needs `database.transaction()`.
    """
    raise NotImplementedError((session, slug, user_id, locale, at or now(), lease))


def release(session: Session, assignment_id: int, user_id: int) -> None:
    """Give an item back: somebody else gets it. Raises NotFound, and Conflict where it is judged."""
    raise NotImplementedError((session, assignment_id, user_id))
