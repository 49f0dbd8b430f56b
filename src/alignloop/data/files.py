"""Files of our own records: reading with exact places in the errors, writing atomically."""

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydantic import ValidationError

from alignloop.data.containers import BadRow, tables_of
from alignloop.errors import UserError, explain_full_disk
from alignloop.records import Record

RecordType = TypeVar("RecordType", bound=Record)

PROVENANCE = "provenance"


def read_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row) of one file in any container, such as JSONL or CSV.

    Raises UserError with the file and line: missing or empty file, an encoding that is not known,
    broken JSON, a value that is no object.
    """
    if Path(path).is_dir():
        raise UserError("this is a folder, not a file", where=str(path), fix="name a file in it")
    for table in tables_of(Path(path)):
        for row in table.rows():
            if isinstance(row, BadRow):
                raise row.error(table.name)
            yield row.line, row.value


def read_records(path: str | Path, record_type: type[RecordType]) -> list[RecordType]:
    """Read a file of our own records, such as `read_records("pairs.jsonl", PreferencePair)`.

    Raises UserError as `read_objects` does, and for a row that the record type refuses.
    """
    records: list[RecordType] = []
    for line, row in read_objects(path):
        try:
            records.append(record_type.model_validate(without_provenance(row)))
        except ValidationError as error:
            name, keys = record_type.__name__, ", ".join(record_type.model_fields)
            raise UserError(
                f"this is no {name}: {explain(error)}",
                where=f"{path}:{line}",
                fix=f"write the keys of {name}: {keys}",
            ) from error
    return records


def without_provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without where it comes from, which exports write beside a record's own keys."""
    return {key: value for key, value in row.items() if key != PROVENANCE}


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write one JSON object per line, gzipped if the name ends in .gz; nobody sees half a file.

    The records go to a temporary file in the same folder, one after the other, then fsync, then
    rename.
    """
    with whole_file(path) as write:
        for record in records:
            write(record.model_dump_json())


@contextmanager
def whole_file(path: str | Path) -> Iterator[Callable[[str], object]]:
    """A function that writes a line; the file appears under its name at the end, or not at all."""
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


def _packed(stream: Any) -> BinaryIO:
    # No name and no time stamp: same records, same bytes.
    return cast("BinaryIO", gzip.GzipFile(filename="", fileobj=stream, mode="wb", mtime=0))


def explain(error: ValidationError) -> str:
    """Say in one line what pydantic refused: `prompt.messages: Field required; seconds: ...`."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'row'}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
