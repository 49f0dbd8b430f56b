"""`alignloop label export`: from the command line to the functions of this room."""

import argparse
from contextlib import closing
from pathlib import Path

from alignloop.data.commands import shares_of
from alignloop.label.exports.snapshot import Query, export_project
from alignloop.label.store.database import open_labels


def run_export(options: argparse.Namespace) -> None:
    """Write a project's labels to a folder; prints the counts and the hash of the content."""
    query = Query(
        kind=options.kind,
        format=options.format,
        shares=shares_of(options.split),
        batch=options.batch,
    )
    database, slug = open_labels(options.source)
    with closing(database):
        done = export_project(database, slug, Path(options.out), query)
    for name, count in done.counts.items():
        print(f"{name}: {count}")
    print(f"content sha256 {done.hash}")
