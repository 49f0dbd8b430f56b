"""From rows to what an annotator sees. Nothing here reads a model's name or an item's reason."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session

from alignloop.label.identity_leaks import names_maker
from alignloop.label.store.guideline_openings import is_due
from alignloop.label.store.projects import get_project
from alignloop.label.store.refusals import NotFound
from alignloop.label.store.tables import (
    Assignment,
    Batch,
    Cursor,
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
    Flag,
    GuidelineText,
    LabelSchema,
    Previous,
    ShownAnswer,
    Task,
    TaskProgress,
    Turn,
)
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
_ANSWERS = select(ResponseRow.id, ResponseRow.public_id, ResponseRow.text).where(
    ResponseRow.id.in_(bindparam("ids", expanding=True))
)
_TODAY = select(func.count(judgements.c.id)).where(
    judgements.c.user_id == bindparam("user"),
    judgements.c.created_at >= bindparam("midnight"),
    ~judgements.c.withdrawn,
    ~exists().where(_later.c.supersedes == judgements.c.id),
)
_PROGRESS = (
    select(Batch.name, Batch.num_items, Cursor.done, _TODAY.scalar_subquery())
    .join(Cursor, (Cursor.batch_id == Batch.id) & (Cursor.user_id == bindparam("user")))
    .where(Batch.id == bindparam("batch"))
)
_PREVIOUS = (
    select(judgements)
    .where(judgements.c.assignment_id == bindparam("assignment"), ~judgements.c.withdrawn)
    .order_by(judgements.c.id.desc())
    .limit(1)
)


def task_of(
    session: Session, project: Project, assignment: Assignment, locale: str, at: datetime
) -> Task:
    """The screen of an assignment: always the same answers in the same order."""
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
        guideline_due=is_due(session, project, assignment.user_id, text.version),
        progress=_progress(session, item.batch_id, assignment.user_id, at),
        detector=tuple(
            Flag(answer=a.id, flag="names_maker") for a in answers if names_maker(a.text)
        ),
        previous=_previous(session, assignment.id, order, answers),
    )


def find_task(session: Session, slug: str, assignment_id: int, user_id: int, locale: str) -> Task:
    """The screen of one of the annotator's own assignments in a project. Raises NotFound."""
    project = get_project(session, slug)
    mine = Assignment.id == assignment_id, Assignment.user_id == user_id
    found = select(Assignment).join(ItemRow, ItemRow.id == Assignment.item_id).where(*mine)
    assignment = session.scalar(found.where(ItemRow.project_id == project.id))
    if assignment is None:
        raise NotFound("you have no such assignment", where=str(assignment_id))
    return task_of(session, project, assignment, locale, now())


def answers_of(session: Session, order: Sequence[int]) -> tuple[ShownAnswer, ...]:
    """The responses with these ids, labelled A, B, ... in this order."""
    found = {row.id: row for row in session.execute(_ANSWERS, {"ids": list(order)})}
    return tuple(
        ShownAnswer(id=found[one].public_id, label=chr(ord("A") + index), text=found[one].text)
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


def _progress(session: Session, batch_id: int, user_id: int, at: datetime) -> TaskProgress:
    where = {"batch": batch_id, "user": user_id, "midnight": _midnight(at)}
    name, total, done, today = session.execute(_PROGRESS, where).one()
    return TaskProgress(today=today, batch=name, batch_done=done, batch_total=total)


def _previous(
    session: Session, assignment_id: int, order: Sequence[int], answers: Sequence[ShownAnswer]
) -> Previous | None:
    """The withdrawn answer: the newest judgement that is not a withdrawal."""
    row = session.execute(_PREVIOUS, {"assignment": assignment_id}).one_or_none()
    if row is None:
        return None
    names = {one: answer.id for one, answer in zip(order, answers, strict=True)}
    return Previous.model_validate(content_of(row, names))
