"""From files to items: Comparison records, otherwise whatever the data layer reads as pairs."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, ValidationError

from alignloop.data.containers import BadRow, Row, Table, training_tables
from alignloop.data.containers.json_rows import line_rows
from alignloop.data.containers.limits import MAX_ROW_BYTES
from alignloop.data.files import PROVENANCE, explain, without_provenance
from alignloop.data.formats.columns import Columns
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.made import Labelled
from alignloop.data.formats.parts import digest_of
from alignloop.data.formats.reading import read_table, survey
from alignloop.data.formats.registry import formats_named
from alignloop.data.narrow import object_at
from alignloop.data.refusals import Refusal
from alignloop.data.unstorable import UNSTORABLE
from alignloop.records import Comparison, PreferencePair, Prompt, Record, Response

Why = Literal["random", "uncertain", "ensemble", "coverage", "gold", "repeat", "import"]
MOST_ANSWERS = 9
COMPARED = ("sft", "policy")  # the sides of a line of evaluate/answers.jsonl


class NewItem(Record):
    """A comparison to label, with its metadata; a line of an import file.

    `models` and `settings` are by response_id; `comparison.sampled_from` is the default model.
    `gold` is the right answer of a gold question: a response_id, "tie" or "both_bad". It checks
    annotators, or belongs to the entry test or the training (`gold_use`), where the right answer is
    told afterwards with the `explanation`.
    """

    comparison: Comparison
    models: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    why: Why = "import"
    why_detail: dict[str, Any] = Field(default_factory=dict)
    gold: str | None = None
    gold_use: Literal["check", "entry", "training"] = "check"
    explanation: str = ""


def items_of_file(source: str | Path, *, gold: bool = False) -> Iterator[NewItem | Refusal]:
    """The items in a file, folder or `hub:` id of any known format, with refused rows.

    With `gold` the chosen answer of a pair is the right one. Raises UserError if there is nothing
    at all.
    """
    for table in training_tables(source):
        yield from items_of_table(table, gold=gold)


def items_of_lines(
    lines: Callable[[], Iterable[tuple[int, str]]], name: str, *, gold: bool = False
) -> Iterator[NewItem | Refusal]:
    """The items in numbered lines of JSON; `name` appears in error messages.

    `lines` restarts at each call: a first pass determines the meaning of the columns.
    """
    table = Table(name=name, container="jsonl", rows=lambda: line_rows(lines()))
    yield from items_of_table(table, gold=gold)


def numbered_lines(stream: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1, as text; bytes that are not UTF-8 give an invalid line."""
    for number, line in enumerate(stream, 1):
        if len(line) > MAX_ROW_BYTES:
            yield number, "this line is too long"
        else:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8", "backslashreplace")


def items_of_table(table: Table, *, gold: bool = False) -> Iterator[NewItem | Refusal]:
    """The items of one table; consecutive rows of one kind are read together."""
    columns = survey(table)
    for kind, rows in groupby(table.rows(), key=_kind):
        if kind == "own":
            yield from (_own_item(table, row, gold) for row in rows if isinstance(row, Row))
        elif kind == "evaluated":
            yield from _evaluated_items(table, (row for row in rows if isinstance(row, Row)), gold)
        else:
            yield from _items_of_pairs(_part(table, rows), columns, gold=gold)


def _kind(row: Row | BadRow) -> Literal["own", "evaluated", "pairs"]:
    """A Comparison or NewItem of ours, a line of evaluate/answers.jsonl, or anything else."""
    if isinstance(row, BadRow):
        return "pairs"
    is_comparison = isinstance(row.value.get("prompt"), dict) and "responses" in row.value
    if isinstance(row.value.get("comparison"), dict) or is_comparison:
        return "own"
    sides = (row.value.get(who) for who in COMPARED)
    evaluated = all(isinstance(side, dict) and "response" in side for side in sides)
    return "evaluated" if evaluated and isinstance(row.value.get("prompt"), dict) else "pairs"


def _evaluated_items(table: Table, rows: Iterable[Row], gold: bool) -> Iterator[NewItem | Refusal]:
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
        item = _item_of_texts(prompt, list(sides), digest_of([prompt.prompt_id, *sorted(sides)]))
        models = {one.response_id: sides[one.text] for one in item.comparison.responses}
        yield _askable(table, row.line, item.model_copy(update={"models": models}), gold, row.value)


def _own_item(table: Table, row: Row, gold: bool) -> NewItem | Refusal:
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


def _texts_of(item: NewItem) -> Iterator[str]:
    """All texts of an item that go into a text column."""
    comparison, prompt = item.comparison, item.comparison.prompt
    yield from (comparison.comparison_id, comparison.sampled_from, *item.models.values())
    yield item.explanation
    yield from (prompt.prompt_id, prompt.category, prompt.language, prompt.source)
    yield from (message.content for message in prompt.messages)
    yield from _texts_within([*prompt.tools, *prompt.references, prompt.metadata])
    for response in comparison.responses:
        yield from (response.response_id, response.text)


