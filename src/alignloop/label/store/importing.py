"""Importing items in short transactions; each content once per project, so it is idempotent."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from alignloop.data.refusals import Refusal
from alignloop.label.new_items import NewItem, item_problem, items_of_file
from alignloop.label.store.database import Database, lock_queue
from alignloop.label.store.presentation_order import KEYED_BELOW, keyed
from alignloop.label.store.refusals import Conflict, Invalid
from alignloop.label.store.tables import (
    Batch,
    ItemResponse,
    ItemRow,
    Project,
    PromptRow,
    ResponseRow,
)

__all__ = ["ALL_ANNOTATORS", "Imported", "NewItem", "import_file", "import_items"]

ALL_ANNOTATORS = 10**9  # `wanted` of a gold question: every annotator gets it
CHUNK_SIZE = 200  # items per transaction: a tenth of a second, so annotators hardly wait
MAX_ERRORS_SHOWN = 10  # refused rows reported with their lines


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The result of an import. `refused` has the first ten messages, with lines."""

    added: int
    duplicates: int
    num_refused: int = 0
    refused: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class _Filed:
    """An item about to be inserted."""

    new: NewItem
    fingerprint: str

    @property
    def key(self) -> str:
        return self.new.comparison.comparison_id

    @property
    def prompt_key(self) -> str:
        return self.new.comparison.prompt.prompt_id


