"""The shapes of files: our records, CSV for spreadsheets, TRL's columns, hh-rlhf's transcripts."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from alignloop.data.files import PROVENANCE
from alignloop.data.trl import TIES, as_trl, trl_note, trl_rows
from alignloop.errors import UserError
from alignloop.label.exports.export_rows import ExportRow
from alignloop.records import Message, PreferencePair

Format = Literal["jsonl", "csv", "trl", "hh"]
FORMATS: tuple[Format, ...] = get_args(Format)

# What a spreadsheet takes for a formula; in East Asia the wide forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_HH_MARKER = re.compile(r"\n\n(Human|Assistant):")


def suffix(format: Format) -> str:
    """How the names of such files end."""
    return ".csv" if format == "csv" else ".jsonl"


def check_format(kind: str, format: Format) -> None:
    """Raise UserError where rows of this kind hold no pairs for TRL or hh-rlhf."""
    if format in ("trl", "hh") and kind in ("judgements", "comparisons"):
        raise UserError(
            f"{kind} are no pairs, and {format} knows nothing else",
            where="--format",
            fix="leave --format out, or export --kind pairs",
        )


def lines_of(rows: Sequence[ExportRow], format: Format) -> Iterator[str]:
    """The lines of a file, without their ends; a CSV cell may hold some of its own."""
    if format == "csv":
        yield from _csv_lines(rows)
        return
    shape: dict[str, Callable[[ExportRow], Iterable[Mapping[str, Any]]]] = {
        "jsonl": lambda row: [row.content],
        "trl": lambda row: [one for pair in row.pairs for one in trl_rows(pair)],
        "hh": lambda row: [as_hh(pair) for pair in row.pairs if trl_note(pair) != TIES],
    }
    for row in rows:
        for content in shape[format](row):
            whole = {**content, "provenance": row.provenance}
            yield json.dumps(whole, ensure_ascii=False)


def left_out(rows: Iterable[ExportRow], format: Format) -> Counter[str]:
    """What TRL and hh-rlhf cannot say of these rows: ties, for which they have no place."""
    if format not in ("trl", "hh"):
        return Counter()
    return Counter(note for row in rows for pair in row.pairs if (note := trl_note(pair)))


# --- hh-rlhf -----------------------------------------------------------------------------------


def as_hh(pair: PreferencePair) -> dict[str, Any]:
    """Two transcripts that part at the last answer; further columns as TRL's rows have them.

    Raises UserError for what a transcript cannot say: a system message, two turns of one speaker
    in a row, a text that holds the mark of a turn.
    """
    turns = [*pair.prompt.messages]
    _check_transcript(pair, turns)
    columns = {key: value for key, value in as_trl(pair).items() if key != "prompt"}
    asked = "".join(f"\n\n{_SPEAKERS[turn.role]}: {turn.content}" for turn in turns)
    return columns | {
        "chosen": f"{asked}\n\nAssistant: {pair.chosen}",
        "rejected": f"{asked}\n\nAssistant: {pair.rejected}",
    }


_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


def _check_transcript(pair: PreferencePair, turns: Sequence[Message]) -> None:
    roles = [turn.role for turn in turns]
    expected = ["user" if place % 2 == 0 else "assistant" for place in range(len(turns))]
    problem = ""
    if roles != expected or roles[-1:] != ["user"]:
        problem = (
            f"the turns of this prompt are {', '.join(roles)}, not user and assistant by turns"
        )
    elif any(_HH_MARKER.search(text) for text in (*_contents(turns), pair.chosen, pair.rejected)):
        problem = 'a text holds "\\n\\nHuman:" or "\\n\\nAssistant:", the mark of a turn'
    if problem:
        raise UserError(
            f"{problem}, and a transcript of hh-rlhf cannot say that",
            where=f'prompt_id "{pair.prompt.prompt_id}"',
            fix="use --format trl",
        )


def _contents(turns: Iterable[Message]) -> list[str]:
    return [turn.content for turn in turns]


# --- CSV ---------------------------------------------------------------------------------------


def guarded(cell: str) -> str:
    """A cell that no spreadsheet runs: one that begins like a formula gets an apostrophe."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _csv_lines(rows: Sequence[ExportRow]) -> Iterator[str]:
    flat = [_flat(row) for row in rows]
    header = list(dict.fromkeys(key for row in flat for key in row))
    if header:
        # the mark tells a spreadsheet that this is UTF-8; without it Chinese is garbage there
        yield "\ufeff" + _csv_line(header)
    for row in flat:
        yield _csv_line([_cell(row.get(key, "")) for key in header])


def _csv_line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # which are quoted within a cell
    return buffer.getvalue().removesuffix("\r\n")


def _cell(value: object) -> str:
    if isinstance(value, str):
        return guarded(value)
    return json.dumps(value, ensure_ascii=False)


def _flat(row: ExportRow) -> dict[str, Any]:
    """One level of columns: the question as text where it is one turn, lists as JSON."""
    content = dict(row.content)
    asked = row.prompt.messages
    if len(asked) == 1 and "prompt" in content:
        content["prompt"] = asked[0].content
    elif "prompt" in content:
        content["prompt"] = [message.model_dump() for message in asked]
    if "chosen" in content:  # a pair: its source may differ from that of the prompt
        content["record_source"] = content.pop("source")
    named = {"prompt_id", "category", "language", "source", "reference", "metadata"}
    about = row.prompt.model_dump(mode="json", include=named)
    if isinstance(asked_for := about.get("reference"), str) and asked_for.startswith(
        (*_FORMULA, "[")
    ):
        about["reference"] = [asked_for]  # which says the same, and needs no apostrophe
    return {**content, **about, **{f"{PROVENANCE}_{key}": v for key, v in row.provenance.items()}}
