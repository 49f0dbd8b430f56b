"""Exports of the annotation application: rows for training, with their provenance.

`export_rows` makes rows from labels and is pure, `shapes` writes them as JSONL, CSV, TRL's or
hh-rlhf's columns, `snapshot` reads a project, fills a folder and records it in the database.
"""

from alignloop.label.exports.export_rows import KINDS, ExportRow, Kind, export_rows
from alignloop.label.exports.shapes import FORMATS, Format
from alignloop.label.exports.snapshot import Exported, Query, export_project

__all__ = [
    "FORMATS",
    "KINDS",
    "ExportRow",
    "Exported",
    "Format",
    "Kind",
    "Query",
    "export_project",
    "export_rows",
]
