"""What leaves the annotation application: rows for training, with where each of them comes from.

`export_rows` makes them of labels and is pure, `shapes` writes them as JSONL, CSV, TRL's or
hh-rlhf's columns, `snapshot` reads a project, fills a folder and keeps a row about it.
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
