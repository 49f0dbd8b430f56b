from collections.abc import Iterator

from pyarrow import NativeFile, RecordBatch

class RowGroupMetaData:
    total_byte_size: int

class FileMetaData:
    def row_group(self, i: int) -> RowGroupMetaData: ...

class ParquetFile:
    num_row_groups: int
    metadata: FileMetaData
    def __init__(
        self, source: NativeFile, *, pre_buffer: bool = False, buffer_size: int = 0
    ) -> None: ...
    def iter_batches(
        self, batch_size: int = 65536, *, use_threads: bool = True
    ) -> Iterator[RecordBatch]: ...
