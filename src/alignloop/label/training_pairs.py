"""Preference pairs of a project for training, straight from its labels."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from alignloop.data.files import whole_file
from alignloop.errors import UserError
from alignloop.label.labels.attributes import as_columns, scored_answers
from alignloop.label.labels.pairs import (
    content_hash,
    in_order,
    preference_pairs,
    without_skips,
)
from alignloop.label.store.database import open_labels
from alignloop.label.store.projects import get_project
from alignloop.label.store.read_labels import load_labels
from alignloop.records import PreferencePair
from alignloop.run import RunFolder

PAIRS_FILE, ATTRIBUTES_FILE = "pairs.jsonl", "attributes.jsonl"


def project_pairs(where: str) -> tuple[list[PreferencePair], str]:
    """The pairs of a project (see `open_labels`) and their content hash; only reads."""
    database, slug = open_labels(where)
    with closing(database), database.reading() as session:
        pairs = preference_pairs(load_labels(session, get_project(session, slug).id))
    return pairs, content_hash("pairs", (pair.model_dump(mode="json") for pair in pairs))


def project_attributes(where: str) -> list[Mapping[str, Any]]:
    """A project's answers with scores by criterion, as rows of the export; only reads."""
    database, slug = open_labels(where)
    with closing(database), database.reading() as session:
        labels = load_labels(session, get_project(session, slug).id)
    about = in_order(without_skips(labels.about_answers))
    return [as_columns(record) for record, _ in scored_answers(about)]


def keep_attributes(where: str, run: RunFolder, stage_name: str) -> Path:
    """The file in which a run keeps a project's scores, beside its pairs; raises UserError."""
    path = keep_pairs(where, run, stage_name).with_name(ATTRIBUTES_FILE)
    if not path.is_file():
        fix = "give the project criteria and judge with them, or name reward.attributes"
        raise UserError("nobody has scored an answer by criteria", where=f"label:{where}", fix=fix)
    return path


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
    scores = project_attributes(where)
    if not pairs:
        raise UserError("there are no comparisons yet", where=f"label:{where}")
    with whole_file(path) as write:
        for pair in pairs:
            write(pair.model_dump_json())
    if scores:
        with whole_file(stage.path / ATTRIBUTES_FILE) as write:
            for row in scores:
                write(json.dumps(row, ensure_ascii=False))
    facts = {"project": where, "content_hash": digest, "num_pairs": len(pairs)}
    stage.finish(facts)  # `finish` writes lineage.json
    return path
