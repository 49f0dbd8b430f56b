"""`alignloop data convert`: from any format to our records or TRL's columns."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args

from alignloop.data.exclusion import NEAR_DUPLICATE, HeldOut
from alignloop.data.files import whole_file
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.made import AboutPrompt, Labelled, Made, prompt_of
from alignloop.data.formats.reading import stream, stream_prompts
from alignloop.data.judgements import comparisons_file, write_judgements
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.data.splits import SplitByPrompt
from alignloop.data.trl import trl_note, trl_rows
from alignloop.errors import UserError
from alignloop.records import Prompt, Record

To = Literal["pairs", "demonstrations", "prompts", "judgements", "trl"]
TARGETS: tuple[To, ...] = get_args(To)
Found = Made | Refusal
REPEATED = "repeated prompts left out"


def convert(
    source: str,
    out: Path,
    to: To,
    *,
    format: str | None = None,
    skip_refused: bool = False,
    exclude: Sequence[str] = (),
    near_duplicate: float = NEAR_DUPLICATE,
    shares: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Counter[str]:
    """Stream `source` as JSONL to `out` (gzipped if it ends in .gz); returns counts.

    Refused rows stop the conversion, and nothing is written; with `skip_refused` they go to
    refused.jsonl next to `out`. Held-out prompts in the files `exclude` are left out. With `shares`
    each split goes to its own file, `out` with the split's name before its suffix. An existing file
    is replaced only with `overwrite`, and never if it is part of the source.
    """
    places = [_named(out, name) for name in shares or {"": 1.0}]
    places += [comparisons_file(out)] if to == "judgements" else []
    _check_out(source, places, overwrite)
    if to == "judgements":
        _check_whole(exclude, shares)
        return write_judgements(source, out, format=format, skip_refused=skip_refused)
    counts: Counter[str] = Counter()
    records = _records(source, to, format, counts)
    if exclude:
        records = HeldOut.of(exclude, near_duplicate).without(records, counts)
    splits = SplitByPrompt(shares or {"": 1.0})
    beside = out.with_name("refused.jsonl")
    with ExitStack() as stack:
        refused = stack.enter_context(RefusedRows(source, skip=skip_refused, to=beside))
        targets = {
            name: stack.enter_context(whole_file(_named(out, name))) for name in splits.names
        }
        for record in _counted(records, refused, counts):
            name = splits.of(prompt_of(record))
            for line in _lines(record, to, counts):
                targets[name](line)
                counts[f"written {name}".strip()] += 1
        refused.settle(any_good=counts.total() > counts["refused"])
        if not any(name.startswith("written") for name in counts):
            found = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise UserError(f"nothing left to write ({found or 'no records'})", where=source)
    return counts


def _check_out(source: str, places: Sequence[Path], overwrite: bool) -> None:
    """Check, before anything is read, that nothing would be destroyed."""
    for place in places:
        if not place.name.endswith((".jsonl", ".jsonl.gz")):
            fix = "give a name that ends in .jsonl or .jsonl.gz"
            raise UserError("output is JSONL", where=str(place), fix=fix)
        if _is_read(source, place):
            problem, fix = "this is the source, which would be lost", "give OUT another name"
            raise UserError(problem, where=str(place), fix=fix)
        if place.exists() and not overwrite:
            raise UserError(
                "something exists here already, and nothing is overwritten",
                where=str(place),
                fix="use another name, remove this file, or add --overwrite",
            )


def _is_read(source: str, place: Path) -> bool:
    """Whether a file is the source, under any name, or lies in its folder."""
    read = Path(source)
    if read.is_dir():
        return read.resolve() in place.resolve().parents
    return read.exists() and place.exists() and read.samefile(place)


def _check_whole(exclude: Sequence[str], shares: Mapping[str, float] | None) -> None:
    if exclude or shares:
        raise UserError(
            "judgements cannot be split or filtered: they are written with their comparisons",
            where="--exclude" if exclude else "--split",
            fix="remove this option, or use --to pairs",
        )


def _named(out: Path, split: str) -> Path:
    stem, dot, suffix = out.name.partition(".jsonl")
    return out.with_name(f"{stem}.{split}{dot}{suffix}" if split else out.name)


def _counted(
    records: Iterator[Found], refused: RefusedRows, counts: Counter[str]
) -> Iterator[AboutPrompt]:
    for record in records:
        if isinstance(record, Refusal):
            refused.add(record)
            counts["refused"] += 1
        else:
            assert not isinstance(record, str), "no target reads texts without a prompt"
            yield record


def _records(source: str, to: To, format: str | None, counts: Counter[str]) -> Iterator[Found]:
    if to == "prompts":
        return _distinct(stream_prompts(source, format), counts)
    if to == "demonstrations":
        return stream(source, ["demonstrations"], format)
    if to == "pairs":
        return _with_pairs_of_labels(stream(source, ["pairs", "labels"], format))
    return stream(source, ["pairs", "labels", "demonstrations", "prompts"], format)


def _distinct(
    prompts: Iterator[Prompt | Refusal], counts: Counter[str]
) -> Iterator[Prompt | Refusal]:
    seen: set[str] = set()
    for prompt in prompts:
        if isinstance(prompt, Prompt):
            # metadata differs between rows of the same prompt
            whole = prompt.model_dump_json(exclude={"metadata"})
            if whole in seen:
                counts[REPEATED] += 1
                continue
            seen.add(whole)
        yield prompt


def _with_pairs_of_labels(records: Iterator[Found]) -> Iterator[Found]:
    # labels must be collected first: a pair joins two rows
    labelled: list[Labelled] = []
    for record in records:
        if isinstance(record, Labelled):
            labelled.append(record)
        else:
            yield record
    yield from pairs_of_labels(labelled)


def _lines(record: AboutPrompt, to: To, counts: Counter[str]) -> list[str]:
    if to != "trl":
        assert isinstance(record, Record), "labels have become pairs by now"
        return [record.model_dump_json()]
    if note := trl_note(record):
        counts[note] += 1
    return [json.dumps(row, ensure_ascii=False) for row in trl_rows(record)]
