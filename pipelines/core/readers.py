"""Tables in the caller's files: found, cut into chunks, and read so that one bad row costs one row.

Parquet, JSON Lines (`.jsonl`, `.ndjson`) and CSV (`.csv`, `.tsv`), the latter two also gzipped; a table is
one file or a folder of them, on a local path, `s3://` or `gs://` (through pyarrow's file systems, with its
usual environment variables and `?endpoint_override=` for other S3 servers).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.core.errors import InputError
from pipelines.core.schema import ROW, TableName
from pipelines.core.text_files import BadRow, read_csv, read_json_lines

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv", ".jsonl.gz", ".ndjson.gz", ".csv.gz", ".tsv.gz")

_ROWS_PER_CHUNK = 500_000


@dataclass(frozen=True)
class Chunk:
    """What one task reads: a whole text file, or some row groups of a Parquet file.

    Attributes:
        table: which table it belongs to.
        number: position among the table's chunks; rows keep this order.
        uri: the data directory's address, for its file system.
        path: path on that file system.
        row_groups: (first, last) of a Parquet file, last excluded; None for other formats.
        first_row: rows of the file before this chunk.

    """

    table: TableName
    number: int
    uri: str
    path: str
    row_groups: tuple[int, int] | None
    first_row: int


@dataclass(frozen=True)
class SourceFile:
    """One file of the caller's, with what tells whether it changed."""

    path: str
    size: int
    mtime_ns: int


def is_csv(path: str) -> bool:
    """Whether a file has no types of its own, only text."""
    return path.removesuffix(".gz").endswith((".csv", ".tsv"))


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a local path or URI.

    Raises:
        InputError: a scheme that pyarrow does not know, or one that cannot be reached.

    """
    try:
        if "://" in uri:
            filesystem, path = pafs.FileSystem.from_uri(uri)
            return filesystem, path.rstrip("/")
        return pafs.LocalFileSystem(), str(Path(uri).resolve())
    except (pa.ArrowInvalid, OSError) as e:
        raise InputError(f"--data {uri}: {e}. Give a folder, or an s3:// or gs:// address.") from e


def find_files(uri: str, name: str) -> list[SourceFile]:
    """Files of table `name` under `uri`, sorted: `name.<suffix>`, or every data file in the folder `name/`.

    Raises:
        InputError: `uri` is not a folder that can be read, or holds the table more than once.

    """
    filesystem, root = open_filesystem(uri)
    try:
        found = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=False))
        single = [f for f in found if f.is_file and any(f.base_name == name + s for s in SUFFIXES)]
        folder: list[pafs.FileInfo] = []
        if any(f.base_name == name and f.type == pafs.FileType.Directory for f in found):
            inside = filesystem.get_file_info(pafs.FileSelector(f"{root}/{name}", recursive=True))
            shown = [f for f in inside if f.is_file and f.base_name.endswith(SUFFIXES)]
            # as Spark and Hive do: names that begin with a dot or an underscore are somebody's unfinished work
            folder = [f for f in shown if not re.search(r"/[._]", f.path.removeprefix(root))]
    except (OSError, pa.ArrowException) as e:
        raise InputError(
            f"--data {uri} cannot be listed: {e}. Give a folder that holds {name}.parquet."
        ) from e
    if len(single) + bool(folder) > 1:
        names = sorted(f.base_name for f in single) + ([f"{name}/"] if folder else [])
        raise InputError(f"{uri} holds table '{name}' more than once: {', '.join(names)}. Keep one of them.")
    return [
        SourceFile(f.path, f.size, f.mtime_ns or 0) for f in sorted(single or folder, key=lambda f: f.path)
    ]


def cut_chunks(uri: str, table: TableName, files: list[SourceFile]) -> list[Chunk]:
    """Chunks of a table's files, in order. An unreadable Parquet file becomes one chunk that reports itself."""
    filesystem, _ = open_filesystem(uri)
    chunks: list[Chunk] = []
    for file in files:
        if not file.path.endswith(".parquet"):
            chunks.append(Chunk(table, len(chunks), uri, file.path, None, 0))
            continue
        try:
            with filesystem.open_input_file(file.path) as handle:
                metadata = pq.read_metadata(handle)
        except (OSError, pa.ArrowException):
            chunks.append(Chunk(table, len(chunks), uri, file.path, (0, 0), 0))
            continue
        first = rows = done = 0
        for group in range(metadata.num_row_groups):
            rows += metadata.row_group(group).num_rows
            if rows >= _ROWS_PER_CHUNK or group == metadata.num_row_groups - 1:
                chunks.append(Chunk(table, len(chunks), uri, file.path, (first, group + 1), done))
                first, done, rows = group + 1, done + rows, 0
        if metadata.num_row_groups == 0:
            chunks.append(Chunk(table, len(chunks), uri, file.path, (0, 0), 0))
    return chunks


