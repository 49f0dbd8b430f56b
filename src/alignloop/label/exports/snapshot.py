"""From a project to a folder of files, with a manifest and a row in the database."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignloop.data.files import whole_file
from alignloop.data.splits import SplitByPrompt
from alignloop.errors import UserError
from alignloop.label.exports.export_rows import ExportRow, Kind, export_rows
from alignloop.label.exports.selection import Selection, as_query, select
from alignloop.label.exports.shapes import Format, check_format, left_out, lines_of, suffix
from alignloop.label.exports.tallies import Weights
from alignloop.label.labels.pairs import content_hash
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.quality.reliability import Method, reliabilities
from alignloop.label.store.database import Database
from alignloop.label.store.projects import get_project
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.snapshots import add_snapshot
from alignloop.label.store.tables import now
from alignloop.run import atomic_folder, atomic_write

MANIFEST = "manifest.json"
WEIGHTED: tuple[Kind, ...] = ("soft", "margins")


@dataclass(frozen=True, kw_only=True)
class Query(Selection):
    """What to export of which judgements: `shares` of splits by prompt, `weights` of votes."""

    kind: Kind = "pairs"
    format: Format = "jsonl"
    shares: Mapping[str, float] | None = None
    weights: Method = "none"

    def plain(self) -> dict[str, Any]:
        """As JSON: what is asked for, without the filters that select everything."""
        asked = {name: getattr(self, name) for name in ("kind", "format", "shares", "weights")}
        return asked | {**as_query(self)}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result: folder, content hash, counts, and why each annotator left out was left out."""

    path: Path
    hash: str
    counts: dict[str, int]
    snapshot_id: int
    left_out: dict[str, str]


def export_project(
    database: Database, slug: str, out: Path, query: Query, *, user_id: int | None = None
) -> Exported:
    """Write the labels of a project (""=the only one) to `out`, and record the snapshot.

    Files: KIND.jsonl, or one per split; judgements come with their comparisons; and manifest.json.
    The folder appears complete or not at all. Raises UserError if `out` holds something else, if
    there is nothing to export, if a filter names what there is not, or if the format cannot express
    it.
    """
    check_format(query.kind, query.format)
    _check_weights(query)
    _check_out(out)
    with database.reading() as session:
        project = get_project(session, slug)
        everything = load_labels(session, project.id)
    labels, without = select(everything, query)
    weights = _weights(everything, query.weights)
    files = _files(labels, query, weights)
    rows = [row for name in files for row in files[name]]
    if not rows:
        problem = "there are no labels for this export yet"
        fix = "label some items, or choose another kind or other filters"
        raise UserError(problem, where=project.slug, fix=fix)
    digest = content_hash(query.kind, (row.content for row in rows))
    counts = _counts(files, labels) | left_out(rows, query.format)
    stated = {"left_out": without}
    if weights is not None:
        stated["weights"] = weights.stated([name for name in weights.people if name not in without])
    with atomic_folder(out) as folder:
        for name, part in files.items():
            _write(folder / name, part, query.format)
        manifest = _manifest(folder, project.slug, query, digest, counts) | stated
        atomic_write(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    with database.transaction() as session:
        row = add_snapshot(
            session,
            project.id,
            kind=query.kind,
            query=manifest["query"],
            hash=digest,
            counts=dict(counts),
            path=str(out.resolve()),  # absolute: the server may run in another directory
            user_id=user_id,
        )
        return Exported(path=out, hash=digest, counts=counts, snapshot_id=row.id, left_out=without)


def _check_weights(query: Query) -> None:
    """Raise UserError if votes are not counted together in this kind of export."""
    if query.weights != "none" and query.kind not in WEIGHTED:
        raise UserError(
            f"{query.kind} have a row for each judgement, so votes are not weighted against others",
            where="--weights",
            fix=f"export --kind {' or '.join(WEIGHTED)}",
        )


def _weights(labels: ProjectLabels, method: Method) -> Weights | None:
    """From all judgements, whatever the filters: the gold questions may be in another batch."""
    if method == "none":
        return None
    return Weights(method=method, people=reliabilities(labels, method))


def _files(
    labels: ProjectLabels, query: Query, weights: Weights | None
) -> dict[str, list[ExportRow]]:
    """The rows of each file; judgements come with their comparisons, to be readable."""
    kinds: list[Kind] = [query.kind]
    if query.kind == "judgements":
        kinds.append("comparisons")
    end = suffix(query.format)
    files: dict[str, list[ExportRow]] = {}
    for kind in kinds:
        rows = export_rows(labels, kind, weights)
        if kind != query.kind:
            rows = [row for row in rows if is_judged(row)]
        if query.shares is None:
            files[f"{kind}{end}"] = rows
            continue
        rule = SplitByPrompt(query.shares)
        for name in rule.names:
            file = f"{name}{end}" if kind == query.kind else f"{name}.{kind}{end}"
            files[file] = [row for row in rows if rule.of(row.prompt) == name]
    return files


def is_judged(row: ExportRow) -> bool:
    """Whether a judgement or a decision is behind a row."""
    return bool(row.provenance["judgements"]) or "decision" in row.provenance


def _write(path: Path, rows: Sequence[ExportRow], format: Format) -> None:
    with whole_file(path) as write:
        for line in lines_of(rows, format):
            write(line)


def _counts(files: Mapping[str, Sequence[ExportRow]], labels: ProjectLabels) -> dict[str, int]:
    rows = [row for part in files.values() for row in part]
    used = {number for row in rows for number in row.provenance["judgements"]}
    people = {one.annotator for one in labels.judgements if one.judgement_id in used}
    return {
        **{f"rows of {name}": len(part) for name, part in files.items()},
        "items": len({row.provenance["item"] for row in rows}),
        "prompts": len({row.prompt.prompt_id for row in rows}),
        "judgements": len(used),
        "annotators": len(people),
        "decided": len({row.provenance["item"] for row in rows if "decision" in row.provenance}),
    }


def _manifest(
    folder: Path, slug: str, query: Query, digest: str, counts: Mapping[str, int]
) -> dict[str, Any]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "project": slug,
        "query": query.plain(),
        "content_hash": digest,
        "counts": counts,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "exported_at": now().isoformat(timespec="seconds"),
    }


def _check_out(out: Path) -> None:
    """An earlier export may be replaced, but nothing else."""
    taken = out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_export(out))
    if taken:
        raise UserError(
            "this folder holds something else; an export needs its own folder",
            where=str(out),
            fix="name a new folder",
        )


def _is_export(out: Path) -> bool:
    try:
        return "content_hash" in json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
