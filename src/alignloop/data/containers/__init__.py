"""Containers: from a path or a hub id to tables of rows, whatever the file format.

`tables_of("data/")` returns one table per file or split; `table.rows()` streams it. JSON, CSV and
TSV need only Python; Parquet, Arrow and saved data sets load `datasets` or its pyarrow.
"""

from alignloop.data.containers.opening import tables_of, training_tables
from alignloop.data.containers.rows import BadRow, Row, Table

__all__ = ["BadRow", "Row", "Table", "tables_of", "training_tables"]
