"""From a project to a folder of files, with a manifest and a row in the database."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignloop.data.files import whole_file
from alignloop.data.splits import SplitByPrompt
from alignloop.errors import UserError
from alignloop.label.exports.export_rows import ExportRow, Kind, export_rows
from alignloop.label.exports.shapes import Format, check_format, left_out, lines_of, suffix
from alignloop.label.labels.pairs import content_hash
from alignloop.label.labels.project_labels import ProjectLabels
from alignloop.label.store.database import Database
from alignloop.label.store.projects import get_project
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.snapshots import add_snapshot
from alignloop.label.store.tables import now
from alignloop.run import atomic_folder, atomic_write

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to export: `shares` of splits by prompt; `batch` restricts it to one batch."""

    kind: Kind = "pairs"
    format: Format = "jsonl"
    shares: Mapping[str, float] | None = None
    batch: str = ""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result: the folder, its content hash, and counts."""

    path: Path
    hash: str
    counts: dict[str, int]
    snapshot_id: int


def export_project(
    database: Database, slug: str, out: Path, query: Query, *, user_id: int | None = None
) -> Exported:
    """Write the labels of a project (""=the only one) to `out`, and record the snapshot.

    Files: KIND.jsonl, or one per split; judgements come with their comparisons; and manifest.json.
    The folder appears complete or not at all. Raises UserError if `out` holds something else, if
    there is nothing to export, or if the format cannot express it.
    """
    check_format(query.kind, query.format)
    _check_out(out)
    with database.reading() as session:
        project = get_project(session, slug)
        labels = _of_batch(load_labels(session, project.id), query.batch)
    files = _files(labels, query)
    rows = [row for name in files for row in files[name]]
    if not rows:
        problem = "there are no labels for this export yet"
        raise UserError(problem, where=project.slug, fix="label some items, or choose another kind")
    digest = content_hash(query.kind, (row.content for row in rows))
    counts = _counts(files, labels) | left_out(rows, query.format)
    with atomic_folder(out) as folder:
        for name, part in files.items():
            _write(folder / name, part, query.format)
        manifest = _manifest(folder, project.slug, query, digest, counts)
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
        return Exported(path=out, hash=digest, counts=counts, snapshot_id=row.id)


def _of_batch(labels: ProjectLabels, batch: str) -> ProjectLabels:
    if not batch:
        return labels
    items = {key: item for key, item in labels.items.items() if item.batch == batch}
    if not items:
        names = sorted({item.batch for item in labels.items.values()})
        raise UserError(
            f"there is no batch {batch!r}", where="--batch", fix=f"name one of: {', '.join(names)}"
        )
    judgements = tuple(one for one in labels.judgements if one.item_id in items)
    return ProjectLabels(items=items, judgements=judgements)


def _files(labels: ProjectLabels, query: Query) -> dict[str, list[ExportRow]]:
    """The rows of each file; judgements come with their comparisons, to be readable."""
    kinds: list[Kind] = [query.kind]
    if query.kind == "judgements":
        kinds.append("comparisons")
    end = suffix(query.format)
    files: dict[str, list[ExportRow]] = {}
    for kind in kinds:
        rows = export_rows(labels, kind)
        if kind != query.kind:
            rows = [row for row in rows if row.provenance["judgements"]]
        if query.shares is None:
            files[f"{kind}{end}"] = rows
            continue
        rule = SplitByPrompt(query.shares)
        for name in rule.names:
            file = f"{name}{end}" if kind == query.kind else f"{name}.{kind}{end}"
            files[file] = [row for row in rows if rule.of(row.prompt) == name]
    return files


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
    }


def _manifest(
    folder: Path, slug: str, query: Query, digest: str, counts: Mapping[str, int]
) -> dict[str, Any]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {
        "project": slug,
        "query": asdict(query),
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
