"""What leaves the annotation application: rows for training, with where each of them comes from.

`rows` makes them of labels and is pure, `shapes` writes them as JSONL, CSV, TRL's or hh-rlhf's
columns, `snapshot` reads a project, fills a folder and keeps a line about it in the database.
"""

from alignloop.label.exports.rows import KINDS, ExportRow, Kind, content_hash, export_rows
from alignloop.label.exports.shapes import FORMATS, Format
from alignloop.label.exports.snapshot import Exported, Query, export_project, project_pairs

__all__ = [
    "FORMATS",
    "KINDS",
    "ExportRow",
    "Exported",
    "Format",
    "Kind",
    "Query",
    "content_hash",
    "export_project",
    "export_rows",
    "project_pairs",
]
