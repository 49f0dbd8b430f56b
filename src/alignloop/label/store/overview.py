"""What a lead looks at: items with their models, judgements with their people; and deciding."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.judging import standing
from alignloop.label.store.refusals import Invalid, NotFound
from alignloop.label.store.showing import judged_today
from alignloop.label.store.tables import (
    Adjudication,
    Batch,
    Item,
    ItemResponse,
    Judgement,
    Presentation,
    Prompt,
    Response,
    User,
    now,
)


@dataclass(frozen=True, kw_only=True)
class OwnProgress:
    """An annotator's work in a project; `today` counts the work in all projects."""

    today: int
    done: int
    median_seconds: float | None


def own_progress(session: Session, project_id: int, user_id: int) -> OwnProgress:
    """How much somebody has judged, and how long he takes."""
    mine = standing().join(Item, Item.id == Judgement.item_id)
    mine = mine.where(Judgement.user_id == user_id, Item.project_id == project_id)
    times = sorted(session.scalars(mine.with_only_columns(Judgement.visible_ms)))
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2000 if times else None
    return OwnProgress(
        today=judged_today(session, user_id, now()), done=len(times), median_seconds=middle
    )


def list_items(
    session: Session, project_id: int, *, after: int = 0, limit: int = 100
) -> list[dict[str, Any]]:
    """Items by id, with everything that annotators must not see."""
    page = (
        select(Item, Prompt.messages, Batch.name)
        .join(Prompt, Prompt.id == Item.prompt_id)
        .join(Batch, Batch.id == Item.batch_id)
        .where(Item.project_id == project_id, Item.id > after)
        .order_by(Item.id)
        .limit(limit)
    )
    rows = session.execute(page).all()
    shown = _responses(session, [item.id for item, _, _ in rows])
    return [
        {
            "id": item.id,
            "batch": batch,
            "prompt": messages,
            "responses": [_told(response) for response in shown[item.id]],
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
    """Judgements by id, those that are superseded or withdrawn too."""
    page = (
        select(Judgement, User.name, Presentation.order)
        .join(Item, Item.id == Judgement.item_id)
        .join(User, User.id == Judgement.user_id)
        .join(Presentation, Presentation.assignment_id == Judgement.assignment_id)
        .where(Item.project_id == project_id, Judgement.id > after)
        .order_by(Judgement.id)
        .limit(limit)
    )
    rows = session.execute(page).all()
    holding = standing().where(Judgement.id.in_([row.id for row, _, _ in rows]))
    stands = set(session.scalars(holding.with_only_columns(Judgement.id)))
    ids = {one for _, _, order in rows for one in order}
    wanted = select(Response.id, Response.public_id).where(Response.id.in_(ids))
    names = {row[0]: row[1] for row in session.execute(wanted)}
    return [
        _judgement(row, names)
        | {"annotator": name, "order": [names[one] for one in order], "standing": row.id in stands}
        for row, name, order in rows
    ]


def adjudicate(
    session: Session,
    project_id: int,
    user_id: int,
    item_id: int,
    verdict: str,
    choice: str | None,
    comment: str = "",
) -> Adjudication:
    """Keep the lead's verdict on an item; `choice` is a public id. Raises NotFound or Invalid."""
    item = session.get(Item, item_id)
    if item is None or item.project_id != project_id:
        raise NotFound("there is no such item", where=str(item_id))
    ids = {one.public_id: one.id for one in _responses(session, [item_id])[item_id]}
    if (verdict == "choice") != (choice is not None) or (choice is not None and choice not in ids):
        raise Invalid("the verdict names no answer of the item", fix="choose one of its answers")
    row = Adjudication(item_id=item_id, user_id=user_id, verdict=verdict, comment=comment)
    row.choice, row.created_at = ids[choice] if choice else None, now()
    session.add(row)
    session.flush()
    return row


def _responses(session: Session, item_ids: list[int]) -> dict[int, list[Response]]:
    """The responses of each item in their stored order."""
    rows = session.execute(
        select(ItemResponse.item_id, Response)
        .join(Response, Response.id == ItemResponse.response_id)
        .where(ItemResponse.item_id.in_(item_ids))
        .order_by(ItemResponse.item_id, ItemResponse.position)
    )
    found: dict[int, list[Response]] = {one: [] for one in item_ids}
    for item_id, response in rows:
        found[item_id].append(response)
    return found


def _told(response: Response) -> dict[str, Any]:
    return {
        "id": response.public_id,
        "response_id": response.record_id,
        "text": response.text,
        "model": response.model,
        "settings": response.settings,
    }


def _judgement(row: Judgement, names: dict[int, str]) -> dict[str, Any]:
    same = ("id", "item_id", "verdict", "strength", "skip_reason", "comment", "visible_ms")
    same += ("guideline_version", "created_at")
    return {name: getattr(row, name) for name in same} | {
        "choice": None if row.choice is None else names[row.choice],
        "ratings": {names[int(one)]: rating for one, rating in row.ratings.items()},
        "ranking": [[names[one] for one in group] for group in row.ranking],
        "harmful": [names[one] for one in row.harmful],
    }
