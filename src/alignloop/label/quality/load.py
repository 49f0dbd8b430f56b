"""From the database to plain rows: the one place where statistics and exports read tables."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.quality.rows import (
    Adjudicated,
    Answer,
    Item,
    Judged,
    Labels,
    Verdict,
)
from alignloop.label.store import tables
from alignloop.records import Message, Prompt

Names = Mapping[int, str]  # the record's response_id of each response


def load_labels(session: Session, project_id: int) -> Labels:
    """Everything of a project that was asked and said, as one moment shows it."""
    prompts = _prompts(session, project_id)
    answers, names = _answers(session, project_id)
    return Labels.of(
        _items(session, project_id, prompts, answers, names),
        _judgements(session, project_id, names),
        _adjudications(session, project_id, names),
    )


def _prompts(session: Session, project_id: int) -> dict[int, Prompt]:
    rows = session.execute(
        select(tables.Prompt.__table__).where(tables.Prompt.project_id == project_id)
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
) -> tuple[dict[int, tuple[Answer, ...]], dict[int, str]]:
    """The answers of each item in their stored order, and the names of all responses."""
    response, shows = tables.Response, tables.ItemResponse
    rows = session.execute(
        select(shows.item_id, response.id, response.record_id, response.text, response.model)
        .join(response, response.id == shows.response_id)
        .join(tables.Item, tables.Item.id == shows.item_id)
        .where(tables.Item.project_id == project_id)
        .order_by(shows.item_id, shows.position)
    )
    found: dict[int, list[Answer]] = {}
    names: dict[int, str] = {}
    for item_id, response_id, name, text, model in rows:
        names[response_id] = name
        found.setdefault(item_id, []).append(Answer(response_id=name, text=text, model=model))
    return {item_id: tuple(answers) for item_id, answers in found.items()}, names


def _items(
    session: Session,
    project_id: int,
    prompts: Mapping[int, Prompt],
    answers: Mapping[int, tuple[Answer, ...]],
    names: Names,
) -> list[Item]:
    item, batch = tables.Item, tables.Batch
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


def _judgements(session: Session, project_id: int, names: Names) -> list[Judged]:
    judgement = tables.Judgement
    rows = session.execute(
        select(judgement, tables.User.name, tables.Presentation.order)
        .join(tables.Item, tables.Item.id == judgement.item_id)
        .join(tables.User, tables.User.id == judgement.user_id)
        .outerjoin(
            tables.Presentation, tables.Presentation.assignment_id == judgement.assignment_id
        )
        .where(tables.Item.project_id == project_id)
        .order_by(judgement.id)
    )
    return [_judged(row, name, order or [], names) for row, name, order in rows]


def _judged(row: tables.Judgement, annotator: str, order: list[Any], names: Names) -> Judged:
    ratings = {names[int(key)]: float(value) for key, value in row.ratings.items()}
    choice = names[row.choice] if row.choice is not None else None
    verdict = cast("Verdict", row.verdict)
    if verdict == "choice" and choice is None and not row.ranking:
        verdict, choice = _of_ratings(ratings)
    return Judged(
        judgement_id=row.id,
        item_id=row.item_id,
        annotator=annotator,
        verdict=verdict,
        created_at=row.created_at,
        choice=choice,
        strength=row.strength,
        ratings=ratings,
        ranking=tuple(_named(equal, names) for equal in row.ranking),
        harmful=_named(row.harmful, names),
        shown=_named(order, names),
        seconds=row.visible_ms / 1000,
        skip_reason=row.skip_reason,
        comment=row.comment,
        guideline=row.guideline_version,
        key=row.idempotency_key,
        supersedes=row.supersedes,
        withdrawn=row.withdrawn,
    )


def _of_ratings(ratings: Mapping[str, float]) -> tuple[Verdict, str | None]:
    """Where people were asked for ratings alone, the best rated answer is their choice."""
    best = [name for name, value in ratings.items() if value == max(ratings.values())]
    return ("choice", best[0]) if len(best) == 1 else ("tie", None)


def _named(ids: list[Any], names: Names) -> tuple[str, ...]:
    return tuple(names[int(one)] for one in ids)


def _adjudications(session: Session, project_id: int, names: Names) -> list[Adjudicated]:
    decided = tables.Adjudication
    rows = session.execute(
        select(decided, tables.User.name)
        .join(tables.Item, tables.Item.id == decided.item_id)
        .join(tables.User, tables.User.id == decided.user_id)
        .where(tables.Item.project_id == project_id)
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
