"""Imports on both databases: equal content, two at once, and kill -9 in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from label_support import SOURCE, comparison, items, make_world
from sqlalchemy import func, select

from alignloop.label.store import batches, projects
from alignloop.label.store.database import FILE, Database, open_database
from alignloop.label.store.importing import NewItem
from alignloop.label.store.read_labels import load_labels
from alignloop.label.store.refusals import Conflict
from alignloop.label.store.tables import Batch, ItemRow
from alignloop.label.store.tasks import LabelSchema

pytestmark = pytest.mark.slow

HOSTILE = "tab\tnew\nline\rback\\slash \\N \\. \\t 中文 \u2028 'quote' \"double\" \x01 {}"


def test_texts_arrive_unaltered_and_rows_can_be_worked_on(any_database: Database) -> None:
    one = comparison(0)
    odd = one.model_copy(
        update={
            "responses": tuple(
                answer.model_copy(update={"text": HOSTILE * (n + 1)})
                for n, answer in enumerate(one.responses)
            ),
            "prompt": one.prompt.model_copy(update={"category": HOSTILE}),
        }
    )
    known = NewItem(comparison=odd, models={"p0#0": HOSTILE}, settings={"p0#0": {"a": HOSTILE}})
    here = make_world(any_database, [known, *items(5, start=1)], repeats=0.5, users=1)
    with any_database.reading() as session:
        labels = load_labels(session, here.project_id)
    item = next(i for i in labels.items.values() if i.comparison_id == "c0")
    assert [a.text for a in item.answers] == [HOSTILE, HOSTILE * 2]
    assert (item.prompt.category, item.answers[0].model) == (HOSTILE, HOSTILE)
    assert len(here.work()) == here.num_items()
    # rows of the usual way of inserting get ids beyond those that were dealt out in bulk
    assert here.file(items(3, start=50)).added == 3
    with any_database.transaction() as session:
        batches.change_batch(session, here.project_id, here.batch_id, overlap=2, repeats=0.5)


def test_two_imports_of_one_file_at_once_add_it_once(any_database: Database) -> None:
    here, done = make_world(any_database), list[Any]()
    threads = [
        threading.Thread(target=lambda: done.append(here.file(items(2500)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sum(one.added for one in done) == here.num_items() == 2500
    assert sum(one.duplicates for one in done) == 2500


def test_two_leads_with_one_name_at_the_same_moment(any_database: Database) -> None:
    """One gets it and the other a conflict in words; on PostgreSQL neither sees the other."""
    told: list[str] = []
    ready = threading.Barrier(2)

    def make(kind: str) -> None:
        ready.wait()
        try:
            with any_database.transaction() as session:
                if kind == "project":
                    projects.create_project(session, "same", "Same", LabelSchema())
                else:
                    projects.create_batch(session, here.project_id, "same")
                time.sleep(0.3)  # the other one asks meanwhile
            told.append("made")
        except Conflict as conflict:
            told.append(conflict.problem)

    here = make_world(any_database)
    for kind in ("project", "batch"):
        told.clear()
        threads = [threading.Thread(target=make, args=(kind,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert sorted(told) == ["made", f"there is already a {kind} with this name"]


def importing(file: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """`alignloop label import` in a process of its own."""
    command = [sys.executable, "-m", "alignloop", "label", "import", str(file), "--batch", "b"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--project", str(folder)], env=environment, **quiet)


def content(folder: Path) -> tuple[set[str], int, int]:
    """Fingerprints of the items, their number, and the number that the batch tells."""
    database = open_database(folder)
    with database.reading() as session:
        prints = set(session.scalars(select(ItemRow.fingerprint)))
        count = session.scalar(select(func.count(ItemRow.id))) or 0
        told = session.scalar(select(func.sum(Batch.num_items))) or 0
    database.close()
    return prints, count, told


def test_a_killed_import_leaves_whole_chunks_and_the_same_command_finishes_it(
    tmp_path: Path,
) -> None:
    file, killed, whole = tmp_path / "rows.jsonl", tmp_path / "killed", tmp_path / "whole"
    rows = [{"prompt": f"Q{n}", "answer1": "a" * 200, "answer2": f"b{n}"} for n in range(12_000)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for folder in (killed, whole):
        database = open_database(folder)
        with database.transaction() as session:
            projects.create_project(session, "demo", "Demo", LabelSchema())
        database.close()
    process = importing(file, killed)
    wal = killed / f"{FILE}-wal"
    deadline = time.monotonic() + 120
    while (not wal.exists() or wal.stat().st_size < 2_000_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    _, count, told = content(killed)
    assert 0 < count < 12_000 and count % 1000 == 0 and count == told
    assert importing(file, killed).wait(timeout=300) == 0
    assert importing(file, whole).wait(timeout=300) == 0
    assert content(killed) == content(whole)
    assert content(whole)[1:] == (12_000, 12_000)
