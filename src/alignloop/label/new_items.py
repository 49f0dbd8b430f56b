"""From files to items: questions with answers, judged or not, in any format of the data layer."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from alignloop.data.containers import BadRow, Row, Table, training_tables
from alignloop.data.containers.json_rows import line_rows
from alignloop.data.files import PROVENANCE, explain, without_provenance
from alignloop.data.formats.annotated import ANNOTATED
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.kept import says_verdict
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.made import Labelled, Unjudged
from alignloop.data.formats.parts import digest_of
from alignloop.data.formats.reading import Recognised, RowReader, survey
from alignloop.data.formats.registry import formats_named
from alignloop.data.narrow import object_at
from alignloop.data.refusals import Refusal
from alignloop.errors import UserError
from alignloop.label.new_item import (
    NewItem,
    ReadItem,
    are_together,
    item_of_comparison,
    item_of_pairs,
    item_of_texts,
    item_problem,
)
from alignloop.records import Comparison, PreferencePair, Prompt

__all__ = ["ItemFile", "NewItem", "ReadItem", "items_of_file", "items_of_lines"]

COMPARED = ("sft", "policy")  # the sides of a line of evaluate/answers.jsonl
Found = Iterator[ReadItem | Refusal]


class ItemFile:
    """A file, folder or `hub:` id of any known format, read twice: `survey`, then `items`.

    The first pass determines what the columns mean and counts the rows (`num_rows`). With `gold`
    the chosen answer of a pair is the right one. `name` stands for the path in messages.
    """

    def __init__(self, source: str | Path, *, gold: bool = False, name: str = "") -> None:
        self._source, self._gold, self._name = source, gold, name
        self._surveyed: list[tuple[Table, Columns]] = []
        self.num_rows = 0

    def survey(self, on_row: Callable[[int], object] = lambda _: None) -> None:
        """The first pass; `on_row` gets the number of rows so far.

        Raises UserError if there is nothing at all, and what `on_row` raises.
        """
        with self._in_its_name():
            for table in training_tables(self._source):
                counted = replace(table, rows=partial(self._counted, table, on_row))
                named = replace(table, name=self._name or table.name)
                self._surveyed.append((named, survey(counted)))

    def items(self) -> Found:
        """The items, with their files and lines, and the refused rows among them.

        Raises UserError if the file breaks off, or if the meaning of a column is unclear.
        """
        with self._in_its_name():
            for table, columns in self._surveyed:
                yield from items_of_table(table, columns, gold=self._gold)

    def _counted(self, table: Table, on_row: Callable[[int], object]) -> Iterator[Row | BadRow]:
        for row in table.rows():
            self.num_rows += 1
            on_row(self.num_rows)
            yield row

    @contextmanager
    def _in_its_name(self) -> Generator[None]:
        """An upload lies in a temporary file, which says nothing to anybody."""
        try:
            yield
        except UserError as error:
            if not self._name or not error.where:
                raise
            where = error.where.replace(str(self._source), self._name)
            raise UserError(error.problem, where=where, fix=error.fix) from error


def items_of_file(source: str | Path, *, gold: bool = False) -> Iterator[NewItem | Refusal]:
    """The items in a file, folder or `hub:` id of any known format, with refused rows.

    With `gold` the chosen answer of a pair is the right one. Raises UserError if there is nothing
    at all.
    """
    file = ItemFile(source, gold=gold)
    file.survey()
    yield from _alone(file.items())


def items_of_lines(
    lines: Callable[[], Iterable[tuple[int, str]]], name: str, *, gold: bool = False
) -> Iterator[NewItem | Refusal]:
    """The items in numbered lines of JSON; `name` appears in error messages.

    `lines` restarts at each call: a first pass determines the meaning of the columns.
    """
    table = Table(name=name, container="jsonl", rows=lambda: line_rows(lines()))
    yield from _alone(items_of_table(table, survey(table), gold=gold))


def _alone(found: Found) -> Iterator[NewItem | Refusal]:
    return (one if isinstance(one, Refusal) else one.item for one in found)


def items_of_table(table: Table, columns: Columns, *, gold: bool = False) -> Found:
    """The items of one table, whose columns have been surveyed.

    Consecutive pairs of one comparison become one item; labels of single answers come last.
    """
    reader = RowReader(table, formats_named(None, ["pairs", "labels", "questions"]), columns)
    unjudged = RowReader(table, formats_named(None, ["questions"]), columns)
    pairs, labelled = _Pairs(table, gold), list[Labelled]()
    for row in table.rows():
        kind = _kind(row)
        found = reader.read(row) if kind == "other" or isinstance(row, BadRow) else None
        if isinstance(found, Refusal) and isinstance(row, Row) and not says_verdict(row.value):
            # in a file of judged rows one without a verdict is no pair, but still a question
            asked = unjudged.read(row)
            found = asked if isinstance(asked, Recognised) else replace(found, fix=_WANTED)
        if isinstance(found, Recognised) and _is_of_pairs(found):
            labelled += [one for one in found.records if isinstance(one, Labelled)]
            some = [one for one in found.records if isinstance(one, PreferencePair)]
            yield from pairs.add(row.line, some)
            continue
        yield from pairs.flush()
        if isinstance(found, Refusal):
            yield found
        elif isinstance(found, Recognised):
            yield _asked_item(table, found, reader.source, gold)
        elif isinstance(row, Row):
            yield from _items_of_ours(table, row, kind, gold)
    yield from pairs.flush()
    for pair in pairs_of_labels(labelled):
        yield _askable(table, 1, item_of_pairs([pair], gold=gold), gold, judged=True)


_WANTED = 'give "prompt", "answer1" and "answer2", or any format that `alignloop data check` knows'


def _is_of_pairs(found: Recognised) -> bool:
    """Pairs or labels, which may need the next row; other rows are a question on their own."""
    return found.format.kind in ("pairs", "labels") and found.format.name not in ANNOTATED


class _Pairs:
    """Consecutive pairs of one comparison, until one of another comes."""

    def __init__(self, table: Table, gold: bool) -> None:
        self._table, self._gold = table, gold
        self._waiting: list[PreferencePair] = []
        self._line = 0  # of the first waiting pair

    def add(self, line: int, pairs: Iterable[PreferencePair]) -> Found:
        """The items that end with this row."""
        for pair in pairs:
            if self._waiting and not are_together(self._waiting[-1], pair):
                yield from self.flush()
            self._line = self._line if self._waiting else line
            self._waiting.append(pair)

    def flush(self) -> Found:
        """The item of the waiting pairs."""
        if self._waiting:
            item = item_of_pairs(self._waiting, gold=self._gold)
            self._waiting = []
            yield _askable(self._table, self._line, item, self._gold, judged=True)


Ours = Literal["own", "evaluated", "other"]


def _kind(row: Row | BadRow) -> Ours:
    """A Comparison or NewItem of ours, a line of evaluate/answers.jsonl, or anything else."""
    value: dict[str, Any] = {} if isinstance(row, BadRow) else row.value
    if isinstance(value.get("comparison"), dict):
        return "own"
    if not isinstance(value.get("prompt"), dict):
        return "other"
    # `responses` alone is a usual name for answers in anybody's file
    if "comparison_id" in value and "responses" in value:
        return "own"
    sides = (value.get(who) for who in COMPARED)
    return (
        "evaluated"
        if all(isinstance(side, dict) and "response" in side for side in sides)
        else "other"
    )


def _asked_item(table: Table, found: Recognised, source: str, gold: bool) -> ReadItem | Refusal:
    """The question of an annotation tool's row, judged or not, or of one that nobody judged."""
    if found.format.kind == "questions":
        (one,) = cast("list[Unjudged]", found.records)
        item = item_of_comparison(one.comparison, one.models)
        return _askable(table, found.line, item, gold, found.row)
    told = ANNOTATED[found.format.name](found.row, source)
    pairs = [one for one in found.records if isinstance(one, PreferencePair)]
    item = item_of_comparison(told.comparison, {})
    if gold and pairs:
        item = item_of_pairs(pairs, gold=True)
    return _askable(table, found.line, item, gold, found.row, judged=bool(told.votes))


