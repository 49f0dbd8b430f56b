"""Importing items in short transactions; each content once per project, so it is idempotent.

A chunk is filed as a whole or not at all, and everything that needs no database is done before its
transaction begins. An import that was killed is finished by running it again.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.data.refusals import Refusal
from alignloop.label.new_item import NewItem, ReadItem, item_problem
from alignloop.label.new_items import ItemFile
from alignloop.label.store.bulk import Value, among, insert_rows, new_ids
from alignloop.label.store.database import Database, lock_queue
from alignloop.label.store.presentation_order import keyed
from alignloop.label.store.refusals import Invalid
from alignloop.label.store.repeats import ITEM_COLUMNS, SHOWN_COLUMNS, Original, file_repeats
from alignloop.label.store.tables import Batch, ItemRow, Project, PromptRow, ResponseRow
from alignloop.records import Comparison, Message, Prompt

__all__ = ["ALL_ANNOTATORS", "Imported", "NewItem", "import_file", "import_items"]

ALL_ANNOTATORS = 10**9  # `wanted` of a gold question: every annotator gets it
CHUNK_SIZE = 1000  # items per transaction: a tenth of a second, so annotators hardly wait
MAX_ERRORS_SHOWN = 10  # refused rows reported with their lines

_PROMPT = ("id", "project_id", "prompt_key", "messages", "category", "language", "source", "more")
_RESPONSE = (
    *("id", "prompt_id", "public_id", "record_id", "text", "text_hash", "length", "model"),
    "settings",
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The result of an import. `refused` has the first ten messages, with lines.

    `duplicates` were in the project before, `elsewhere` of them in another batch. `judged` counts
    the items added from rows that say which answer is better: that verdict is not imported.
    """

    added: int
    duplicates: int
    num_refused: int = 0
    refused: list[str] = field(default_factory=list[str])
    elsewhere: int = 0
    judged: int = 0


class _Answer(NamedTuple):
    """One answer about to be inserted."""

    record_id: str
    text: str
    text_hash: str
    model: str
    settings: str  # JSON


class _Filed(NamedTuple):
    """An item about to be inserted, with what can be computed without the database."""

    read: ReadItem
    fingerprint: str
    turns: list[dict[str, Any]]
    answers: list[_Answer]

    @property
    def prompt_key(self) -> str:
        return self.read.item.comparison.prompt.prompt_id


def import_items(
    database: Database,
    project_id: int,
    batch_id: int,
    items: Iterable[NewItem | ReadItem | Refusal],
    *,
    on_progress: Callable[[int], object] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Imported:
    """Import items in short transactions, so annotators can keep working.

    Each content is added once per project. Refused are rows that cannot be read, and an id of a
    comparison, prompt or response that names two different ones. `on_progress` gets the number of
    rows so far. Once `is_cancelled` says so, the import ends between two transactions. Raises
    Invalid for a NewItem that cannot be labelled.
    """
    total, stream = _Counts(), iter(items)

    def read() -> tuple[list[_Filed], list[Refusal]]:
        rows = list(islice(stream, CHUNK_SIZE))
        filed = [_filed(row) for row in rows if not isinstance(row, Refusal)]
        return filed, [row for row in rows if isinstance(row, Refusal)]

    # the next chunk is read while the database works on this one
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read)
        while not is_cancelled() and any(found := coming.result()):
            filed, refused = found
            coming = reader.submit(read)
            # It waits for the disk only when the caller notes the import; a power cut before loses
            # whole chunks, which the same import adds again.
            with database.transaction(durably=False) as session:
                done = _file(session, project_id, batch_id, filed)
            total.refuse(refused)
            total.add(done, len(filed) + len(refused))
            on_progress(total.rows)
    return total.imported()


def import_file(
    database: Database, project_id: int, batch_id: int, source: str | Path, *, gold: bool = False
) -> Imported:
    """Import a file or folder of any known format, judged or not.

    With `gold` the chosen answer of each pair is the right one of a gold question. Raises like
    `import_items`, and UserError if the file cannot be read.
    """
    file = ItemFile(source, gold=gold)
    file.survey()
    return import_items(database, project_id, batch_id, file.items())


@dataclass
class _Done:
    """What became of one chunk."""

    new: list[_Filed] = field(default_factory=list[_Filed])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    elsewhere: int = 0


class _Counts:
    """The sums over all chunks."""

    def __init__(self) -> None:
        self.rows = self.added = self.judged = self.elsewhere = self.num_refused = 0
        self.messages: list[str] = []

    def refuse(self, refused: Sequence[Refusal]) -> None:
        self.num_refused += len(refused)
        room = MAX_ERRORS_SHOWN - len(self.messages)
        self.messages += [str(one.error()) for one in refused[:room]]

    def add(self, done: _Done, rows: int) -> None:
        self.refuse(done.refused)
        self.rows += rows
        self.added += len(done.new)
        self.elsewhere += done.elsewhere
        self.judged += sum(one.read.judged and one.read.item.gold is None for one in done.new)

    def imported(self) -> Imported:
        return Imported(
            added=self.added,
            duplicates=self.rows - self.added - self.num_refused,
            num_refused=self.num_refused,
            refused=self.messages,
            elsewhere=self.elsewhere,
            judged=self.judged,
        )


