"""Bytes of a file, unpacked if it is gzipped by its content: file names may be wrong."""

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from alignloop.data.containers.limits import (
    MAX_ROW_BYTES,
    MAX_UNPACK_RATIO,
    UNPACK_FREE_BYTES,
)
from alignloop.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 2**16


class Unpacked:
    """A file's bytes, read once from the start; refuses damage, bombs and endless lines."""

    def __init__(self, path: Path, raw: BinaryIO, stream: BinaryIO) -> None:
        self.path, self._raw, self._stream = path, raw, stream
        self._given = 0

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """At most `size` bytes; empty at the end."""
        return self._counted(self._translated(self._stream.read, size))

    def lines(self) -> Iterator[bytes]:
        """Line by line, including line ends."""
        number = 0
        while line := self._translated(self._stream.readline, MAX_ROW_BYTES + 1, number + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise UserError(
                    f"the line is longer than {MAX_ROW_BYTES // 2**20} MiB",
                    where=f"{self.path}:{number}",
                    fix="is this a file of rows? Put each row on its own line",
                )
            yield self._counted(line)

    def _counted(self, content: bytes) -> bytes:
        self._given += len(content)
        # For a plain file, as many bytes are returned as were read, so the ratio is 1.
        if self._given > max(UNPACK_FREE_BYTES, MAX_UNPACK_RATIO * self._raw.tell()):
            raise UserError(
                f"the gzip file unpacks to more than {MAX_UNPACK_RATIO} times its size",
                where=str(self.path),
                fix="if it is genuine, unpack it with gunzip and use the unpacked file",
            )
        return content

    def _translated(self, read: Callable[[int], bytes], size: int, line: int = 0) -> bytes:
        try:
            return read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            where = f"{self.path}:{line}" if line else str(self.path)
            raise UserError(
                f"the gzip file is damaged: {error}", where=where, fix="download it again"
            ) from error


@contextmanager
def unpacked(path: Path) -> Generator[Unpacked]:
    """Open the file for one reading.

    Raises UserError, now or while reading: no permission, a damaged gzip file, more than 200 times
    the packed size, a line of more than 16 MiB.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot open the file: {error.strerror}", where=str(path)) from error
    with raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        yield Unpacked(path, raw, stream)


def is_packed(path: Path) -> bool:
    """Whether the file is gzipped."""
    with path.open("rb") as probe:
        return probe.read(2) == GZIP_MAGIC