def _items_of_ours(table: Table, row: Row, kind: Ours, gold: bool) -> Found:
    if kind == "own":
        yield _own_item(table, row, gold)
    else:
        yield from _evaluated_items(table, [row], gold)


def _evaluated_items(table: Table, rows: Iterable[Row], gold: bool) -> Found:
    """The answers of `alignloop evaluate`, to be judged blindly by people.

    Equal and empty answers are skipped: there is nothing to compare.
    """
    for row in rows:
        try:
            prompt = Prompt.model_validate(row.value["prompt"])
        except ValidationError as error:
            fix = "give evaluate/answers.jsonl unchanged"
            yield Refusal(
                file=table.name, line=row.line, problem=explain(error), fix=fix, row=row.value
            )
            continue
        sides = {str(object_at(row.value, who)["response"]).strip(): who for who in COMPARED}
        if len(sides) < len(COMPARED) or "" in sides:
            continue
        key = digest_of([prompt.prompt_id, *sorted(sides)])
        item = item_of_texts(prompt, list(sides), key, models=sides)
        yield _askable(table, row.line, item, gold, row.value)


def _own_item(table: Table, row: Row, gold: bool) -> ReadItem | Refusal:
    try:
        if "comparison" in row.value:
            item = NewItem.model_validate(row.value)
        else:
            comparison = Comparison.model_validate(without_provenance(row.value))
            known = {"models": _models_in(row.value.get(PROVENANCE))}
            item = NewItem.model_validate({"comparison": comparison, **known})
    except ValidationError as error:
        problem, fix = explain(error), f"write the keys of Comparison: {_KEYS}"
        return Refusal(file=table.name, line=row.line, problem=problem, fix=fix, row=row.value)
    return _askable(table, row.line, item, gold, row.value)


_KEYS = ", ".join(Comparison.model_fields)


def _models_in(provenance: Any) -> Any:
    """The models in the provenance of our own exports; elsewhere provenance may be anything."""
    known = cast("dict[str, Any]", provenance) if isinstance(provenance, dict) else {}
    return known.get("models") or {}


def _askable(
    table: Table, line: int, item: NewItem, gold: bool, row: object = "", *, judged: bool = False
) -> ReadItem | Refusal:
    """The item, or why it cannot be labelled; a gold question needs a right answer."""
    problem, fix = item_problem(item), "correct the row, or remove it"
    if not problem and gold and item.gold is None:
        problem = "a gold question needs a right answer, and this row has none"
        fix = "give pairs in which one answer is chosen, or import it without gold"
    if not problem:
        return ReadItem(item, table.name, line, judged)
    return Refusal(file=table.name, line=line, problem=problem, fix=fix, row=row)