def _filed(row: NewItem | ReadItem) -> _Filed:
    if isinstance(row, NewItem):
        key = row.comparison.comparison_id
        if problem := item_problem(row):
            raise Invalid(problem, where=f"comparison {key}", fix="correct the comparison")
        row = ReadItem(row)
    new, comparison = row.item, row.item.comparison
    answers = [
        _Answer(
            one.response_id,
            one.text,
            _sha256(one.text),
            new.models.get(one.response_id, comparison.sampled_from),
            _as_json(new.settings.get(one.response_id)),
        )
        for one in comparison.responses
    ]
    return _Filed(
        row,
        _fingerprint(comparison),
        [_turn(message) for message in comparison.prompt.messages],
        answers,
    )


@dataclass
class _AnswerHere:
    """An answer that the project has, or gets under the id that `_insert` gives it."""

    text_hash: str
    id: int = 0
    new: _Answer | None = None


@dataclass
class _PromptHere:
    """A prompt that the project has or gets, with the answers to it."""

    turns: list[dict[str, Any]]
    id: int = 0
    new: Prompt | None = None
    answers: dict[str, _AnswerHere] = field(default_factory=dict[str, _AnswerHere])


def _turn(message: Message) -> dict[str, Any]:
    if message.extra is None and not (message.tool_call_id or message.name):
        return {"role": message.role, "content": message.content}
    return message.model_dump()


def _fingerprint(comparison: Comparison) -> str:
    """sha256 of the turns and the sorted answers as JSON, so that duplicates share it."""
    turns = ", ".join(
        f"[{encode_basestring(turn.role)}, {encode_basestring(turn.content)}]"
        for turn in comparison.prompt.messages
    )
    texts = sorted(response.text for response in comparison.responses)
    return _sha256(f"[[{turns}], [{', '.join(map(encode_basestring, texts))}]]")


def _as_json(value: dict[str, Any] | None) -> str:
    return json.dumps(value) if value else "{}"


_MORE = {"tools", "reference", "metadata"}  # of a prompt, in one column


def _more_of(prompt: Prompt) -> str:
    if not (prompt.tools or prompt.metadata or prompt.reference is not None):
        return "{}"
    return json.dumps(prompt.model_dump(mode="json", include=_MORE))


class _Known:
    """What the project holds of a chunk's content; `add` makes the chunk's new items known too."""

    def __init__(self, session: Session, project_id: int, filed: Sequence[_Filed]) -> None:
        mine = select(ItemRow.comparison_key, ItemRow.fingerprint, ItemRow.batch_id).where(
            ItemRow.project_id == project_id, ItemRow.repeat_of.is_(None)
        )
        prints = among(session, ItemRow.fingerprint, {one.fingerprint for one in filed})
        keys = {one.read.item.comparison.comparison_id for one in filed}
        named = mine.where(among(session, ItemRow.comparison_key, keys))
        self.batches = {row[1]: row[2] for row in session.execute(mine.where(prints))}
        self.named = {row[0]: row[1] for row in session.execute(named)}
        self.prompts = _known_prompts(session, project_id, {one.prompt_key for one in filed})

    def problem(self, one: _Filed) -> Refusal | None:
        """Why an item cannot be filed: an id that names something else."""
        key = one.read.item.comparison.comparison_id
        if self.named.get(key, one.fingerprint) != one.fingerprint:
            return _ambiguous(one, "comparison_id", key, "comparisons")
        prompt = self.prompts.get(one.prompt_key)
        if prompt is None:
            return None
        if prompt.turns != one.turns:
            return _ambiguous(one, "prompt_id", one.prompt_key, "prompts")
        for answer in one.answers:
            here = prompt.answers.get(answer.record_id)
            if here is not None and here.text_hash != answer.text_hash:
                return _ambiguous(one, "response_id", answer.record_id, "responses")
        return None

    def add(self, one: _Filed, batch_id: int) -> None:
        """Make a new item known."""
        comparison = one.read.item.comparison
        self.named[comparison.comparison_id] = one.fingerprint
        self.batches[one.fingerprint] = batch_id
        new = _PromptHere(one.turns, new=comparison.prompt)
        prompt = self.prompts.setdefault(one.prompt_key, new)
        for answer in one.answers:
            here = _AnswerHere(answer.text_hash, new=answer)
            prompt.answers.setdefault(answer.record_id, here)


