"""From rows to what an annotator sees. Nothing here reads a model's name or an item's reason."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session

from alignloop.label.identity_leaks import names_maker
from alignloop.label.store.left import done_in, left_as_told, left_for, seconds_each
from alignloop.label.store.presentation_order import opaque
from alignloop.label.store.projects import get_project
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.rules import rules_of
from alignloop.label.store.seat_tables import Seat
from alignloop.label.store.seats import find_seat
from alignloop.label.store.tables import (
    Assignment,
    Guideline,
    ItemRow,
    Presentation,
    Project,
    PromptRow,
    ResponseRow,
    judgements,
    now,
)
from alignloop.label.store.tasks import (
    Feedback,
    Flag,
    GuidelineText,
    LabelSchema,
    Previous,
    ShownAnswer,
    Task,
    TaskProgress,
    Turn,
)
from alignloop.label.store.turns import CHECK
from alignloop.label.store.validation import content_of

# Queries are built once, as in `queue`.
_later = judgements.alias()
_SHOWN = (
    select(ItemRow, PromptRow.messages, Presentation.order, Guideline)
    .join(PromptRow, PromptRow.id == ItemRow.prompt_id)
    .join(Presentation, Presentation.assignment_id == bindparam("assignment"))
    .join(
        Guideline,
        (Guideline.project_id == ItemRow.project_id)
        & (Guideline.version == Presentation.guideline_version),
    )
    .where(ItemRow.id == bindparam("item"))
)
_ANSWERS = select(ResponseRow.id, ResponseRow.text).where(
    ResponseRow.id.in_(bindparam("ids", expanding=True))
)
_TODAY = select(func.count(judgements.c.id)).where(
    judgements.c.user_id == bindparam("user"),
    judgements.c.created_at >= bindparam("midnight"),
    ~judgements.c.withdrawn,
    ~exists().where(_later.c.supersedes == judgements.c.id),
)
_PREVIOUS = (
    select(judgements)
    .where(judgements.c.assignment_id == bindparam("assignment"), ~judgements.c.withdrawn)
    .order_by(judgements.c.id.desc())
    .limit(1)
)


def task_of(
    session: Session,
    project: Project,
    assignment: Assignment,
    seat: Seat,
    locale: str,
    at: datetime,
    *,
    renew: bool = True,
) -> Task:
    """The screen of an assignment: always the same answers in the same order.

    Only with `renew`, which writes, is the estimate of what is left renewed.
    """
    where = {"assignment": assignment.id, "item": assignment.item_id}
    item, messages, order, text = session.execute(_SHOWN, where).one()
    answers = answers_of(session, project.secret, assignment.id, order)
    is_work = item.gold_verdict is None or item.gold_use == CHECK
    return Task(
        assignment_id=assignment.id,
        item_id=opaque(project.secret, f"item/{assignment.id}"),
        stage="work" if is_work else item.gold_use,
        kind="ranking" if item.kind == "ranking" else "comparison",
        prompt=tuple(Turn(role=turn["role"], text=turn["content"]) for turn in messages),
        answers=answers,
        schema=LabelSchema.model_validate(project.schema),
        guideline=_in_language(text, locale),
        progress=_progress(session, project, seat, at, renew=renew),
        detector=tuple(
            Flag(answer=a.id, flag="names_maker") for a in answers if names_maker(a.text)
        ),
        previous=_previous(session, assignment, order, answers),
    )


def find_task(session: Session, slug: str, assignment_id: int, user_id: int, locale: str) -> Task:
    """The screen of one of the annotator's own assignments in a project. Raises NotFound."""
    project = get_project(session, slug)
    mine = Assignment.id == assignment_id, Assignment.user_id == user_id
    found = select(Assignment).join(ItemRow, ItemRow.id == Assignment.item_id).where(*mine)
    assignment = session.scalar(found.where(ItemRow.project_id == project.id))
    if assignment is None:
        raise NotFound("you have no such assignment", where=str(assignment_id))
    seat = find_seat(session, project.id, user_id)
    assert seat is not None, "who has an assignment has a seat"
    return task_of(session, project, assignment, seat, locale, now(), renew=False)


def feedback_of(session: Session, assignment_id: int) -> Feedback | None:
    """What is told after an answer in the entry test or in training; None for all other items."""
    assignment = session.get_one(Assignment, assignment_id)
    item = session.get_one(ItemRow, assignment.item_id)
    if item.gold_verdict is None or item.gold_use == CHECK:
        return None
    project = session.get_one(Project, item.project_id)
    said = session.execute(_PREVIOUS, {"assignment": assignment_id}).one()
    choice = item.gold_choice
    return Feedback(
        right=is_right(item, said),
        verdict=item.gold_verdict,  # pyright: ignore[reportArgumentType]  # checked by pydantic
        choice=None if choice is None else answer_id(project.secret, assignment_id, choice),
        explanation=item.explanation,
    )


def is_right(item: ItemRow, said: Any) -> bool:
    """Whether a row of `judgements` gives the right answer of a gold question."""
    if item.gold_verdict == "choice":
        return said.verdict == "choice" and said.choice == item.gold_choice
    return said.verdict == item.gold_verdict


def answer_id(secret: str, assignment_id: int, response_id: int) -> str:
    """The id of an answer on one screen; elsewhere the same answer has another."""
    return opaque(secret, f"answer/{assignment_id}/{response_id}")


def answers_of(
    session: Session, secret: str, assignment_id: int, order: Sequence[int]
) -> tuple[ShownAnswer, ...]:
    """The responses with these ids, labelled A, B, ... in this order."""
    found = {row.id: row for row in session.execute(_ANSWERS, {"ids": list(order)})}
    return tuple(
        ShownAnswer(
            id=answer_id(secret, assignment_id, one),
            label=chr(ord("A") + index),
            text=found[one].text,
        )
        for index, one in enumerate(order)
    )


def judged_today(session: Session, user_id: int, at: datetime) -> int:
    """How many items a user has judged since midnight in the server's time zone."""
    return session.scalar(_TODAY, {"user": user_id, "midnight": _midnight(at)}) or 0


def _midnight(at: datetime) -> datetime:
    return at.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)


def _in_language(guideline: Guideline, locale: str) -> GuidelineText:
    text = guideline.text_zh if locale.startswith("zh") else guideline.text_en
    return GuidelineText(version=guideline.version, text=text)


def _progress(
    session: Session, project: Project, seat: Seat, at: datetime, *, renew: bool
) -> TaskProgress:
    left = left_for(session, seat, rules_of(project), at) if renew else left_as_told(seat) or 1
    each = seconds_each(session, seat.user_id)
    return TaskProgress(
        today=judged_today(session, seat.user_id, at),
        done=done_in(session, project.id, seat.user_id),
        left=left,
        minutes_left=None if each is None else math.ceil(left * each / 60),
    )


def _previous(
    session: Session, assignment: Assignment, order: Sequence[int], answers: Sequence[ShownAnswer]
) -> Previous | None:
    """The answer that is being changed: the newest judgement that is not a withdrawal."""
    if not assignment.revising:
        return None
    row = session.execute(_PREVIOUS, {"assignment": assignment.id}).one_or_none()
    if row is None:
        return None
    names = {one: answer.id for one, answer in zip(order, answers, strict=True)}
    return Previous.model_validate(content_of(row, names))
