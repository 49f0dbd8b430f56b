"""File formats: our records, CSV for spreadsheets, TRL's columns, hh-rlhf's transcripts."""

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

# Prefixes that spreadsheets take for a formula; in East Asia also the full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_HH_MARKER = re.compile(r"\n\n(Human|Assistant):")


def suffix(format: Format) -> str:
    """The file suffix of a format."""
    return ".csv" if format == "csv" else ".jsonl"


def check_format(kind: str, format: Format) -> None:
    """Raise UserError if rows of this kind have no pairs for TRL or hh-rlhf."""
    if format in ("trl", "hh") and kind in ("judgements", "comparisons"):
        raise UserError(
            f"{kind} are not pairs, and {format} supports nothing else",
            where="--format",
            fix="omit --format, or export --kind pairs",
        )


def lines_of(rows: Sequence[ExportRow], format: Format) -> Iterator[str]:
    """The lines of a file, without line ends; a CSV cell may contain line breaks."""
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
    """What TRL and hh-rlhf cannot express of these rows: ties."""
    if format not in ("trl", "hh"):
        return Counter()
    return Counter(note for row in rows for pair in row.pairs if (note := trl_note(pair)))


# --- hh-rlhf -----------------------------------------------------------------------------------


def as_hh(pair: PreferencePair) -> dict[str, Any]:
    """Two transcripts that differ in the last answer, with the further columns of TRL's rows.

    Raises UserError for what a transcript cannot express: a system message, two consecutive turns
    of one speaker, a text that contains the mark of a turn.
    """
    turns = [*pair.prompt.messages]
    _check_transcript(pair, turns)
    columns = {key: value for key, value in as_trl(pair).items() if key != "prompt"}
    prefix = "".join(f"\n\n{_SPEAKERS[turn.role]}: {turn.content}" for turn in turns)
    return columns | {
        "chosen": f"{prefix}\n\nAssistant: {pair.chosen}",
        "rejected": f"{prefix}\n\nAssistant: {pair.rejected}",
    }


_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}


def _check_transcript(pair: PreferencePair, turns: Sequence[Message]) -> None:
    roles = [turn.role for turn in turns]
    expected = ["user" if index % 2 == 0 else "assistant" for index in range(len(turns))]
    problem = ""
    if roles != expected or roles[-1:] != ["user"]:
        problem = f"the turns of this prompt are {', '.join(roles)}, not user and assistant in turn"
    elif any(_HH_MARKER.search(text) for text in (*_contents(turns), pair.chosen, pair.rejected)):
        problem = 'a text contains "\\n\\nHuman:" or "\\n\\nAssistant:", the mark of a turn'
    if problem:
        raise UserError(
            f"{problem}, which a transcript of hh-rlhf cannot express",
            where=f'prompt_id "{pair.prompt.prompt_id}"',
            fix="use --format trl",
        )


def _contents(turns: Iterable[Message]) -> list[str]:
    return [turn.content for turn in turns]


# --- CSV ---------------------------------------------------------------------------------------


def guarded(cell: str) -> str:
    """A cell that no spreadsheet executes: a formula's prefix gets an apostrophe."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _csv_lines(rows: Sequence[ExportRow]) -> Iterator[str]:
    flat = [_flat(row) for row in rows]
    header = list(dict.fromkeys(key for row in flat for key in row))
    if header:
        # the byte order mark tells spreadsheets that this is UTF-8; without it Chinese is garbled
        yield "\ufeff" + _csv_line(header)
    for row in flat:
        yield _csv_line([_cell(row.get(key, "")) for key in header])


def _csv_line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # quotes line breaks in cells
    return buffer.getvalue().removesuffix("\r\n")


def _cell(value: object) -> str:
    if isinstance(value, str):
        return guarded(value)
    return json.dumps(value, ensure_ascii=False)


def _flat(row: ExportRow) -> dict[str, Any]:
    """One level of columns: a single-turn question as text, lists as JSON."""
    content = dict(row.content)
    messages = row.prompt.messages
    if len(messages) == 1 and "prompt" in content:
        content["prompt"] = messages[0].content
    elif "prompt" in content:
        content["prompt"] = [message.model_dump() for message in messages]
    if "chosen" in content:  # a pair's source may differ from its prompt's
        content["record_source"] = content.pop("source")
    named = {"prompt_id", "category", "language", "source", "reference", "metadata"}
    about = row.prompt.model_dump(mode="json", include=named)
    if isinstance(reference := about.get("reference"), str) and reference.startswith(
        (*_FORMULA, "[")
    ):
        about["reference"] = [reference]  # equivalent, and needs no apostrophe
    return {**content, **about, **{f"{PROVENANCE}_{key}": v for key, v in row.provenance.items()}}
