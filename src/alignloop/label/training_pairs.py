"""Preference pairs of a project for training, straight from its labels."""

from contextlib import closing
from pathlib import Path

from alignloop.data.files import whole_file
from alignloop.errors import UserError
from alignloop.label.labels.pairs import content_hash, preference_pairs
from alignloop.label.store.database import open_labels
from alignloop.label.store.projects import get_project
from alignloop.label.store.read_labels import load_labels
from alignloop.records import PreferencePair
from alignloop.run import RunFolder

PAIRS_FILE = "pairs.jsonl"


def project_pairs(where: str) -> tuple[list[PreferencePair], str]:
    """The pairs of a project (see `open_labels`) and their content hash; only reads."""
    database, slug = open_labels(where)
    with closing(database), database.reading() as session:
        pairs = preference_pairs(load_labels(session, get_project(session, slug).id))
    return pairs, content_hash("pairs", (pair.model_dump(mode="json") for pair in pairs))


def keep_pairs(where: str, run: RunFolder, stage_name: str) -> Path:
    """Save a project's pairs as a file of the run, so the run keeps its training data.

    Later labels do not change a run that has started. The content hash goes to lineage.json. Raises
    UserError if there are no pairs.
    """
    stage = run.stage(stage_name)
    path = stage.path / PAIRS_FILE
    if stage.finished:
        return path
    pairs, digest = project_pairs(where)
    if not pairs:
        raise UserError("there are no comparisons yet", where=f"label:{where}")
    with whole_file(path) as write:
        for pair in pairs:
            write(pair.model_dump_json())
    facts = {"project": where, "content_hash": digest, "num_pairs": len(pairs)}
    stage.finish(facts)  # `finish` writes lineage.json
    return path
