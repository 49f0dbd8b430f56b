"""From a source's name to its files, and the container of each."""

import difflib
import logging
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from alignloop.data.containers.columnar import (
    ARROW_MAGIC,
    PARQUET_MAGIC,
    STREAM_MAGIC,
    arrow_rows,
    parquet_rows,
)
from alignloop.data.containers.delimited import delimited_rows
from alignloop.data.containers.hub import BINARY, HUB, hub_tables, is_saved_dataset, saved_tables
from alignloop.data.containers.json_rows import SHAPE, line_rows, value_rows
from alignloop.data.containers.rows import BadRow, Encoding, Row, Table
from alignloop.data.containers.text import text_chunks, text_lines
from alignloop.data.containers.unpack import CHUNK_BYTES, unpacked
from alignloop.errors import UserError

logger = logging.getLogger(__name__)

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
# Metadata files in a data set's folder.
NOT_DATA = {
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json",
    "refused.jsonl", "manifest.json",
}  # fmt: skip
_SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|dev|test|eval)(?![a-z])")
_SAME = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "test"}


def tables_of(source: str | Path) -> list[Table]:
    """The tables of a source: a file, a folder, a `datasets` directory, or "hub:org/name".

    A folder yields its data files, recursively, sorted by name. The network is used only for
    "hub:...". Raises UserError if nothing is found.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return hub_tables(source)
    path = Path(source)
    if not path.is_dir():
        _require_file(path)
        return [_file_table(path)]
    if is_saved_dataset(path):
        return saved_tables(path)
    files = [file for file in sorted(path.rglob("*")) if _is_data(path, file)]
    if not files:
        names = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
        problem = "the folder contains no data files"
        raise UserError(problem, where=str(path), fix=f"use a folder with {names}, or their .gz")
    saved = sorted({file.parent for file in files if is_saved_dataset(file.parent)})
    plain = [file for file in files if file.parent not in saved]
    tables = [_file_table(file, split_of(file.relative_to(path).parent.name)) for file in plain]
    return [*chain(*map(saved_tables, saved)), *tables]


def training_tables(source: str | Path) -> list[Table]:
    """The tables to train on: all, or only the split "train" if there is one."""
    tables = tables_of(source)
    # training on a published test split would spoil later evaluations
    train = [table for table in tables if table.split == "train"]
    if not train or len(train) == len(tables):
        return tables
    others = sorted({table.split or table.name for table in tables} - {"train"})
    logger.warning("%s: reading only the split train, not %s", source, ", ".join(others))
    return train


def split_of(name: str) -> str:
    """The split in a file's name: "test-00000-of-00001.parquet" is "test"."""
    found = _SPLIT.search(name.lower())
    return _SAME.get(found[1], found[1]) if found else ""


def _is_data(folder: Path, file: Path) -> bool:
    parts = file.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts)
    named = file.name.lower().removesuffix(".gz").endswith(SUFFIXES)
    return named and not hidden and file.name not in NOT_DATA and file.is_file()


def _file_table(path: Path, split_of_folder: str = "") -> Table:
    split = split_of(path.name) or split_of_folder
    with unpacked(path) as source:
        start = source.read()
    if start.startswith(PARQUET_MAGIC):
        container, rows, encoding = "parquet", partial(parquet_rows, path), BINARY
    elif start.startswith((ARROW_MAGIC, STREAM_MAGIC)):
        container, rows, encoding = "arrow", partial(arrow_rows, path), BINARY
    else:
        encoding = Encoding()
        container = _text_container(path, start)
        rows = partial(_text_rows, path, container, encoding)
    return Table(name=str(path), container=container, rows=rows, split=split, encoding=encoding)


def _text_container(path: Path, start: bytes) -> str:
    """Decided by the first character; the file name only breaks ties."""
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    if not text and len(start) < CHUNK_BYTES:
        raise UserError("the file is empty", where=str(path), fix=SHAPE)
    if text[:1] in ("", "{", "["):
        spread = text[:1] == "[" or text.split("\n", 1)[0].strip() == "{"
        return "json" if spread else "jsonl"
    name = path.name.lower().removesuffix(".gz")
    header = text.splitlines()[0]
    if "\t" in header or (name.endswith(".tsv") and "," not in header):
        return "tsv"
    if name.endswith(".csv") or "," in header:
        return "csv"
    return "jsonl"  # its reader reports what is wrong


def _text_rows(path: Path, container: str, encoding: Encoding) -> Iterator[Row | BadRow]:
    with unpacked(path) as source:
        if container == "json":
            yield from value_rows(path, text_chunks(source, encoding))
            return
        lines = text_lines(source, encoding)
        if container == "jsonl":
            yield from line_rows(lines)
            return
        first = next(((n, line) for n, line in lines if line.strip()), (1, ""))
        delimiter = "\t" if container == "tsv" else ","
        if container == "csv" and first[1].count(";") > first[1].count(","):
            delimiter = ";"  # spreadsheets use it if the comma is the decimal point
        yield from delimited_rows(path, chain([first], lines), delimiter)


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if not path.parent.is_dir():
        fix = f"for a data set on the Hub use {HUB}{path}" if len(path.parts) == 2 else ""
        raise UserError("file not found, nor its folder", where=str(path), fix=fix)
    names = sorted(entry.name for entry in path.parent.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(close)}?" if close else f"look in {path.parent}"
    raise UserError("file not found", where=str(path), fix=fix)
