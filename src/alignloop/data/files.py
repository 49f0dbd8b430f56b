"""Files of our own records: errors with exact positions, atomic writes."""

import gzip
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from pydantic import ValidationError

from alignloop.data.containers import BadRow, tables_of
from alignloop.data.narrow import Json, Object
from alignloop.errors import UserError, explain_full_disk
from alignloop.records import Record

RecordType = TypeVar("RecordType", bound=Record)

PROVENANCE = "provenance"


def read_objects(path: str | Path) -> Iterator[tuple[int, Object]]:
    """Yield (line number from 1, row) of one file in any container, such as JSONL or CSV.

    Raises UserError with the file and line: missing or empty file, unknown encoding, broken JSON, a
    value that is not an object.
    """
    if Path(path).is_dir():
        raise UserError("this is a folder, not a file", where=str(path), fix="give a file in it")
    for table in tables_of(Path(path)):
        for row in table.rows():
            if isinstance(row, BadRow):
                raise row.error(table.name)
            yield row.line, row.value


def read_records(path: str | Path, record_type: type[RecordType]) -> list[RecordType]:
    """Read a file of our own records, such as `read_records("pairs.jsonl", PreferencePair)`.

    Raises UserError as `read_objects` does, and for a row that does not fit the record type.
    """
    records: list[RecordType] = []
    for line, row in read_objects(path):
        try:
            records.append(record_type.model_validate(without_provenance(row)))
        except ValidationError as error:
            name, keys = record_type.__name__, ", ".join(record_type.model_fields)
            raise UserError(
                f"not a valid {name}: {explain(error)}",
                where=f"{path}:{line}",
                fix=f"use the keys of {name}: {keys}",
            ) from error
    return records


def without_provenance(row: Mapping[str, Json]) -> Object:
    """The row without its provenance, which exports add to a record's own keys."""
    return {key: value for key, value in row.items() if key != PROVENANCE}


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write one JSON object per line, gzipped if the name ends in .gz, atomically.

    Records go to a temporary file in the same folder, then fsync, then rename.
    """
    with whole_file(path) as write:
        for record in records:
            write(record.model_dump_json())


@contextmanager
def whole_file(path: str | Path) -> Generator[Callable[[str], object]]:
    """Yield a function that writes a line; the file appears at the end, or not at all."""
    path = Path(path)
    with explain_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as stream:
                packing = path.suffix == ".gz"
                target = _packed(stream) if packing else stream
                yield lambda line: target.write(f"{line}\n".encode())
                if packing:
                    target.close()
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):  # the first error is the one worth reporting
                temporary.unlink(missing_ok=True)


def _packed(stream: BinaryIO) -> BinaryIO:
    # No file name and no time stamp, so that equal records give equal bytes.
    return cast("BinaryIO", gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0))


def explain(error: ValidationError) -> str:
    """Pydantic's complaints in one line: `prompt.messages: Field required; seconds: ...`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'row'}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
