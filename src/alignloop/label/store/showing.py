"""From rows to what an annotator sees. Nothing here reads a model's name or a reason to ask."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from alignloop.label.detector import names_maker
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


def task_of(
    session: Session, project: Project, assignment: Assignment, locale: str, at: datetime
) -> Task:
    """The screen of an assignment: the same answers in the same order whenever it is asked for."""
    item, prompt, shown = session.execute(
        select(Item, Prompt, Presentation)
        .join(Prompt, Prompt.id == Item.prompt_id)
        .join(Presentation, Presentation.assignment_id == assignment.id)
        .where(Item.id == assignment.item_id)
    ).one()
    answers = answers_of(session, shown.order)
    return Task(
        assignment_id=assignment.id,
        item_id=item.id,
        kind="ranking" if item.kind == "ranking" else "comparison",
        prompt=tuple(Turn(role=m["role"], text=m["content"]) for m in prompt.messages),
        answers=answers,
        schema=LabelSchema.model_validate(project.schema),
        guideline=_guideline(session, project.id, shown.guideline_version, locale),
        progress=_progress(session, item.batch_id, assignment.user_id, at),
        detector=tuple(
            Flag(answer=a.id, flag="names_maker") for a in answers if names_maker(a.text)
        ),
        previous=_previous(session, assignment.id, shown.order, answers),
    )


def answers_of(session: Session, order: Sequence[int]) -> tuple[Answer, ...]:
    """The responses with these ids, labelled A, B, ... in this order."""
    wanted = select(Response.id, Response.public_id, Response.text).where(Response.id.in_(order))
    found = {row.id: row for row in session.execute(wanted)}
    return tuple(
        Answer(id=found[one].public_id, label=chr(ord("A") + place), text=found[one].text)
        for place, one in enumerate(order)
    )


def judged_today(session: Session, user_id: int, at: datetime) -> int:
    """How many items somebody has judged since midnight of the server's own time zone."""
    midnight = at.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    later = aliased(Judgement)
    mine = Judgement.user_id == user_id, Judgement.created_at >= midnight
    stands = ~Judgement.withdrawn, ~exists().where(later.supersedes == Judgement.id)
    return session.scalar(select(func.count(Judgement.id)).where(*mine, *stands)) or 0


def _guideline(session: Session, project_id: int, version: int, locale: str) -> GuidelineText:
    text = Guideline.text_zh if locale.startswith("zh") else Guideline.text_en
    wanted = select(text).where(Guideline.project_id == project_id, Guideline.version == version)
    return GuidelineText(version=version, text=session.scalars(wanted).one())


def _progress(session: Session, batch_id: int, user_id: int, at: datetime) -> TaskProgress:
    name, total, done = session.execute(
        select(Batch.name, Batch.num_items, Place.done)
        .join(Place, (Place.batch_id == Batch.id) & (Place.user_id == user_id))
        .where(Batch.id == batch_id)
    ).one()
    today = judged_today(session, user_id, at)
    return TaskProgress(today=today, batch=name, batch_done=done, batch_total=total)


def _previous(
    session: Session, assignment_id: int, order: Sequence[int], answers: Sequence[Answer]
) -> Previous | None:
    """What was said before it was withdrawn: the newest judgement that is no withdrawal."""
    said = select(Judgement).where(Judgement.assignment_id == assignment_id, ~Judgement.withdrawn)
    row = session.scalar(said.order_by(Judgement.id.desc()).limit(1))
    if row is None:
        return None
    from alignloop.label.store.judging import said_in

    names = {str(one): answer.id for one, answer in zip(order, answers, strict=True)}
    told = said_in(row).named(names)
    return Previous.model_validate(
        {**vars(told), "skip_reason": row.skip_reason, "comment": row.comment}
    )
