"""Repeats: a share of a batch's items, asked again of the same person later in the batch."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.label.store.bulk import Value, insert_rows, new_ids
from alignloop.label.store.presentation_order import KEYED_BELOW, keyed
from alignloop.label.store.tables import Batch, ItemResponse, ItemRow, Project

ITEM_COLUMNS = (
    *("id", "project_id", "batch_id", "prompt_id", "comparison_key", "fingerprint"),
    *("kind", "why", "why_detail", "gold_verdict", "gold_choice", "repeat_of"),
    *("wanted", "taken", "position"),
)
SHOWN_COLUMNS = ("item_id", "response_id", "position")


@dataclass(frozen=True, kw_only=True)
class Original:
    """An item's row, with the ids of its answers in stored order."""

    id: int
    prompt_id: int
    comparison_key: str
    fingerprint: str
    kind: str
    wanted: int
    position: int
    answers: tuple[int, ...]

    def row(
        self,
        project_id: int,
        batch_id: int,
        why: str,
        why_detail: str,
        gold_verdict: str | None,
        gold_choice: int | None,
        repeat_of: int | None,
    ) -> tuple[Value, ...]:
        """The item in the order of ITEM_COLUMNS; `why_detail` is JSON."""
        named = self.prompt_id, self.comparison_key, self.fingerprint, self.kind
        about = why, why_detail, gold_verdict, gold_choice, repeat_of
        return self.id, project_id, batch_id, *named, *about, self.wanted, 0, self.position

    def shown(self) -> list[tuple[Value, ...]]:
        """Its answers in the order of SHOWN_COLUMNS."""
        return [(self.id, answer, place) for place, answer in enumerate(self.answers)]


def file_repeats(
    session: Session, project: Project, batch: Batch, originals: Iterable[Original]
) -> int:
    """Insert the batch's share of repeats of some items that have none yet; returns their number.

    Which ones is drawn by a keyed hash, so a higher share only adds to a lower one.
    """
    share = int(batch.repeats * KEYED_BELOW)
    chosen = [
        one
        for one in originals
        if share and keyed(project.secret, f"repeat/{one.fingerprint}") < share
    ]
    rows: list[tuple[Value, ...]] = []
    shown: list[tuple[Value, ...]] = []
    for id, one in zip(new_ids(session, "item", len(chosen)), chosen, strict=True):
        # drawn from the positions after the original: a repeat never comes first
        later = keyed(project.secret, f"later/{one.fingerprint}") % (KEYED_BELOW - one.position)
        print_ = hashlib.sha256(f"repeat of {one.fingerprint}".encode()).hexdigest()
        again = Original(
            id=id,
            prompt_id=one.prompt_id,
            comparison_key=one.comparison_key,
            fingerprint=print_,
            kind=one.kind,
            wanted=one.wanted,
            position=one.position + 1 + later,
            answers=one.answers,
        )
        rows.append(again.row(project.id, batch.id, "repeat", "{}", None, None, one.id))
        shown += again.shown()
    insert_rows(session, "item", ITEM_COLUMNS, rows)
    insert_rows(session, "item_response", SHOWN_COLUMNS, shown)
    return len(chosen)


def unrepeated(session: Session, batch_id: int) -> list[Original]:
    """The items of a batch without a repeat, gold questions and repeats left out."""
    repeated = select(ItemRow.repeat_of).where(
        ItemRow.batch_id == batch_id, ItemRow.repeat_of.is_not(None)
    )
    mine = select(ItemRow).where(
        ItemRow.batch_id == batch_id,
        ItemRow.repeat_of.is_(None),
        ItemRow.gold_verdict.is_(None),
        ItemRow.id.not_in(repeated),
    )
    answers = _answers_of(session, batch_id)
    return [
        Original(
            id=item.id,
            prompt_id=item.prompt_id,
            comparison_key=item.comparison_key,
            fingerprint=item.fingerprint,
            kind=item.kind,
            wanted=item.wanted,
            position=item.position,
            answers=tuple(answers[item.id]),
        )
        for item in session.scalars(mine)
    ]


def _answers_of(session: Session, batch_id: int) -> dict[int, Sequence[int]]:
    rows = session.execute(
        select(ItemResponse.item_id, ItemResponse.response_id)
        .join(ItemRow, ItemRow.id == ItemResponse.item_id)
        .where(ItemRow.batch_id == batch_id)
        .order_by(ItemResponse.item_id, ItemResponse.position)
    )
    found: dict[int, list[int]] = {}
    for item_id, response_id in rows:
        found.setdefault(item_id, []).append(response_id)
    return dict(found)
