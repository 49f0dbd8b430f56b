"""Scores from outside: the open items come in their order, with a random share as control."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from alignloop.label.store import events
from alignloop.label.store.database import Database, lock_queue
from alignloop.label.store.presentation_order import KEYED_BELOW, keyed
from alignloop.label.store.refusals import Invalid
from alignloop.label.store.rules import rules_of
from alignloop.label.store.tables import (
    Batch,
    ItemResponse,
    ItemRow,
    Project,
    PromptRow,
    ResponseRow,
    judgements,
)
from alignloop.records import Message, Prompt

CHUNK_SIZE = 500  # items in one transaction, so that annotators hardly wait
CONTROL = "random"  # why a control item was sampled

_item = ItemRow.__table__.c
_PLACE = (
    update(ItemRow.__table__)
    .where(_item.id == bindparam("item"))
    .values(position=bindparam("place"), priority=bindparam("score"))
)
# Why an item was sampled is settled once somebody has it.
_REASON = (
    update(ItemRow.__table__)
    .where(_item.id == bindparam("item"), _item.taken == 0)
    .values(why=bindparam("reason"), why_detail=bindparam("detail"))
)


def set_scores(
    database: Database,
    project_id: int,
    scores: Mapping[int, float],
    *,
    why: str,
    control: float | None = None,
    seed: int = 0,
    details: Mapping[int, Mapping[str, Any]] | None = None,
) -> tuple[int, int]:
    """Order the open items by `scores` (item id to number), highest first.

    Returns how many were ranked, and how many of them are control.

    A share of all items, `control` (None: the project's rule), is a random sample of them, drawn by
    HMAC(seed, item) so that it stays the same when items are ranked again. It is mixed in evenly:
    of the first n items about that share are control, in random order. Why an item was sampled
    and `details` are stored with it until somebody gets it. Items without a score keep their
    places among the others. Raises Invalid if nothing can be ranked.
    """
    with database.reading() as session:
        project = session.get_one(Project, project_id)
        share = rules_of(project).control_share if control is None else control
        open_items = [row for row in _open_items(session, project_id) if row.id in scores]
        secret = project.secret
    if not open_items:
        raise Invalid("no open item of this project has a score", fix="give ids of open items")
    drawn = {row.id: keyed(secret, f"control/{seed}/{row.fingerprint}") for row in open_items}
    is_control = {one: number < share * KEYED_BELOW for one, number in drawn.items()}
    order = _merged(
        sorted(
            (row for row in open_items if not is_control[row.id]),
            key=lambda row: (-scores[row.id], drawn[row.id]),
        ),
        sorted((row for row in open_items if is_control[row.id]), key=lambda row: drawn[row.id]),
    )
    told = {"seed": seed, "control_share": share}
    rows = [
        _row(known, place, len(order), scores[known.id], CONTROL if is_control[known.id] else why)
        | {
            "detail": {
                **told,
                "control": is_control[known.id],
                "place": place + 1,
                **(details or {}).get(known.id, {}),
            }
        }
        for place, known in enumerate(order)
    ]
    for start in range(0, len(rows), CHUNK_SIZE):
        with database.transaction() as session:
            lock_queue(session, project_id)
            _store(session, rows[start : start + CHUNK_SIZE])
    _begin_anew(database, project_id, {row.batch_id for row in open_items}, len(order), why)
    return len(order), sum(is_control.values())


@dataclass(frozen=True, kw_only=True)
class OpenItem:
    """An item that may still be given out; `answers` are (response_id, text) in stored order."""

    item_id: int
    comparison_id: str
    prompt: Prompt
    answers: tuple[tuple[str, str], ...]


def open_items(session: Session, project_id: int) -> list[OpenItem]:
    """The items of open batches that want more judgements, without gold questions and repeats."""
    wanted = {row.id for row in _open_items(session, project_id)}
    rows = session.execute(
        select(
            ItemRow.id, ItemRow.comparison_key, PromptRow, ResponseRow.record_id, ResponseRow.text
        )
        .join(PromptRow, PromptRow.id == ItemRow.prompt_id)
        .join(ItemResponse, ItemResponse.item_id == ItemRow.id)
        .join(ResponseRow, ResponseRow.id == ItemResponse.response_id)
        .where(ItemRow.project_id == project_id)
        .order_by(ItemRow.id, ItemResponse.position)
    )
    answers: dict[int, list[tuple[str, str]]] = {}
    about: dict[int, tuple[str, PromptRow]] = {}
    for item_id, key, prompt, name, text in rows:
        if item_id in wanted:
            about[item_id] = key, prompt
            answers.setdefault(item_id, []).append((name, text))
    return [
        OpenItem(
            item_id=item_id,
            comparison_id=key,
            prompt=Prompt(
                prompt_id=prompt.prompt_key,
                messages=tuple(Message.model_validate(turn) for turn in prompt.messages),
            ),
            answers=tuple(answers[item_id]),
        )
        for item_id, (key, prompt) in about.items()
    ]


def count_labels(session: Session, project_id: int) -> int:
    """How many judgements a project has ever got: grows by one with each."""
    mine = select(func.count(judgements.c.id)).join(ItemRow, ItemRow.id == judgements.c.item_id)
    return session.scalar(mine.where(ItemRow.project_id == project_id)) or 0


def _open_items(session: Session, project_id: int) -> list[Any]:
    rows = session.execute(
        select(ItemRow.id, ItemRow.batch_id, ItemRow.fingerprint)
        .join(Batch, Batch.id == ItemRow.batch_id)
        .where(ItemRow.project_id == project_id, Batch.closed_at.is_(None))
        .where(ItemRow.taken < ItemRow.wanted)
        .where(ItemRow.gold_verdict.is_(None), ItemRow.repeat_of.is_(None))
        .order_by(ItemRow.id)
    )
    return list(rows)


def _row(known: Any, place: int, total: int, score: float, reason: str) -> dict[str, Any]:
    """The new place of an item in the range of all positions."""
    position = (2 * place + 1) * KEYED_BELOW // (2 * total)
    return {"item": known.id, "place": position, "score": score, "reason": reason}


def _store(session: Session, rows: list[dict[str, Any]]) -> None:
    connection = session.connection()
    connection.execute(_PLACE, [{k: row[k] for k in ("item", "place", "score")} for row in rows])
    connection.execute(_REASON, [{k: row[k] for k in ("item", "reason", "detail")} for row in rows])


def _merged(ranked: list[Any], control: list[Any]) -> list[Any]:
    """Both lists in their orders, the shorter one spread evenly."""
    places = [((n + 0.5) / len(ranked), row.id, row) for n, row in enumerate(ranked)]
    places += [((n + 0.5) / len(control), row.id, row) for n, row in enumerate(control)]
    return [row for _, _, row in sorted(places)]


def _begin_anew(
    database: Database, project_id: int, batch_ids: set[int], ranked: int, why: str
) -> None:
    """Everybody starts from the top of the batches whose order has changed."""
    with database.transaction() as session:
        lock_queue(session, project_id)
        for batch in session.scalars(select(Batch).where(Batch.id.in_(batch_ids))):
            batch.ranking += 1
        events.record(session, "items ranked", project_id, {"ranked": ranked, "why": why})
