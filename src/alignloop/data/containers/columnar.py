"""Rows of Parquet and Arrow files, batch by batch, through pyarrow."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alignloop.data.containers.features import Features, as_meant, features_of
from alignloop.data.containers.limits import MAX_GROUP_BYTES, MAX_ROW_BYTES
from alignloop.data.containers.rows import BadRow, Row
from alignloop.data.containers.unpack import is_packed, unpacked
from alignloop.data.narrow import Json
from alignloop.errors import UserError
from alignloop.extras import needs

if TYPE_CHECKING:
    from pyarrow import NativeFile, RecordBatch

BATCH_ROWS = 64  # small: a row may be megabytes of text
PARQUET_MAGIC, ARROW_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def parquet_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, numbered from 1; raises UserError if it is damaged."""
    with needs("data", "a Parquet file"):
        import pyarrow.parquet as parquet

    def batches(mapped: "NativeFile") -> Iterator["RecordBatch"]:
        file = parquet.ParquetFile(mapped, pre_buffer=False, buffer_size=2**16)
        for group in range(file.num_row_groups):
            _refuse_large(path, file.metadata.row_group(group).total_byte_size)
        yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False)

    return _rows(path, "Parquet", batches)


def arrow_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of an Arrow file or stream (`datasets` writes streams), numbered from 1."""
    with needs("data", "an Arrow file"):
        import pyarrow as arrow

    def batches(mapped: "NativeFile") -> Iterator["RecordBatch"]:
        as_file = mapped.read(len(ARROW_MAGIC)) == ARROW_MAGIC
        mapped.seek(0)
        if as_file:
            file = arrow.ipc.open_file(mapped)
            yield from (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            yield from arrow.ipc.open_stream(mapped)

    return _rows(path, "Arrow", batches)


def _rows(
    path: Path, kind: str, batches: "Callable[[NativeFile], Iterable[RecordBatch]]"
) -> Iterator[Row | BadRow]:
    import pyarrow as arrow

    number = 0
    try:
        # With a memory map a forged length allocates nothing: it exceeds the file's size.
        with _unpacked_copy(path) as copy, arrow.memory_map(str(copy)) as mapped:
            for batch in batches(mapped):
                _refuse_large(path, batch.nbytes)
                features = features_of(batch.schema.metadata)
                batch.validate(full=True)  # a damaged file's offsets would read foreign memory
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    for row in batch.slice(start, BATCH_ROWS).to_pylist():
                        number += 1
                        yield _row(number, row, features)
    except (arrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(path, kind, number, error) from error
    except (MemoryError, KeyError, IndexError, TypeError) as error:
        raise _damaged(path, kind, number, error) from error


def _damaged(path: Path, kind: str, number: int, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(
        f"the {kind} file is damaged: {reason}",
        where=f"{path}:{number + 1}",
        fix="download it again",
    )


def _row(number: int, value: dict[str, Json], features: Features) -> Row | BadRow:
    if sum(len(text) for text in value.values() if isinstance(text, str)) > MAX_ROW_BYTES:
        problem = f"the row is longer than {MAX_ROW_BYTES // 2**20} MiB"
        return BadRow(line=number, problem=problem, fix="shorten its texts, or remove the row")
    try:
        value = as_meant(value, features)
    except (ValueError, RecursionError) as error:
        problem = f"a column declared as JSON contains something else: {error}"
        return BadRow(line=number, problem=problem, fix="write the file again")
    # A table stores null for a missing column; other containers leave the key out.
    return Row(line=number, value={key: item for key, item in value.items() if item is not None})


def _refuse_large(path: Path, size: int) -> None:
    if size > MAX_GROUP_BYTES:
        raise UserError(
            f"one group of rows has {size / 2**30:.1f} GiB, more than can be read at once",
            where=str(path),
            fix="write the file with smaller row groups",
        )


@contextmanager
def _unpacked_copy(path: Path) -> Generator[Path]:
    """The file; if it is gzipped, an unpacked temporary copy while it is being read."""
    if not is_packed(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "unpacked"
        with unpacked(path) as source, copy.open("wb") as stream:
            while content := source.read():
                stream.write(content)
        yield copy
