"""Seats: who works in a project, how far they are, and whether they may go on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from alignloop.label.store import audit, events
from alignloop.label.store.refusals import Invalid, NotFound, Paused
from alignloop.label.store.rules import QueueRules
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.tables import Project, User, now
from alignloop.label.store.turns import ENTRY, count_gold_of

COUNTS = ("gold", "gold_right", "peers", "peers_agree", "sides", "sides_left", "timed", "too_fast")
_SEAT = select(Seat).where(
    Seat.user_id == bindparam("user"), Seat.project_id == bindparam("project")
)


def find_seat(session: Session, project_id: int, user_id: int) -> Seat | None:
    """An annotator's seat in a project, None before their first item."""
    return session.scalar(_SEAT, {"user": user_id, "project": project_id})


def seat_of(session: Session, project_id: int, user_id: int, at: datetime) -> Seat:
    """An annotator's seat in a project, made if there is none; somebody is there now."""
    seat = find_seat(session, project_id, user_id)
    if seat is None:
        counts = dict.fromkeys((*COUNTS, "turn", "left_turn", "entry_asked", "entry_right"), 0)
        seat = Seat(user_id=user_id, project_id=project_id, entry="", entry_try=1, **counts)
        seat.in_doubt, seat.flags, seat.pause_reason = False, [], ""
        session.add(seat)
    seat.last_at = at
    return seat


def check_may_work(seat: Seat) -> None:
    """Raise Paused for who is paused or did not pass the entry test."""
    if seat.paused_at is not None:
        problem = "your work in this project is paused, and your lead knows of it"
        raise Paused(problem, fix="what you did is kept; talk to your lead to go on")
    if seat.entry == "failed":
        problem = "the entry test of this project was not passed, and your lead knows of it"
        raise Paused(problem, fix="talk to your lead, who can give you another try")


def pause(session: Session, seat: Seat, reason: str, at: datetime) -> None:
    """Give this annotator nothing more in the project, and tell the leads."""
    if seat.paused_at is None:
        seat.paused_at, seat.pause_reason = at, reason
        _tell(session, "annotator paused", seat, {"reason": reason})
        if reason != "lead":  # what a lead does is recorded with their name
            name = _name(session, seat)
            audit.record(
                session, "annotator paused", user_id=None, target=name, detail={"check": reason}
            )


def resume(session: Session, project_id: int, name: str) -> None:
    """Let an annotator go on, with new counts: what was seen so far does not pause them again.

    Whoever failed the entry test may try it again. Raises NotFound.
    """
    seat = _named(session, project_id, name)
    for count in COUNTS:
        setattr(seat, count, 0)
    seat.flags, seat.in_doubt, seat.paused_at, seat.pause_reason = [], False, None, ""
    if seat.entry == "failed":
        seat.entry, seat.entry_try, seat.entry_asked, seat.entry_right = "", 1, 0, 0
    _tell(session, "annotator resumed", seat, {})


def pause_by_lead(session: Session, project_id: int, name: str) -> None:
    """Pause an annotator's work in a project. Raises NotFound."""
    pause(session, _named(session, project_id, name), "lead", now())


def admit(session: Session, project_id: int, name: str) -> None:
    """Let an annotator in without the entry test. Raises NotFound."""
    _named(session, project_id, name).entry = "passed"


def count_entry(session: Session, seat: Seat, rules: QueueRules, asked: int, right: bool) -> None:
    """Count an answer of the entry test, which has `asked` questions, and decide at its end."""
    seat.entry_asked += 1
    seat.entry_right += right
    if seat.entry_asked < asked:
        return
    told = {"right": seat.entry_right, "asked": seat.entry_asked, "try": seat.entry_try}
    if seat.entry_right >= rules.entry_bar * seat.entry_asked:
        seat.entry = "passed"
        _tell(session, "entry passed", seat, told)
    elif seat.entry_try >= rules.entry_tries:
        seat.entry = "failed"
        _tell(session, "entry failed", seat, told)
    else:
        seat.entry_try += 1
        seat.entry_asked = seat.entry_right = 0


def flag(session: Session, seat: Seat, check: str, evidence: float) -> None:
    """Raise a check's alarm about an annotator, once until the lead lets them go on.

    It is an event, and an entry of the audit log.
    """
    seat.flags = [*seat.flags, check]
    counts = {name: getattr(seat, name) for name in COUNTS}
    told = {"check": check, "evidence": evidence, **counts}
    _tell(session, "annotator flagged", seat, told)
    audit.record(
        session, "annotator flagged", user_id=None, target=_name(session, seat), detail=told
    )


def _tell(session: Session, kind: str, seat: Seat, data: dict[str, Any]) -> None:
    told = {"annotator": _name(session, seat), "turn": seat.turn, **data}
    events.record(session, kind, seat.project_id, told)


def _audit(session: Session, action: str, seat: Seat, detail: dict[str, Any]) -> None:
    target = _name(session, seat)
    audit.record(session, action, user_id=None, target=target, detail=detail)


def _name(session: Session, seat: Seat) -> str:
    return session.scalars(select(User.name).where(User.id == seat.user_id)).one()


def _named(session: Session, project_id: int, name: str) -> Seat:
    found = select(Seat).join(User, User.id == Seat.user_id)
    seat = session.scalar(found.where(User.name == name, Seat.project_id == project_id))
    if seat is None:
        raise NotFound("nobody of this name has worked in this project", where=name)
    return seat


def change_rules(session: Session, project: Project, changes: Mapping[str, Any]) -> QueueRules:
    """Change some rules of a project, for everybody from now on. Raises Invalid."""
    try:
        made = QueueRules.model_validate({**(project.rules or {}), **changes})
    except ValidationError as error:
        wrong = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
        raise Invalid(f"these rules are not valid: {wrong}", fix="correct the numbers") from error
    have = count_gold_of(session, project.id, ENTRY)
    if made.entry_items > have:
        problem = (
            f"the entry test needs {made.entry_items} questions, and there are {have} questions"
        )
        raise Invalid(problem, fix="import gold questions for the entry test first")
    project.rules = made.model_dump(mode="json", exclude_defaults=True)
    session.flush()
    return made


def people_in(session: Session, project_id: int) -> list[tuple[str, Seat]]:
    """Everybody who has worked in a project, by name."""
    rows = session.execute(
        select(User.name, Seat)
        .join(User, User.id == Seat.user_id)
        .where(Seat.project_id == project_id)
        .order_by(User.name)
    )
    return [(row[0], row[1]) for row in rows]
