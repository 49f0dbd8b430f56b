"""What `alignloop data convert` does: any format in, our records or TRL's columns out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from alignloop.data.exclusion import NEAR_DUPLICATE, HeldOut
from alignloop.data.files import whole_file
from alignloop.data.formats.labels import pairs_of_labels
from alignloop.data.formats.parts import Labelled
from alignloop.data.formats.reading import stream, stream_prompts
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.data.splits import SplitByPrompt
from alignloop.errors import UserError
from alignloop.records import Demonstration, Message, PreferencePair, Prompt, Record, answer_of

To = Literal["pairs", "demonstrations", "prompts", "trl"]
TARGETS: tuple[To, ...] = ("pairs", "demonstrations", "prompts", "trl")


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
) -> Counter[str]:
    """Read `source` as a stream and write JSONL to `out` (gzipped if it ends in .gz); counts.

    Refused rows stop the conversion, and nothing is written; with `skip_refused` they go to
    refused.jsonl beside `out`. Held-out prompts of the files `exclude` are left out. With `shares`
    each split goes to a file of its own, `out` with the split's name before its suffix.
    """
    _check_out(out)
    counts: Counter[str] = Counter()
    records = _records(source, to, format)
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
            name = splits.of(record if isinstance(record, Prompt) else record.prompt)
            targets[name](_line(record, to))
            counts[f"written {name}".strip()] += 1
        refused.settle(any_good=counts.total() > counts["refused"])
        if not any(name.startswith("written") for name in counts):
            raise UserError("there is nothing left to write", where=source)
    return counts


def _check_out(out: Path) -> None:
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        fix = "give a name that ends in .jsonl or .jsonl.gz"
        raise UserError("the result is JSONL", where=str(out), fix=fix)


def _named(out: Path, split: str) -> Path:
    stem, dot, suffix = out.name.partition(".jsonl")
    return out.with_name(f"{stem}.{split}{dot}{suffix}" if split else out.name)


def _counted(records: Iterator[Any], refused: RefusedRows, counts: Counter[str]) -> Iterator[Any]:
    for record in records:
        if isinstance(record, Refusal):
            refused.add(record)
            counts["refused"] += 1
        else:
            yield record


def _records(source: str, to: To, format: str | None) -> Iterator[Any]:
    if to == "prompts":
        return _distinct(stream_prompts(source, format))
    if to == "demonstrations":
        return stream(source, ["demonstrations"], format)
    if to == "pairs":
        return _with_pairs_of_labels(stream(source, ["pairs", "labels"], format))
    return stream(source, ["pairs", "labels", "demonstrations", "prompts"], format)


def _distinct(prompts: Iterator[Any]) -> Iterator[Any]:
    seen: set[str] = set()
    for prompt in prompts:
        if isinstance(prompt, Refusal) or prompt.model_dump_json() not in seen:
            yield prompt
        if isinstance(prompt, Prompt):
            seen.add(prompt.model_dump_json())


def _with_pairs_of_labels(records: Iterator[Any]) -> Iterator[Any]:
    labelled: list[Labelled] = []
    for record in records:
        if isinstance(record, Labelled):
            labelled.append(record)
        else:
            yield record
    yield from pairs_of_labels(labelled)


def _line(record: Any, to: To) -> str:
    if to != "trl":
        assert isinstance(record, Record), "labels are pairs by now"
        return record.model_dump_json()
    return json.dumps(as_trl(record), ensure_ascii=False)


def as_trl(record: Prompt | Demonstration | PreferencePair | Labelled) -> dict[str, Any]:
    """A row of TRL's conversational types; what TRL does not know stands in further columns."""
    if isinstance(record, Prompt):
        return {"prompt": _turns(record.messages), **_prompt_columns(record)}
    columns = _prompt_columns(record.prompt)
    asked = _turns(record.prompt.messages)
    if isinstance(record, Labelled):
        return {
            "prompt": asked,
            "completion": _turns([answer_of(record.response)]),
            "label": record.good,
            **columns,
        }
    if record.source != record.prompt.source:
        columns["record_source"] = record.source
    if isinstance(record, Demonstration):
        answer = _turns([record.answer])
        if record.every_turn:
            return {"messages": [*asked, *answer], **columns}
        return {"prompt": asked, "completion": answer, **columns}
    numbers = record.model_dump(include={"preference", "margin", "weight", "comparison_id"})
    given = {"preference": 1.0, "margin": 0.0, "weight": 1.0, "comparison_id": ""}
    columns |= {key: value for key, value in numbers.items() if value != given[key]}
    chosen, rejected = record.answers
    both = {"chosen": _turns([chosen]), "rejected": _turns([rejected])}
    return {"prompt": asked, **both, **columns}


def _prompt_columns(prompt: Prompt) -> dict[str, Any]:
    """The source always, since a reader gives one to rows that have none; others where they are."""
    columns = {"prompt_id": prompt.prompt_id, "source": prompt.source}
    more = {"category": prompt.category, "language": prompt.language, "tools": list(prompt.tools)}
    return columns | {key: value for key, value in more.items() if value}


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """As OpenAI writes them, calls within "function"; what a turn has not got is left out."""
    made = [message.model_dump() for message in messages]
    for turn in made:
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [
                {"type": "function", "function": {k: v for k, v in call.items() if k != "id"}}
                | ({"id": call["id"]} if "id" in call else {})
                for call in calls
            ]
    return made
