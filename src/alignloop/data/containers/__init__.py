"""Containers: from a path or a hub id to tables of rows, whatever the file is written in.

`tables_of("data/")` gives one table per file or split; `table.rows()` reads it as a stream. JSON,
CSV and TSV need nothing beside Python; Parquet, Arrow and data sets load `datasets` or its pyarrow.
"""

from alignloop.data.containers.opening import tables_of, training_tables
from alignloop.data.containers.rows import BadRow, Row, Table

__all__ = ["BadRow", "Row", "Table", "tables_of", "training_tables"]
