"""Webhooks in the database: what they are told, what is due, and what became of it."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, exists, func, literal_column, select, update
from sqlalchemy.orm import Session

from alignloop.label.store import events
from alignloop.label.store.event_tables import EventRow, Webhook
from alignloop.label.store.refusals import Invalid, NotFound
from alignloop.label.store.tables import Assignment, Batch, ItemRow, Project, User, now

JUDGED, FINISHED, PAUSED = "judgement made", "batch finished", "annotator paused"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TAKEN_FOR = timedelta(seconds=60)  # how long a sender has for one attempt
SETTLED_AFTER = timedelta(seconds=1)  # events of a transaction that is still open come before
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(hours=6)
MAX_ATTEMPTS = 12  # over a day and a half, then the event is given up


@dataclass(frozen=True, kw_only=True)
class Due:
    """An event to send now, and whereto."""

    webhook_id: int
    url: str
    secret: str
    event_id: int
    kind: str
    project: str
    at: datetime
    data: dict[str, Any]


def check_url(url: str) -> str:
    """The URL if it may be called: https, or http to this machine. Raises Invalid."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    is_here = parts.scheme == "http" and host in LOOPBACK
    if not host or not (parts.scheme == "https" or is_here) or "@" in parts.netloc:
        problem = "a webhook is called by https, or by http on this machine"
        raise Invalid(problem, where=url[:200], fix="write https://host/path, without a password")
    return url


def add_webhook(
    session: Session, project_id: int, url: str, kinds: Sequence[str] = ()
) -> tuple[Webhook, str]:
    """Tell an address of a project's events from now on; returns the secret of its signatures.

    Without `kinds` it is told of all. Raises Invalid for an address that may not be called.
    """
    row = Webhook(project_id=project_id, url=check_url(url), kinds=list(kinds), created_at=now())
    row.secret, row.next_at = secrets.token_hex(32), now()
    row.attempts = row.delivered = row.given_up = 0
    row.last_error, row.last_event = "", session.scalar(select(func.max(EventRow.id))) or 0
    session.add(row)
    session.flush()
    return row, row.secret


def list_webhooks(session: Session, project_id: int) -> Sequence[Webhook]:
    """A project's webhooks."""
    mine = select(Webhook).where(Webhook.project_id == project_id)
    return session.scalars(mine.order_by(Webhook.id)).all()


def remove_webhook(session: Session, webhook_id: int) -> Webhook:
    """End a webhook. Raises NotFound."""
    row = session.get(Webhook, webhook_id)
    if row is None:
        raise NotFound("there is no such webhook", where=str(webhook_id))
    session.delete(row)
    return row


def announce_judgement(session: Session, item: ItemRow, told: dict[str, Any]) -> None:
    """Record that an item was judged, and that its batch is finished if it was the last one.

    Only if somebody wants to know: without webhooks nothing is written.
    """
    kinds = session.scalars(select(Webhook.kinds).where(Webhook.project_id == item.project_id))
    wanted = [set(one) or {JUDGED, FINISHED} for one in kinds]
    if not wanted:
        return
    about = {"item": item.id, "batch": session.get_one(Batch, item.batch_id).name}
    if any(JUDGED in one for one in wanted):
        who = {"annotator": session.get_one(User, told["user_id"]).name}
        said = {name: told[name] for name in ("judgement", "verdict", "source")}
        events.record(session, JUDGED, item.project_id, about | who | said)
    if any(FINISHED in one for one in wanted) and _is_finished(session, item):
        events.record(session, FINISHED, item.project_id, {"batch": about["batch"]})


def _is_finished(session: Session, item: ItemRow) -> bool:
    """Whether every ordinary item of the batch has its judgements."""
    session.flush()
    ordinary: list[ColumnElement[bool]] = [
        ItemRow.batch_id == item.batch_id,
        ItemRow.gold_verdict.is_(None),
        ItemRow.repeat_of.is_(None),
    ]
    # literals as in the partial indexes' conditions
    is_open = exists().where(*ordinary, ItemRow.taken < ItemRow.wanted)
    leased = exists().where(
        *ordinary,
        Assignment.item_id == ItemRow.id,
        Assignment.state == literal_column("'leased'"),
    )
    return item.gold_verdict is None and not session.scalar(select(is_open | leased))


def is_due(session: Session, at: datetime) -> bool:
    """Whether any webhook has something to be told now; only reads."""
    return next(_due(session, at), None) is not None


def take_due(session: Session, at: datetime) -> list[Due]:
    """The next event of every webhook that may be tried now; others leave them alone for a minute.

    Events that a webhook does not want are passed over.
    """
    return [
        Due(
            webhook_id=hook.id,
            url=hook.url,
            secret=hook.secret,
            event_id=event.id,
            kind=event.kind,
            project=session.get_one(Project, hook.project_id).slug,
            at=event.at,
            data=event.data,
        )
        for hook, event in list(_due(session, at))
        if _take(session, hook, at)
    ]


def _due(session: Session, at: datetime) -> Iterator[tuple[Webhook, EventRow]]:
    for hook in session.scalars(select(Webhook).where(Webhook.next_at <= at)).all():
        newer = select(EventRow).where(
            EventRow.project_id == hook.project_id,
            EventRow.id > hook.last_event,
            EventRow.at <= at - SETTLED_AFTER,
        )
        if hook.kinds:
            newer = newer.where(EventRow.kind.in_(hook.kinds))
        event = session.scalars(newer.order_by(EventRow.id).limit(1)).one_or_none()
        if event is not None:
            yield hook, event


def _take(session: Session, hook: Webhook, at: datetime) -> bool:
    """Take a webhook for one attempt, if no other process has taken it meanwhile."""
    mine = update(Webhook).where(Webhook.id == hook.id, Webhook.next_at == hook.next_at)
    taken = session.execute(mine.values(next_at=at + TAKEN_FOR).returning(Webhook.id))
    return taken.scalar_one_or_none() is not None


def note_attempt(session: Session, due: Due, problem: str, at: datetime) -> None:
    """What became of an attempt: "" if the event arrived; else it is tried again later.

    The pause doubles from 5 seconds to 6 hours; after the twelfth attempt the event is given up.
    """
    hook = session.get(Webhook, due.webhook_id)
    if hook is None:
        return
    hook.last_error = problem[:500]
    if not problem:
        hook.delivered += 1
    elif hook.attempts + 1 < MAX_ATTEMPTS:
        hook.next_at = at + min(LONGEST_WAIT, FIRST_WAIT * 2**hook.attempts)
        hook.attempts += 1
        return
    else:
        hook.given_up += 1
    hook.last_event, hook.attempts, hook.next_at = due.event_id, 0, at
