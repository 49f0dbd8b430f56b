"""Rows of Parquet and Arrow files, batch by batch, through the libraries of `datasets`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from alignloop.data.containers.limits import MAX_GROUP_BYTES, MAX_ROW_BYTES
from alignloop.data.containers.rows import BadRow, Row
from alignloop.data.containers.unpack import is_packed, unpacked
from alignloop.errors import UserError

BATCH_ROWS = 64
PARQUET_MAGIC, ARROW_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def parquet_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, numbered from 1; raises UserError where it is damaged."""
    import pyarrow.parquet as parquet

    def batches(stream: BinaryIO) -> Iterator[Any]:
        file = parquet.ParquetFile(stream, pre_buffer=False, buffer_size=2**16)
        for group in range(file.num_row_groups):
            _refuse_large(path, file.metadata.row_group(group).total_byte_size)
        yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)

    return _rows(path, "Parquet", batches)


def arrow_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of an Arrow file or stream (`datasets` writes streams), numbered from 1."""
    import pyarrow as arrow

    def batches(stream: BinaryIO) -> Iterator[Any]:
        as_file = stream.read(len(ARROW_MAGIC)) == ARROW_MAGIC
        stream.seek(0)
        if as_file:
            file = arrow.ipc.open_file(stream)
            yield from (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            yield from arrow.ipc.open_stream(stream)

    return _rows(path, "Arrow", batches)


def _rows(path: Path, kind: str, batches: Any) -> Iterator[Row | BadRow]:
    import pyarrow as arrow

    number = 0
    try:
        with _seekable(path) as stream:
            for batch in batches(stream):
                _refuse_large(path, batch.nbytes)
                batch.validate(full=True)  # offsets of a damaged file would read foreign memory
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    for row in batch.slice(start, BATCH_ROWS).to_pylist():
                        number += 1
                        yield _row(number, row)
    except (arrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(path, kind, number, error) from error
    except (MemoryError, KeyError, IndexError, TypeError) as error:
        raise _damaged(path, kind, number, error) from error


def _damaged(path: Path, kind: str, number: int, error: Exception) -> UserError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"the {kind} file is damaged: {said}", where=f"{path}:{number + 1}", fix="fetch it again"
    )


def _row(number: int, value: dict[str, Any]) -> Row | BadRow:
    if sum(len(text) for text in value.values() if isinstance(text, str)) > MAX_ROW_BYTES:
        problem = f"the row is longer than {MAX_ROW_BYTES // 2**20} MiB"
        return BadRow(line=number, problem=problem, fix="cut its texts, or remove the row")
    # A column that a row leaves out is null in a table; other containers do not write it.
    return Row(line=number, value={key: item for key, item in value.items() if item is not None})


def _refuse_large(path: Path, size: int) -> None:
    if size > MAX_GROUP_BYTES:
        raise UserError(
            f"one group of rows has {size / 2**30:.1f} GiB, more than is read at once",
            where=str(path),
            fix="write the file with smaller row groups",
        )


@contextmanager
def _seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or where it is gzipped a temporary copy on the disk: tables are read by seeking."""
    if not is_packed(path):
        with path.open("rb") as stream:
            yield cast("BinaryIO", stream)
        return
    with tempfile.TemporaryFile() as copy:
        with unpacked(path) as source:
            while content := source.read():
                copy.write(content)
        copy.seek(0)
        yield cast("BinaryIO", copy)