def _texts_within(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts_within([*cast("dict[str, Any]", value).items()])
    elif isinstance(value, list | tuple):
        for one in cast("list[Any]", value):
            yield from _texts_within(one)


def item_problem(item: NewItem) -> str:
    """Why a comparison cannot be labelled; "" if it can."""
    responses = item.comparison.responses
    ids = {response.response_id for response in responses}
    texts = {response.text.strip() for response in responses}
    if len(responses) > MOST_ANSWERS:
        return f"there are more than {MOST_ANSWERS} responses"
    if len(ids) < len(responses):
        return "two responses have the same response_id"
    if len(texts) < len(responses):
        return "two responses have the same text"
    if not all(texts):
        return "a response is empty"
    if any(UNSTORABLE.search(text) for text in _texts_of(item)):
        return "a text contains NUL, or half a character (a lone surrogate)"
    if item.gold is not None and item.gold not in {*ids, "tie", "both_bad"}:
        return f"gold names no response: {item.gold[:40]!r}"
    return ""


def _part(table: Table, rows: Iterable[Row | BadRow]) -> Table:
    return Table(name=table.name, container=table.container, rows=lambda: iter(rows))


def _items_of_pairs(table: Table, columns: Columns, *, gold: bool) -> Iterator[NewItem | Refusal]:
    """Pairs become comparisons; consecutive ones of one comparison_id become one of K answers."""
    labelled: list[Labelled] = []
    waiting: list[PreferencePair] = []
    line = 1  # of the first waiting pair
    for found in read_table(table, formats_named(None, ["pairs", "labels"]), columns):
        if isinstance(found, Refusal):
            yield found
            continue
        labelled += [one for one in found.records if isinstance(one, Labelled)]
        for pair in (one for one in found.records if isinstance(one, PreferencePair)):
            if waiting and not _together(waiting[-1], pair):
                yield _askable(table, line, _item_of_pairs(waiting, gold=gold), gold)
                waiting = []
            line = line if waiting else found.line
            waiting.append(pair)
    if waiting:
        yield _askable(table, line, _item_of_pairs(waiting, gold=gold), gold)
    for pair in pairs_of_labels(labelled):
        yield _askable(table, 1, _item_of_pairs([pair], gold=gold), gold)


def _askable(
    table: Table, line: int, item: NewItem, gold: bool, row: object = ""
) -> NewItem | Refusal:
    """The item, or why it cannot be labelled; a gold question needs a right answer."""
    problem, fix = item_problem(item), "correct the row, or remove it"
    if not problem and gold and item.gold is None:
        problem = "a gold question needs a right answer, and this row has none"
        fix = "give pairs in which one answer is chosen, or import it without gold"
    if not problem:
        return item
    return Refusal(file=table.name, line=line, problem=problem, fix=fix, row=row)


def _together(one: PreferencePair, other: PreferencePair) -> bool:
    if not one.comparison_id or one.comparison_id != other.comparison_id:
        return False
    # Not the metadata, which may differ by judgement.
    key = "prompt_id", "messages"
    return all(getattr(one.prompt, name) == getattr(other.prompt, name) for name in key)


def _item_of_pairs(pairs: list[PreferencePair], *, gold: bool) -> NewItem:
    """One item with the distinct answers of some pairs, in a neutral order."""
    prompt = pairs[0].prompt
    texts = sorted({text for pair in pairs for text in (pair.chosen, pair.rejected)})
    key = pairs[0].comparison_id or digest_of([prompt.prompt_id, *texts])
    item = _item_of_texts(prompt, texts, key)
    ids = {response.text: response.response_id for response in item.comparison.responses}
    right = _gold_of(pairs, ids) if gold else None
    return item.model_copy(update={"gold": right, "why": "import" if right is None else "gold"})


def _item_of_texts(prompt: Prompt, texts: Iterable[str], key: str) -> NewItem:
    ids = {text: digest_of([prompt.prompt_id, text]) for text in texts}
    # ordered by hash: the stored order must not reveal the winner or the model
    by_hash = sorted(ids, key=lambda text: ids[text])
    responses = [Response(response_id=ids[text], text=text) for text in by_hash]
    made = Comparison(comparison_id=key, prompt=prompt, responses=tuple(responses))
    return NewItem(comparison=made)


def _gold_of(pairs: list[PreferencePair], ids: dict[str, str]) -> str | None:
    """The answer that beats others and is never beaten or equalled; "tie" if all are ties.

    None if annotators disagree or two answers share first place: no majority is invented.
    """
    ties = [pair for pair in pairs if pair.preference == 0.5]
    if len(ties) == len(pairs):
        return "tie"
    not_best = {pair.rejected for pair in pairs} | {pair.chosen for pair in ties}
    best = {pair.chosen for pair in pairs if pair.chosen not in not_best}
    return ids[best.pop()] if len(best) == 1 else None
