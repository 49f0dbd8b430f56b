"""What leads see of the checks: each annotator's counts with intervals, alarms and pauses."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from alignloop.label.store.checks import Counts, evidence_of
from alignloop.label.store.rules import Check, QueueRules
from alignloop.label.store.seats import people_in
from alignloop.label.store.watching import bars_in, counts_of
from alignloop.stats import Estimate, anytime_interval


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One annotator: shares have intervals that hold however often one looks; None without answers.

    `evidence` is the log of each check's evidence, which alarms at log(1 / alarm). `entry` is
    "passed", "failed" or "" for under way; `flags` are alarms since they were last let on.
    """

    annotator: str
    turn: int
    entry: str
    entry_right: int
    entry_asked: int
    gold: Estimate | None
    peers: Estimate | None
    left_side: Estimate | None
    too_fast: Estimate | None
    evidence: dict[Check, float]
    flags: tuple[str, ...]
    in_doubt: bool
    paused_at: datetime | None
    pause_reason: str


def checked_people(session: Session, project_id: int, rules: QueueRules) -> list[Checked]:
    """Everybody in a project: the paused, then the flagged, then the others by name."""
    bars_for = bars_in(session, project_id, rules)
    found: list[Checked] = []
    for name, seat in people_in(session, project_id):
        counts = counts_of(seat)
        found.append(
            Checked(
                annotator=name,
                turn=seat.turn,
                entry=seat.entry,
                entry_right=seat.entry_right,
                entry_asked=seat.entry_asked,
                **_shares(counts, rules.alarm),
                evidence=evidence_of(counts, bars_for(seat.user_id), rules),
                flags=tuple(seat.flags),
                in_doubt=seat.in_doubt,
                paused_at=seat.paused_at,
                pause_reason=seat.pause_reason,
            )
        )
    return sorted(found, key=lambda one: (one.paused_at is None, not one.flags, one.annotator))


def _shares(counts: Counts, alarm: float) -> dict[str, Estimate | None]:
    return {
        "gold": _share(counts.gold_right, counts.gold, alarm),
        "peers": _share(counts.peers_agree, counts.peers, alarm),
        "left_side": _share(counts.sides_left, counts.sides, alarm),
        "too_fast": _share(counts.too_fast, counts.timed, alarm),
    }


def _share(part: int, whole: int, alarm: float) -> Estimate | None:
    if whole == 0:
        return None
    found = anytime_interval(part, whole - part, alarm)
    return Estimate(value=part / whole, low=found.low, high=found.high, n=whole)
