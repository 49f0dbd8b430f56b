"""From a project to a folder of files, with a manifest and a line in the database."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from alignloop.data.files import whole_file
from alignloop.data.splits import SplitByPrompt
from alignloop.errors import UserError
from alignloop.label.exports.rows import ExportRow, Kind, content_hash, export_rows
from alignloop.label.exports.shapes import Format, check_format, left_out, lines_of, suffix
from alignloop.label.quality.load import load_labels
from alignloop.label.quality.rows import Labels
from alignloop.label.store.database import FILE, Database, open_database
from alignloop.label.store.tables import ExportSnapshot, Project, now
from alignloop.records import PreferencePair
from alignloop.run import RunFolder, atomic_folder, atomic_write

MANIFEST = "manifest.json"
PAIRS_FILE = "pairs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What to export: `shares` of splits by prompt, `batch` for the items of one batch."""

    kind: Kind = "pairs"
    format: Format = "jsonl"
    shares: Mapping[str, float] | None = None
    batch: str = ""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came out: the folder, the hash of its content, and how much of what."""

    path: Path
    hash: str
    counts: dict[str, int]
    snapshot_id: int


def export_project(
    database: Database, slug: str, out: Path, query: Query, *, user_id: int | None = None
) -> Exported:
    """Fill `out` with the labels of a project (""=the only one), and keep a snapshot's row of it.

    Files: KIND.jsonl, or one per split by its name; judgements come with their comparisons; and
    manifest.json. The folder appears whole or not at all. Raises UserError where `out` holds
    something else, where nothing is there to export, and for a format that cannot say it.
    """
    check_format(query.kind, query.format)
    _check_out(out)
    with database.reading() as session:
        project = find_project(session, slug)
        labels = _of_batch(load_labels(session, project.id), query.batch)
    files = _files(labels, query)
    rows = [row for name in files for row in files[name]]
    if not rows:
        problem = "nobody has said anything yet that this export holds"
        raise UserError(problem, where=project.slug, fix="label some items, or choose another kind")
    digest = content_hash(query.kind, rows)
    counts = _counts(files, labels) | left_out(rows, query.format)
    with atomic_folder(out) as folder:
        for name, part in files.items():
            _write(folder / name, part, query.format)
        manifest = _manifest(folder, project.slug, query, digest, counts)
        atomic_write(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    with database.transaction() as session:
        row = ExportSnapshot(
            project_id=project.id,
            kind=query.kind,
            query=manifest["query"],
            hash=digest,
            counts=dict(counts),
            path=str(out.resolve()),  # a server that hands it out runs where it will
            user_id=user_id,
            created_at=now(),
        )
        session.add(row)
        session.flush()
        return Exported(path=out, hash=digest, counts=counts, snapshot_id=row.id)


def find_project(session: Session, slug: str) -> Project:
    """The project of this name, or the only one where none is named. Raises UserError."""
    projects = {one.slug: one for one in session.scalars(select(Project).order_by(Project.slug))}
    if slug in projects:
        return projects[slug]
    if not slug and len(projects) == 1:
        return next(iter(projects.values()))
    problem = f"there is no project {slug!r}" if slug else "there is not one project here"
    fix = f"name one of: {', '.join(projects)}" if projects else "make a project first"
    raise UserError(problem, where="project", fix=fix)


def open_labels(where: str) -> tuple[Database, str]:
    """The database of "DIR", "URL", "DIR#project" or "URL#project", and the project's name.

    Nothing is made or migrated. Raises UserError where no database is there.
    """
    place, _, slug = where.partition("#")
    if "://" not in place and not (Path(place) / FILE).is_file():
        raise UserError(
            "there is no labelling project here",
            where=place,
            fix=f"name the folder that holds {FILE}, or a database's URL",
        )
    return open_database(place, migrate=False), slug


def project_pairs(where: str) -> tuple[list[PreferencePair], str]:
    """The pairs of a project (see `open_labels`) and the hash of their content; read only."""
    database, slug = open_labels(where)
    with closing(database), database.reading() as session:
        rows = export_rows(load_labels(session, find_project(session, slug).id), "pairs")
    return [pair for row in rows for pair in row.pairs], content_hash("pairs", rows)


def keep_pairs(where: str, run: RunFolder, stage_name: str) -> Path:
    """The pairs of a project as a file of the run: what a run has learnt from stays with it.

    Labels that come later are no part of a run that has begun. The content's hash goes to
    lineage.json. Raises UserError where there are no pairs.
    """
    stage = run.stage(stage_name)
    path = stage.path / PAIRS_FILE
    if stage.finished:
        return path
    pairs, digest = project_pairs(where)
    if not pairs:
        raise UserError("nobody has compared anything yet", where=f"label:{where}")
    with whole_file(path) as write:
        for pair in pairs:
            write(pair.model_dump_json())
    facts = {"project": where, "content_hash": digest, "num_pairs": len(pairs)}
    stage.finish(facts)  # and from there to lineage.json
    return path


def _of_batch(labels: Labels, batch: str) -> Labels:
    if not batch:
        return labels
    items = {key: item for key, item in labels.items.items() if item.batch == batch}
    if not items:
        names = sorted({item.batch for item in labels.items.values()})
        raise UserError(
            f"there is no batch {batch!r}", where="--batch", fix=f"name one of: {', '.join(names)}"
        )
    judgements = tuple(one for one in labels.judgements if one.item_id in items)
    return Labels(items=items, judgements=judgements)


def _files(labels: Labels, query: Query) -> dict[str, list[ExportRow]]:
    """The rows of each file. Judgements say little without the comparisons that they are about."""
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


def _counts(files: Mapping[str, Sequence[ExportRow]], labels: Labels) -> dict[str, int]:
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
    """An earlier export may be replaced; anything else stays."""
    taken = out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_export(out))
    if taken:
        raise UserError(
            "something else is here, and an export takes a folder of its own",
            where=str(out),
            fix="name a new folder",
        )


def _is_export(out: Path) -> bool:
    try:
        return "content_hash" in json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
