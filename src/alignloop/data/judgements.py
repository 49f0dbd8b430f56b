"""Exports of annotation tools as our own records: judgements and their comparisons."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alignloop.data.containers import training_tables
from alignloop.data.files import whole_file
from alignloop.data.formats.annotated import ANNOTATED, Annotated
from alignloop.data.formats.reading import read_table
from alignloop.data.formats.registry import formats_named
from alignloop.data.refusals import Refusal, RefusedRows
from alignloop.errors import UserError
from alignloop.records import Comparison, Judgement


def comparisons_file(out: Path) -> Path:
    """The file of the comparisons, next to the judgements: labels.comparisons.jsonl."""
    stem, dot, suffix = out.name.partition(".jsonl")
    return out.with_name(f"{stem}.comparisons{dot}{suffix}")


def write_judgements(
    source: str, out: Path, *, format: str | None, skip_refused: bool
) -> Counter[str]:
    """Write one judgement per annotator and comparison, and the comparisons; returns counts.

    If an annotator judged a comparison twice, the last judgement counts. Raises UserError for
    refused rows, unless they are skipped, and if there are no judgements.
    """
    comparisons: dict[str, Comparison] = {}
    latest: dict[tuple[str, str], Judgement] = {}
    counts: Counter[str] = Counter()
    with RefusedRows(source, skip=skip_refused, to=out.with_name("refused.jsonl")) as refused:
        for found in annotated_rows(source, format):
            if isinstance(found, Refusal):
                refused.add(found)
                counts["refused"] += 1
                continue
            comparisons.setdefault(found.comparison.comparison_id, found.comparison)
            for one in found.judgements():
                known = latest.get(key := (one.comparison_id, one.annotator_id))
                if known is None or known.created_at <= one.created_at:
                    latest[key] = one
        refused.settle(any_good=bool(comparisons))
    if not latest:
        raise UserError("there are no judgements in this source", where=source)
    with whole_file(comparisons_file(out)) as write:
        for comparison in comparisons.values():
            write(comparison.model_dump_json())
    with whole_file(out) as write:
        for judgement in latest.values():
            write(judgement.model_dump_json())
    judges = Counter(comparison_id for comparison_id, _ in latest)
    counts["comparisons"], counts["judgements"] = len(comparisons), len(latest)
    counts["annotators"] = len({annotator for _, annotator in latest})
    counts["judged by two or more"] = sum(count > 1 for count in judges.values())
    return counts


def annotated_rows(source: str, format: str | None = None) -> Iterator[Annotated | Refusal]:
    """The annotated rows, with the refused rows among them.

    Rows of a format without annotators are refused.
    """
    formats = formats_named(format, ["pairs"])
    for table in training_tables(source):
        name = Path(table.name).name.split(".")[0]
        for found in read_table(table, formats):
            if isinstance(found, Refusal):
                yield found
            elif found.format.name in ANNOTATED:
                yield ANNOTATED[found.format.name](found.row, name)
            else:
                yield Refusal(
                    file=table.name,
                    line=found.line,
                    problem=f"pairs ({found.format.name}) that do not say who judged what",
                    fix="give the export of an annotation tool, or write --to pairs",
                    row=found.row,
                )
