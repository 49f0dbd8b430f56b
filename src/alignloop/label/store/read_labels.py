"""From the database to the read model of quality pages, exports and training."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.labels.project_labels import (
    Adjudicated,
    Item,
    ItemAnswer,
    ProjectLabels,
    StoredJudgement,
    VerdictName,
)
from alignloop.label.store import tables
from alignloop.label.store.validation import content_of
from alignloop.records import Message, Prompt

Names = Mapping[int, str]  # the record's response_id of each response


def load_labels(session: Session, project_id: int) -> ProjectLabels:
    """All items and judgements of a project, from one snapshot."""
    prompts = _prompts(session, project_id)
    answers, names = _answers(session, project_id)
    return ProjectLabels.of(
        _items(session, project_id, prompts, answers, names),
        _judgements(session, project_id, names),
        _adjudications(session, project_id, names),
    )


def _prompts(session: Session, project_id: int) -> dict[int, Prompt]:
    rows = session.execute(
        select(tables.PromptRow.__table__).where(tables.PromptRow.project_id == project_id)
    )
    return {
        row.id: Prompt(
            prompt_id=row.prompt_key,
            messages=tuple(Message.model_validate(turn) for turn in row.messages),
            source=row.source,
            category=row.category,
            language=row.language,
            **row.more,
        )
        for row in rows
    }


def _answers(
    session: Session, project_id: int
) -> tuple[dict[int, tuple[ItemAnswer, ...]], dict[int, str]]:
    """The answers of each item in stored order, and the names of all responses."""
    response, shows = tables.ResponseRow, tables.ItemResponse
    rows = session.execute(
        select(shows.item_id, response.id, response.record_id, response.text, response.model)
        .join(response, response.id == shows.response_id)
        .join(tables.ItemRow, tables.ItemRow.id == shows.item_id)
        .where(tables.ItemRow.project_id == project_id)
        .order_by(shows.item_id, shows.position)
    )
    found: dict[int, list[ItemAnswer]] = {}
    names: dict[int, str] = {}
    for item_id, response_id, name, text, model in rows:
        names[response_id] = name
        found.setdefault(item_id, []).append(ItemAnswer(response_id=name, text=text, model=model))
    return {item_id: tuple(answers) for item_id, answers in found.items()}, names


def _items(
    session: Session,
    project_id: int,
    prompts: Mapping[int, Prompt],
    answers: Mapping[int, tuple[ItemAnswer, ...]],
    names: Names,
) -> list[Item]:
    item, batch = tables.ItemRow, tables.Batch
    rows = session.execute(
        select(item, batch.name, batch.closed_at)
        .join(batch, batch.id == item.batch_id)
        .where(item.project_id == project_id)
        .order_by(item.id)
    )
    return [
        Item(
            item_id=row.id,
            comparison_id=row.comparison_key,
            prompt=prompts[row.prompt_id],
            answers=answers[row.id],
            kind=row.kind,
            why=row.why,
            why_detail=row.why_detail,
            batch=name,
            gold=names[row.gold_choice] if row.gold_choice is not None else row.gold_verdict,
            repeat_of=row.repeat_of,
            wanted=row.wanted,
            is_open=closed_at is None,
        )
        for row, name, closed_at in rows
    ]


def _judgements(session: Session, project_id: int, names: Names) -> list[StoredJudgement]:
    judgements, shown = tables.judgements, tables.Presentation
    rows = session.execute(
        select(judgements, tables.User.name.label("annotator"), shown.order)
        .join(tables.ItemRow, tables.ItemRow.id == judgements.c.item_id)
        .join(tables.User, tables.User.id == judgements.c.user_id)
        .outerjoin(shown, shown.assignment_id == judgements.c.assignment_id)
        .where(tables.ItemRow.project_id == project_id)
        .order_by(judgements.c.id)
    )
    return [_judgement(row, names) for row in rows]


def _judgement(row: Any, names: Names) -> StoredJudgement:
    fields, order = content_of(row, names), cast("list[int]", row.order or [])
    fields["ratings"] = {name: float(value) for name, value in fields["ratings"].items()}
    if row.verdict == "choice" and row.choice is None and not row.ranking:
        fields["verdict"], fields["choice"] = _of_ratings(fields["ratings"])
    fields["ranking"] = tuple(tuple(equal) for equal in fields["ranking"])
    fields["harmful"] = tuple(fields["harmful"])
    return StoredJudgement(
        judgement_id=row.id,
        item_id=row.item_id,
        annotator=row.annotator,
        created_at=row.created_at,
        shown=tuple(names[one] for one in order),
        seconds=row.visible_ms / 1000,
        guideline=row.guideline_version,
        key=row.idempotency_key,
        supersedes=row.supersedes,
        withdrawn=row.withdrawn,
        **fields,
    )


def _of_ratings(ratings: Mapping[str, float]) -> tuple[VerdictName, str | None]:
    """In projects with ratings only, the best rated answer is the choice."""
    best = [name for name, value in ratings.items() if value == max(ratings.values())]
    return ("choice", best[0]) if len(best) == 1 else ("tie", None)


def _adjudications(session: Session, project_id: int, names: Names) -> list[Adjudicated]:
    decided = tables.Adjudication
    rows = session.execute(
        select(decided, tables.User.name)
        .join(tables.ItemRow, tables.ItemRow.id == decided.item_id)
        .join(tables.User, tables.User.id == decided.user_id)
        .where(tables.ItemRow.project_id == project_id)
        .order_by(decided.id)
    )
    return [
        Adjudicated(
            item_id=row.item_id,
            by=name,
            verdict=row.verdict,
            choice=names[row.choice] if row.choice is not None else None,
            comment=row.comment,
            created_at=row.created_at,
        )
        for row, name in rows
    ]
