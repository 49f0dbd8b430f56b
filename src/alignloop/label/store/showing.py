"""From rows to what an annotator sees. Nothing here reads a model's name or a reason to ask."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.detector import names_maker
from alignloop.label.store.answers import said_in
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Guideline,
    Item,
    Judgement,
    Place,
    Presentation,
    Project,
    Prompt,
    Response,
)
from alignloop.label.store.tasks import (
    Answer,
    Flag,
    GuidelineText,
    LabelSchema,
    Previous,
    Task,
    TaskProgress,
    Turn,
)

# Queries are built once, as in `queue`.
_later = aliased(Judgement)
_SHOWN = (
    select(Item, Prompt.messages, Presentation.order, Guideline)
    .join(Prompt, Prompt.id == Item.prompt_id)
    .join(Presentation, Presentation.assignment_id == bindparam("assignment"))
    .join(
        Guideline,
        (Guideline.project_id == Item.project_id)
        & (Guideline.version == Presentation.guideline_version),
    )
    .where(Item.id == bindparam("item"))
)
_ANSWERS = select(Response.id, Response.public_id, Response.text).where(
    Response.id.in_(bindparam("ids", expanding=True))
)
_TODAY = select(func.count(Judgement.id)).where(
    Judgement.user_id == bindparam("user"),
    Judgement.created_at >= bindparam("midnight"),
    ~Judgement.withdrawn,
    ~exists().where(_later.supersedes == Judgement.id),
)
_PROGRESS = (
    select(Batch.name, Batch.num_items, Place.done, _TODAY.scalar_subquery())
    .join(Place, (Place.batch_id == Batch.id) & (Place.user_id == bindparam("user")))
    .where(Batch.id == bindparam("batch"))
)
_PREVIOUS = (
    select(Judgement)
    .where(Judgement.assignment_id == bindparam("assignment"), ~Judgement.withdrawn)
    .order_by(Judgement.id.desc())
    .limit(1)
)


def task_of(
    session: Session, project: Project, assignment: Assignment, locale: str, at: datetime
) -> Task:
    """The screen of an assignment: the same answers in the same order whenever it is asked for."""
    where = {"assignment": assignment.id, "item": assignment.item_id}
    item, messages, order, text = session.execute(_SHOWN, where).one()
    answers = answers_of(session, order)
    return Task(
        assignment_id=assignment.id,
        item_id=item.id,
        kind="ranking" if item.kind == "ranking" else "comparison",
        prompt=tuple(Turn(role=turn["role"], text=turn["content"]) for turn in messages),
        answers=answers,
        schema=LabelSchema.model_validate(project.schema),
        guideline=_in_language(text, locale),
        progress=_progress(session, item.batch_id, assignment.user_id, at),
        detector=tuple(
            Flag(answer=a.id, flag="names_maker") for a in answers if names_maker(a.text)
        ),
        previous=_previous(session, assignment.id, order, answers),
    )


def answers_of(session: Session, order: Sequence[int]) -> tuple[Answer, ...]:
    """The responses with these ids, labelled A, B, ... in this order."""
    found = {row.id: row for row in session.execute(_ANSWERS, {"ids": list(order)})}
    return tuple(
        Answer(id=found[one].public_id, label=chr(ord("A") + place), text=found[one].text)
        for place, one in enumerate(order)
    )


def judged_today(session: Session, user_id: int, at: datetime) -> int:
    """How many items somebody has judged since midnight of the server's own time zone."""
    return session.scalar(_TODAY, {"user": user_id, "midnight": _midnight(at)}) or 0


def _midnight(at: datetime) -> datetime:
    return at.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)


def _in_language(guideline: Guideline, locale: str) -> GuidelineText:
    text = guideline.text_zh if locale.startswith("zh") else guideline.text_en
    return GuidelineText(version=guideline.version, text=text)


def _progress(session: Session, batch_id: int, user_id: int, at: datetime) -> TaskProgress:
    where = {"batch": batch_id, "user": user_id, "midnight": _midnight(at)}
    name, total, done, today = session.execute(_PROGRESS, where).one()
    return TaskProgress(today=today, batch=name, batch_done=done, batch_total=total)


def _previous(
    session: Session, assignment_id: int, order: Sequence[int], answers: Sequence[Answer]
) -> Previous | None:
    """What was said before it was withdrawn: the newest judgement that is no withdrawal."""
    row = session.scalar(_PREVIOUS, {"assignment": assignment_id})
    if row is None:
        return None
    names = {str(one): answer.id for one, answer in zip(order, answers, strict=True)}
    told = said_in(row).named(names)
    return Previous.model_validate(
        {**vars(told), "skip_reason": row.skip_reason, "comment": row.comment}
    )