def import_items(
    database: Database,
    project_id: int,
    batch_id: int,
    items: Iterable[NewItem | Refusal],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Import items in short transactions, so annotators can keep working.

    Each content is added once per project. `on_progress` gets the number of items read so far.
    Raises Invalid for an item that cannot be labelled, and Conflict if one id of a comparison,
    prompt or response names two different ones; earlier chunks stay.
    """
    added = read = 0
    refused: list[Refusal] = []
    num_refused = 0
    stream = iter(items)
    while rows := list(islice(stream, CHUNK_SIZE)):
        bad = [row for row in rows if isinstance(row, Refusal)]
        num_refused += len(bad)
        refused += bad[: MAX_ERRORS_SHOWN - len(refused)]
        filed = [_filed(row) for row in rows if isinstance(row, NewItem)]
        with database.transaction() as session:
            added += _file(session, project_id, batch_id, filed)
        read += len(rows)
        on_progress(read)
    messages = [str(refusal.error()) for refusal in refused]
    duplicates = read - num_refused - added
    return Imported(added=added, duplicates=duplicates, num_refused=num_refused, refused=messages)


def import_file(
    database: Database,
    project_id: int,
    batch_id: int,
    source: str | Path,
    *,
    gold: bool = False,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Import a file or folder of any known format: Comparison or NewItem records, or pairs.

    With `gold` the chosen answer of each pair is the right one of a gold question. Raises like
    `import_items`, and UserError if the file cannot be read.
    """
    items = items_of_file(source, gold=gold)
    return import_items(database, project_id, batch_id, items, on_progress=on_progress)


def _filed(new: NewItem) -> _Filed:
    key = new.comparison.comparison_id
    if problem := item_problem(new):
        raise Invalid(problem, where=f"comparison {key}", fix="correct the comparison")
    turns = [[message.role, message.content] for message in new.comparison.prompt.messages]
    texts = sorted(response.text for response in new.comparison.responses)
    return _Filed(new=new, fingerprint=_sha256(json.dumps([turns, texts], ensure_ascii=False)))


def _file(session: Session, project_id: int, batch_id: int, filed: Sequence[_Filed]) -> int:
    """Insert the new ones of some items; returns their number."""
    # so that two imports of the same file cannot both find an item missing
    lock_queue(session, project_id)
    project, batch = session.get_one(Project, project_id), session.get_one(Batch, batch_id)
    new = _without_known(session, project_id, filed)
    if not new:
        return 0
    prompts = _file_prompts(session, project_id, new)
    responses = _file_responses(session, new, prompts)
    rows = [_item_row(project, batch, one, prompts, responses) for one in new]
    made = insert(ItemRow).returning(ItemRow.id, ItemRow.fingerprint)
    ids = {row.fingerprint: row.id for row in session.execute(made, rows)}
    shown = [
        {"item_id": item_id, "response_id": responses[prompts[one.prompt_key], r.response_id]}
        | {"position": position}
        for one in new
        for item_id in [ids[one.fingerprint]]
        for position, r in enumerate(one.new.comparison.responses)
    ]
    session.execute(insert(ItemResponse), shown)
    batch.num_items += len(rows) + _file_repeats(session, project, batch, new, ids)
    return len(new)


def _without_known(session: Session, project_id: int, filed: Sequence[_Filed]) -> list[_Filed]:
    """The items whose content is new to the project. Raises Conflict for an id used twice."""
    keys, prints = [one.key for one in filed], [one.fingerprint for one in filed]
    mine = select(ItemRow.comparison_key, ItemRow.fingerprint).where(
        ItemRow.project_id == project_id
    )
    existing = mine.where(ItemRow.repeat_of.is_(None))
    known = set(
        session.scalars(
            existing.with_only_columns(ItemRow.fingerprint).where(ItemRow.fingerprint.in_(prints))
        )
    )
    named = {
        row[0]: row[1] for row in session.execute(existing.where(ItemRow.comparison_key.in_(keys)))
    }
    new: list[_Filed] = []
    for one in filed:
        if named.setdefault(one.key, one.fingerprint) != one.fingerprint:
            raise _ambiguous("comparison_id", one.key, "comparisons")
        if one.fingerprint not in known:
            known.add(one.fingerprint)
            new.append(one)
    return new


def _file_prompts(session: Session, project_id: int, new: Sequence[_Filed]) -> dict[str, int]:
    """The id of every prompt by its key; inserts new ones."""
    wanted = {one.prompt_key: one.new.comparison.prompt for one in new}
    existing = select(PromptRow).where(
        PromptRow.project_id == project_id, PromptRow.prompt_key.in_(wanted)
    )
    known = {row.prompt_key: row for row in session.scalars(existing)}
    for one in new:
        prompt = one.new.comparison.prompt
        turns = [message.model_dump() for message in prompt.messages]
        row = known.get(prompt.prompt_id)
        other = row is not None and row.messages != turns
        if other or wanted[prompt.prompt_id].messages != prompt.messages:
            raise _ambiguous("prompt_id", prompt.prompt_id, "prompts")
    rows = [
        {
            "project_id": project_id,
            "prompt_key": key,
            "messages": [message.model_dump() for message in prompt.messages],
            "category": prompt.category,
            "language": prompt.language,
            "source": prompt.source,
            "more": prompt.model_dump(mode="json", include={"tools", "reference", "metadata"}),
        }
        for key, prompt in wanted.items()
        if key not in known
    ]
    made = insert(PromptRow).returning(PromptRow.prompt_key, PromptRow.id)
    ids = {key: row.id for key, row in known.items()}
    if rows:
        ids |= {row[0]: row[1] for row in session.execute(made, rows)}
    return ids


def _file_responses(
    session: Session, new: Sequence[_Filed], prompts: dict[str, int]
) -> dict[tuple[int, str], int]:
    """The id of every response by (prompt id, record_id); inserts new ones."""
    wanted: dict[tuple[int, str], dict[str, Any]] = {}
    for one in new:
        for row in _response_rows(one, prompts[one.prompt_key]):
            key = row["prompt_id"], row["record_id"]
            if wanted.setdefault(key, row)["text_hash"] != row["text_hash"]:
                raise _ambiguous("response_id", key[1], "responses")
    columns = ResponseRow.prompt_id, ResponseRow.record_id, ResponseRow.id, ResponseRow.text_hash
    existing = select(*columns).where(ResponseRow.prompt_id.in_({prompt for prompt, _ in wanted}))
    known: dict[tuple[int, str], int] = {}
    for prompt_id, record_id, response_id, text_hash in session.execute(existing):
        row = wanted.get((prompt_id, record_id))
        if row is not None and row["text_hash"] != text_hash:
            raise _ambiguous("response_id", record_id, "responses")
        known[prompt_id, record_id] = response_id
    rows = [row for key, row in wanted.items() if key not in known]
    made = insert(ResponseRow).returning(*columns[:3])
    if rows:
        known |= {(row[0], row[1]): row[2] for row in session.execute(made, rows)}
    return known


def _response_rows(one: _Filed, prompt_id: int) -> Iterator[dict[str, Any]]:
    for response in one.new.comparison.responses:
        yield {
            "prompt_id": prompt_id,
            # random, because a record id may name the model
            "public_id": secrets.token_urlsafe(12),
            "record_id": response.response_id,
            "text": response.text,
            "text_hash": _sha256(response.text),
            "length": len(response.text),
            "model": one.new.models.get(response.response_id, one.new.comparison.sampled_from),
            "settings": one.new.settings.get(response.response_id, {}),
        }


def _item_row(
    project: Project,
    batch: Batch,
    one: _Filed,
    prompts: dict[str, int],
    responses: dict[tuple[int, str], int],
) -> dict[str, Any]:
    gold, prompt_id = one.new.gold, prompts[one.prompt_key]
    ranked = project.kind == "ranking" or len(one.new.comparison.responses) > 2
    return {
        "project_id": project.id,
        "batch_id": batch.id,
        "prompt_id": prompt_id,
        "comparison_key": one.key,
        "fingerprint": one.fingerprint,
        "kind": "ranking" if ranked else "comparison",
        "why": one.new.why if gold is None else "gold",
        "why_detail": one.new.why_detail,
        "gold_verdict": gold if gold in (None, "tie", "both_bad") else "choice",
        "gold_choice": responses.get((prompt_id, gold)) if gold is not None else None,
        "gold_use": one.new.gold_use,
        "explanation": one.new.explanation,
        "wanted": batch.overlap if gold is None else ALL_ANNOTATORS,
        "taken": 0,
        # pseudo-random, so gold questions are mixed in and the file's order reveals nothing
        "position": keyed(project.secret, f"position/{batch.id}/{one.fingerprint}"),
    }


def _file_repeats(
    session: Session, project: Project, batch: Batch, new: Sequence[_Filed], ids: dict[str, int]
) -> int:
    """Repeat a share of the items later in the batch, except gold; returns their number."""
    share = int(batch.repeats * KEYED_BELOW)
    chosen = [
        ids[one.fingerprint]
        for one in new
        if one.new.gold is None and keyed(project.secret, f"repeat/{one.fingerprint}") < share
    ]
    for item in session.scalars(select(ItemRow).where(ItemRow.id.in_(chosen))).all():
        # drawn from the positions after the original: a repeat never comes first
        later = keyed(project.secret, f"later/{item.fingerprint}") % (KEYED_BELOW - item.position)
        fields = {
            name: getattr(item, name)
            for name in ("project_id", "batch_id", "prompt_id", "comparison_key", "kind", "wanted")
        }
        again = ItemRow(**fields, repeat_of=item.id, why="repeat", why_detail={}, taken=0)
        again.fingerprint = _sha256(f"repeat of {item.fingerprint}")
        again.position = item.position + 1 + later
        session.add(again)
        session.flush()
        shows = select(ItemResponse).where(ItemResponse.item_id == item.id)
        for shown in session.scalars(shows).all():
            same = {"response_id": shown.response_id, "position": shown.position}
            session.add(ItemResponse(item_id=again.id, **same))
    return len(chosen)


def _ambiguous(key: str, value: str, things: str) -> Conflict:
    problem = f'{key} "{value[:80]}" names two different {things}'
    return Conflict(problem, fix="give each its own id")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