def _known_prompts(session: Session, project_id: int, keys: set[str]) -> dict[str, _PromptHere]:
    mine = select(PromptRow.prompt_key, PromptRow.id, PromptRow.messages).where(
        PromptRow.project_id == project_id, among(session, PromptRow.prompt_key, keys)
    )
    found = {row[0]: _PromptHere(row[2], row[1]) for row in session.execute(mine)}
    by_id = {prompt.id: prompt for prompt in found.values()}
    if by_id:
        answers = select(
            ResponseRow.prompt_id, ResponseRow.record_id, ResponseRow.text_hash, ResponseRow.id
        ).where(among(session, ResponseRow.prompt_id, by_id))
        for row in session.execute(answers):
            by_id[row[0]].answers[row[1]] = _AnswerHere(row[2], row[3])
    return found


def _file(session: Session, project_id: int, batch_id: int, filed: Sequence[_Filed]) -> _Done:
    """Insert the new ones of some items."""
    # so that two imports of the same file cannot both find an item missing
    lock_queue(session, project_id)
    known, done = _Known(session, project_id, filed), _Done()
    for one in filed:
        if (refusal := known.problem(one)) is not None:
            done.refused.append(refusal)
        elif (batch := known.batches.get(one.fingerprint)) is not None:
            done.elsewhere += batch != batch_id
        else:
            known.add(one, batch_id)
            done.new.append(one)
    if done.new:
        project, batch = session.get_one(Project, project_id), session.get_one(Batch, batch_id)
        _insert_prompts(session, project_id, list(known.prompts.values()))
        originals = _insert_items(session, project, batch, done.new, known)
        batch.num_items += len(done.new) + file_repeats(session, project, batch, originals)
    return done


def _insert_prompts(session: Session, project_id: int, prompts: Sequence[_PromptHere]) -> None:
    """Insert what is new of prompts and answers; each gets its id."""
    new = [(prompt, prompt.new) for prompt in prompts if prompt.new is not None]
    rows: list[tuple[Value, ...]] = []
    for id, (here, prompt) in zip(new_ids(session, "prompt", len(new)), new, strict=True):
        here.id = id
        about = prompt.category, prompt.language, prompt.source
        turns = json.dumps(here.turns)
        rows.append((id, project_id, prompt.prompt_id, turns, *about, _more_of(prompt)))
    insert_rows(session, "prompt", _PROMPT, rows)
    found = [(prompt.id, here) for prompt in prompts for here in prompt.answers.values()]
    answers = [(prompt_id, here, here.new) for prompt_id, here in found if here.new is not None]
    rows = []
    ids = new_ids(session, "response", len(answers))
    for id, (prompt_id, here, answer) in zip(ids, answers, strict=True):
        here.id = id
        # random, because a record id may name the model
        public_id, about = secrets.token_urlsafe(12), (answer.model, answer.settings)
        texts = answer.record_id, answer.text, answer.text_hash, len(answer.text)
        rows.append((id, prompt_id, public_id, *texts, *about))
    insert_rows(session, "response", _RESPONSE, rows)


def _insert_items(
    session: Session, project: Project, batch: Batch, new: Sequence[_Filed], known: _Known
) -> list[Original]:
    """Insert the items; returns those that may be repeated, which are all but gold."""
    rows: list[tuple[Value, ...]] = []
    shown: list[tuple[Value, ...]] = []
    originals: list[Original] = []
    for id, one in zip(new_ids(session, "item", len(new)), new, strict=True):
        item, prompt = one.read.item, known.prompts[one.prompt_key]
        gold, answers = item.gold, [prompt.answers[answer.record_id].id for answer in one.answers]
        # pseudo-random, so gold questions are mixed in and the file's order reveals nothing
        position = keyed(project.secret, f"position/{batch.id}/{one.fingerprint}")
        ranked = project.kind == "ranking" or len(answers) > 2
        original = Original(
            id=id,
            prompt_id=prompt.id,
            comparison_key=item.comparison.comparison_id,
            fingerprint=one.fingerprint,
            kind="ranking" if ranked else "comparison",
            wanted=batch.overlap if gold is None else ALL_ANNOTATORS,
            position=position,
            answers=tuple(answers),
        )
        verdict = gold if gold in (None, "tie", "both_bad") else "choice"
        choice = prompt.answers[gold].id if gold is not None and verdict == "choice" else None
        why = item.why if gold is None else "gold", _as_json(item.why_detail)
        rows.append(original.row(project.id, batch.id, *why, verdict, choice, None))
        shown += original.shown()
        originals += [original] if gold is None else []
    insert_rows(session, "item", ITEM_COLUMNS, rows)
    insert_rows(session, "item_response", SHOWN_COLUMNS, shown)
    return originals


def _ambiguous(one: _Filed, key: str, value: str, things: str) -> Refusal:
    comparison = one.read.item.comparison
    return Refusal(
        file=one.read.file or f"comparison {comparison.comparison_id}",
        line=one.read.line,
        problem=f'{key} "{value[:80]}" names two different {things}',
        fix="give each its own id",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