def read_chunk(chunk: Chunk, csv_delimiter: str = ",") -> tuple[pa.Table, list[BadRow]]:
    """All rows of a chunk that can be read, with their numbers in column `ROW`, and those that cannot.

    A file that cannot be read at all gives no rows and one `BadRow` with row 0. Text files give string
    columns; bytes that are not UTF-8 spoil their own row only.

    Raises:
        InputError: two columns bear one name.

    """
    filesystem, _ = open_filesystem(chunk.uri)
    bad: list[BadRow] = []
    try:
        if chunk.row_groups is not None:
            table = _read_parquet(filesystem, chunk)
        else:
            with filesystem.open_input_stream(chunk.path, compression=None) as stream:
                raw = stream.read()
            table, bad = _read_text(raw, chunk.path, csv_delimiter)
        names = table.column_names
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException) as e:
        return pa.table({ROW: pa.array([], pa.int64())}), [BadRow(0, f"the file cannot be read: {e}")]
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(
                f"{chunk.path}: {times} columns are named '{name}'. Rename all but one."
                if name != ROW
                else f"{chunk.path}: column '{ROW}' is a name Kindling uses itself. Rename it."
            )
    return _drop_unreadable(table, bad)


def _read_text(raw: bytes, path: str, csv_delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    if path.endswith(".gz"):
        raw, path = gzip.decompress(raw), path.removesuffix(".gz")
    if path.endswith((".jsonl", ".ndjson")):
        return read_json_lines(raw)
    return read_csv(raw, "\t" if path.endswith(".tsv") else csv_delimiter)


def _read_parquet(filesystem: pafs.FileSystem, chunk: Chunk) -> pa.Table:
    assert chunk.row_groups is not None  # noqa: S101 - the caller's branch
    with filesystem.open_input_file(chunk.path) as handle:
        file = pq.ParquetFile(handle)
        numbers = range(*chunk.row_groups)
        try:
            table = file.read_row_groups(list(numbers), use_threads=False)
        except (
            pa.ArrowNotImplementedError
        ):  # of repeated values (categories) in lists Arrow reads one group at a time
            table = pa.concat_tables([file.read_row_group(n, use_threads=False) for n in numbers])
    rows = pa.array(chunk.first_row + np.arange(1, table.num_rows + 1))
    columns = [c.cast(_plain(c.type)) for c in table.columns]
    return pa.Table.from_arrays([*columns, rows], names=[*table.column_names, ROW])


def _plain(kind: pa.DataType) -> pa.DataType:
    """The one type that stands for all ways Arrow has to hold strings, bytes, lists, halves and repeated values."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_float16(kind):  # which Arrow compares with nothing
        return pa.float32()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    ):  # fmt: skip
        return pa.list_(_plain(kind.value_type))
    return kind


def _drop_unreadable(table: pa.Table, bad: list[BadRow]) -> tuple[pa.Table, list[BadRow]]:
    """Rows with bytes that are not UTF-8, or with a date that no calendar has, go to `bad`."""
    wrong: dict[int, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        for index, reason in _unreadable(column):
            wrong.setdefault(index, f"column {name} {reason}")
    if not wrong:
        return table, bad
    numbers = table.column(ROW).to_numpy()
    bad = bad + [BadRow(int(numbers[index]), reason) for index, reason in sorted(wrong.items())]
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(wrong)] = False
    return table.take(pa.array(np.flatnonzero(keep))), bad


def _unreadable(column: pa.ChunkedArray) -> list[tuple[int, str]]:
    try:
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            for bound in pc.min_max(column).values():  # all others lie between
                bound.as_py()
        elif _holds_moments(column.type):
            column.to_pylist()
        elif pa.types.is_string(column.type) or pa.types.is_nested(column.type):
            column.validate(full=True)
    except (ValueError, OverflowError):
        reasons = ((index, _why_unreadable(value)) for index, value in enumerate(column))
        return [(index, reason) for index, reason in reasons if reason]
    return []


def _holds_moments(kind: pa.DataType) -> bool:
    """Whether a type is, or has inside, times that Python may have no word for."""
    if not pa.types.is_nested(kind):
        return bool(pa.types.is_temporal(kind))
    return any(_holds_moments(kind.field(i).type) for i in range(kind.num_fields))


def _why_unreadable(value: pa.Scalar) -> str:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return "is not UTF-8; save the file as UTF-8"
    except (ValueError, OverflowError) as e:
        return f"cannot be read: {e}"
    return ""
