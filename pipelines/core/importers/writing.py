"""A Parquet file that grows: rows come in small lots and leave in large ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.storage import replacing

_ROWS_PER_GROUP = 250_000


class TableWriter:
    """Lots of rows, written as row groups of about `_ROWS_PER_GROUP`."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, rows_per_group: int) -> None:
        """Write through `writer`."""
        self.schema = schema
        self._writer = writer
        self._limit = rows_per_group
        self._lots: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []
        self._waiting = 0

    def add(self, table: pa.Table) -> None:
        """Rows with the columns of the schema."""
        self._lots.append(table.select(self.schema.names).cast(self.schema))
        self._waiting += table.num_rows
        if self._waiting >= self._limit:
            self.flush()

    def add_row(self, row: dict[str, Any]) -> None:
        """One row; absent columns are null."""
        self._rows.append(row)
        if len(self._rows) >= min(self._limit, 20_000):
            self._gather()

    def _gather(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self.add(pa.Table.from_pylist(rows, self.schema))

    def flush(self) -> None:
        """Write what waits."""
        self._gather()
        if self._lots:
            lots, self._lots, self._waiting = self._lots, [], 0
            self._writer.write_table(pa.concat_tables(lots).combine_chunks(), self._limit)


@contextmanager
def table_writer(
    path: Path, schema: pa.Schema, rows_per_group: int = _ROWS_PER_GROUP
) -> Iterator[TableWriter]:
    """A Parquet file that is there whole when the block ends, and not at all when it fails."""
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        out = TableWriter(writer, schema, rows_per_group)
        yield out
        out.flush()
