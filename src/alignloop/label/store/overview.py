"""The lead's view: items with models, judgements with annotators, and adjudication."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from alignloop.label.store.judging import standing
from alignloop.label.store.refusals import Invalid, NotFound
from alignloop.label.store.tables import (
    Adjudication,
    Batch,
    ItemResponse,
    ItemRow,
    Presentation,
    PromptRow,
    ResponseRow,
    User,
    judgements,
    now,
)
from alignloop.label.store.task_view import judged_today
from alignloop.label.store.validation import content_of


@dataclass(frozen=True, kw_only=True)
class OwnProgress:
    """An annotator's work in a project; `today` counts all projects."""

    today: int
    done: int
    median_seconds: float | None


def own_progress(session: Session, project_id: int, user_id: int) -> OwnProgress:
    """How much an annotator has judged, and how long they take."""
    mine = _judged_by(project_id, user_id)
    times = sorted(session.scalars(mine.with_only_columns(judgements.c.visible_ms)))
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2000 if times else None
    return OwnProgress(
        today=judged_today(session, user_id, now()), done=len(times), median_seconds=middle
    )


def count_judged(session: Session, project_id: int, user_id: int) -> int:
    """How many items of a project an annotator has judged."""
    mine = _judged_by(project_id, user_id)
    return session.scalar(mine.with_only_columns(func.count(judgements.c.id))) or 0


def _judged_by(project_id: int, user_id: int) -> Select[Any]:
    mine = standing().join(ItemRow, ItemRow.id == judgements.c.item_id)
    return mine.where(judgements.c.user_id == user_id, ItemRow.project_id == project_id)


def count_gold(session: Session, batch_ids: Iterable[int]) -> dict[int, int]:
    """Numbers of gold questions by batch, without batches that have none."""
    gold = select(ItemRow.batch_id, func.count(ItemRow.id)).where(
        ItemRow.gold_verdict.is_not(None), ItemRow.batch_id.in_(list(batch_ids))
    )
    return {row[0]: row[1] for row in session.execute(gold.group_by(ItemRow.batch_id))}


def count_slices(session: Session, project_id: int, *, except_batch: str) -> dict[str, int]:
    """Numbers of items by category and language: {"howto/en": 12}."""
    rows = session.execute(
        select(PromptRow.category, PromptRow.language, func.count(ItemRow.id))
        .join(ItemRow, ItemRow.prompt_id == PromptRow.id)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .where(ItemRow.project_id == project_id, Batch.name != except_batch)
        .group_by(PromptRow.category, PromptRow.language)
    )
    return {f"{category}/{language}": count for category, language, count in rows}


def list_items(
    session: Session, project_id: int, *, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """Items by id, including what annotators must not see."""
    page = (
        select(ItemRow, PromptRow.messages, Batch.name)
        .join(PromptRow, PromptRow.id == ItemRow.prompt_id)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .where(ItemRow.project_id == project_id, ItemRow.id > after)
        .order_by(ItemRow.id)
        .limit(limit)
    )
    rows = session.execute(page).all()
    shown = responses_of(session, [item.id for item, _, _ in rows])
    return [
        {
            "id": item.id,
            "batch": batch,
            "prompt": messages,
            "responses": [_describe(response) for response in shown[item.id]],
            "gold_choice": next(
                (r.public_id for r in shown[item.id] if r.id == item.gold_choice), None
            ),
        }
        | {name: getattr(item, name) for name in _SHOWN_OF_ITEM}
        for item, messages, batch in rows
    ]


_SHOWN_OF_ITEM = (
    *("comparison_key", "kind", "why", "why_detail", "gold_verdict", "repeat_of"),
    *("wanted", "taken"),
)


def list_judgements(
    session: Session, project_id: int, *, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """Judgements by id, including superseded and withdrawn ones."""
    page = (
        select(judgements, User.name.label("annotator"), Presentation.order)
        .join(ItemRow, ItemRow.id == judgements.c.item_id)
        .join(User, User.id == judgements.c.user_id)
        .join(Presentation, Presentation.assignment_id == judgements.c.assignment_id)
        .where(ItemRow.project_id == project_id, judgements.c.id > after)
        .order_by(judgements.c.id)
        .limit(limit)
    )
    rows = session.execute(page).all()
    holding = standing().where(judgements.c.id.in_([row.id for row in rows]))
    valid = set(session.scalars(holding.with_only_columns(judgements.c.id)))
    ids = {one for row in rows for one in row.order}
    public_ids = select(ResponseRow.id, ResponseRow.public_id).where(ResponseRow.id.in_(ids))
    names = {row[0]: row[1] for row in session.execute(public_ids)}
    return [
        content_of(row, names)
        | {name: getattr(row, name) for name in _SHOWN_OF_JUDGEMENT}
        | {"order": [names[one] for one in row.order], "standing": row.id in valid}
        for row in rows
    ]


_SHOWN_OF_JUDGEMENT = (
    *("id", "item_id", "annotator"),
    *("visible_ms", "guideline_version", "created_at"),
)


def adjudicate(
    session: Session,
    project_id: int,
    user_id: int,
    item_id: int,
    verdict: str,
    choice: str | None,
    comment: str = "",
) -> Adjudication:
    """Store the lead's verdict on an item; `choice` is a public id. Raises NotFound or Invalid."""
    item = session.get(ItemRow, item_id)
    if item is None or item.project_id != project_id:
        raise NotFound("there is no such item", where=str(item_id))
    ids = {one.public_id: one.id for one in responses_of(session, [item_id])[item_id]}
    if (verdict == "choice") != (choice is not None) or (choice is not None and choice not in ids):
        raise Invalid("the verdict names no answer of the item", fix="choose one of its answers")
    row = Adjudication(item_id=item_id, user_id=user_id, verdict=verdict, comment=comment)
    row.choice, row.created_at = ids[choice] if choice else None, now()
    session.add(row)
    session.flush()
    return row


def responses_of(session: Session, item_ids: list[int]) -> dict[int, list[ResponseRow]]:
    """The responses of each item, in stored order."""
    rows = session.execute(
        select(ItemResponse.item_id, ResponseRow)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .where(ItemResponse.item_id.in_(item_ids))
        .order_by(ItemResponse.item_id, ItemResponse.position)
    )
    found: dict[int, list[ResponseRow]] = {one: [] for one in item_ids}
    for item_id, response in rows:
        found[item_id].append(response)
    return found


def _describe(response: ResponseRow) -> dict[str, Any]:
    return {
        "id": response.public_id,
        "response_id": response.record_id,
        "text": response.text,
        "model": response.model,
        "settings": response.settings,
    }
