"""What happens after a judgement: it is counted, and the checks are looked at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from alignloop.label.store import events
from alignloop.label.store.checks import (
    Bars,
    Counts,
    agreement_counts,
    alarms,
    bars_of,
    evidence_of,
    is_in_doubt,
)
from alignloop.label.store.rules import QueueRules, rules_of
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.seats import COUNTS, count_entry, flag, pause
from alignloop.label.store.tables import ItemRow, Project
from alignloop.label.store.task_view import is_right
from alignloop.label.store.tasks import A_DAY_MS, CANNOT_BE_SHOWN
from alignloop.label.store.turns import CHECK, ENTRY, count_gold_of

CLOCK_SLACK_MS = 2000  # by which a client's clock may run ahead of ours

_ALL_COUNTS = select(Seat.user_id, *(getattr(Seat, name) for name in COUNTS)).where(
    Seat.project_id == bindparam("project")
)
_SEATS = select(Seat).where(
    Seat.project_id == bindparam("project"),
    Seat.user_id.in_(bindparam("users", expanding=True)),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A judgement (`after`) and the valid one that it replaces; rows of `judgements`.

    `shown` lists the response ids in the order shown, `votes` are the item's valid judgements.
    """

    item: ItemRow
    shown: Sequence[int]
    before: Any | None
    after: Any
    votes: Sequence[Any]


def believed_ms(client_ms: int, server_ms: int) -> int:
    """How long a judgement took: the client's milliseconds, or ours if its are impossible.

    Impossible is no time at all, and more than has passed since the item was shown.
    """
    if 0 < client_ms <= server_ms + CLOCK_SLACK_MS:
        return client_ms
    return max(0, min(server_ms, A_DAY_MS))


def after_judgement(session: Session, project: Project, change: Change, at: datetime) -> None:
    """Count a judgement, and raise the alarms that are due."""
    item, user_id = change.item, change.after.user_id
    rules = rules_of(project)
    votes = {vote.user_id: _vote(item, vote) for vote in change.votes}
    earlier = {**votes, user_id: "" if change.before is None else _vote(item, change.before)}
    users = {user_id, *votes}
    found = session.scalars(_SEATS, {"project": project.id, "users": sorted(users)})
    seats = {seat.user_id: seat for seat in found}
    if item.gold_verdict is not None and item.gold_use == ENTRY and change.after.verdict != "skip":
        asked = min(rules.entry_items, count_gold_of(session, project.id, ENTRY))
        count_entry(session, seats[user_id], rules, asked, is_right(item, change.after))
    if change.after.skip_reason == CANNOT_BE_SHOWN:
        told = {"item": item.id, "why": "an annotator's page could not show it"}
        events.record(session, "item not shown", project.id, told)
    if item.gold_verdict is not None and item.gold_use != CHECK:
        return
    changed = _count(change, seats[user_id])
    changed |= _count_peers(seats, agreement_counts(earlier), agreement_counts(votes))
    session.flush()
    _look(session, project.id, rules, [seats[one] for one in sorted(changed)], at)


def counts_of(seat: Any) -> Counts:
    """The counts of a seat, or of a row with its columns."""
    return Counts(**{name: getattr(seat, name) for name in COUNTS})


def bars_in(session: Session, project_id: int, rules: QueueRules) -> Callable[[int], Bars]:
    """The bars of a project at this moment, for each user id."""
    rows = session.execute(_ALL_COUNTS, {"project": project_id})
    everyone = {row.user_id: counts_of(row) for row in rows}
    return lambda user_id: bars_of([c for one, c in everyone.items() if one != user_id], rules)


def _look(
    session: Session, project_id: int, rules: QueueRules, seats: Sequence[Seat], at: datetime
) -> None:
    """Flag and pause those whose evidence has reached the alarm."""
    bars_for = bars_in(session, project_id, rules)
    for seat in seats:
        counts, bars = counts_of(seat), bars_for(seat.user_id)
        evidence = evidence_of(counts, bars, rules)
        seat.in_doubt = is_in_doubt(counts, bars, rules)
        for check in alarms(evidence, rules):
            if check not in seat.flags:
                flag(session, seat, check, round(evidence[check], 3))
                if check in rules.pause_on:
                    pause(session, seat, check, at)


def _count(change: Change, seat: Seat) -> set[int]:
    """Add a judgement to its annotator's counts, and take the one it replaces out."""
    for row, step in ((change.before, -1), (change.after, 1)):
        if row is None:
            continue
        if change.item.gold_verdict is not None and row.verdict != "skip":
            seat.gold += step
            seat.gold_right += step * is_right(change.item, row)
        if row.verdict == "choice" and row.choice is not None and len(change.shown) == 2:
            seat.sides += step
            seat.sides_left += step * (row.choice == change.shown[0])
    if change.before is None:  # the time of a change says little
        seat.timed += 1
        seat.too_fast += bool(change.after.too_fast)
    return {seat.user_id}


def _count_peers(
    seats: Mapping[int, Seat],
    before: Mapping[int, tuple[int, int]],
    after: Mapping[int, tuple[int, int]],
) -> set[int]:
    changed: set[int] = set()
    for user_id, seat in seats.items():
        counted, agreed = (
            now - then
            for now, then in zip(
                after.get(user_id, (0, 0)), before.get(user_id, (0, 0)), strict=True
            )
        )
        if counted or agreed:
            seat.peers += counted
            seat.peers_agree += agreed
            changed.add(user_id)
    return changed


def _vote(item: ItemRow, row: Any) -> str:
    """A judgement of an ordinary pair as a vote; "" if it does not choose one."""
    if item.gold_verdict is not None or item.repeat_of is not None or row.verdict != "choice":
        return ""
    return str(row.choice) if item.kind == "comparison" and row.choice is not None else ""
