"""Tables in the caller's files: found, cut into chunks, and read so that one bad row costs one row.

Parquet, JSON Lines (`.jsonl`, `.ndjson`) and CSV (`.csv`, `.tsv`), the latter two also gzipped; a table is
one file or a folder of them, on a local path, `s3://` or `gs://` (through pyarrow's file systems, with its
usual environment variables and `?endpoint_override=` for other S3 servers).
"""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.core.errors import InputError
from pipelines.core.schema import TableName

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv", ".jsonl.gz", ".ndjson.gz", ".csv.gz", ".tsv.gz")
ROW = "__row"
"""Column the readers add: the row's number in its file, from 1, header not counted."""

_ROWS_PER_CHUNK = 500_000
_CSV_BLOCK_BYTES = 64 << 20


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
class BadRow:
    """A row that could not even be parsed. Row 0 stands for the whole file."""

    row: int
    reason: str


@dataclass(frozen=True)
class SourceFile:
    """One file of the caller's, with what tells whether it changed."""

    path: str
    size: int
    mtime_ns: int


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """File system and path of a local path or URI.

    Raises:
        InputError: a scheme that pyarrow does not know, or one that cannot be reached.

    """
    try:
        if "://" in uri:
            filesystem, path = pafs.FileSystem.from_uri(uri)
            return filesystem, path.rstrip("/")
        from pathlib import Path  # noqa: PLC0415 - only for the local case

        return pafs.LocalFileSystem(), str(Path(uri).resolve())
    except (pa.ArrowInvalid, OSError) as e:
        raise InputError(f"--data {uri}: {e}. Give a folder, or an s3:// or gs:// address.") from e


def find_files(uri: str, name: str) -> list[SourceFile]:
    """Files of table `name` under `uri`, sorted: `name.<suffix>`, or every data file in the folder `name/`.

    Raises:
        InputError: `uri` is not a folder that can be read, or both forms are there, or formats are mixed.

    """
    filesystem, root = open_filesystem(uri)
    try:
        found = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=False))
        single = [f for f in found if f.is_file and any(f.base_name == name + s for s in SUFFIXES)]
        folder: list[pafs.FileInfo] = []
        if any(f.base_name == name and f.type == pafs.FileType.Directory for f in found):
            inside = filesystem.get_file_info(pafs.FileSelector(f"{root}/{name}", recursive=True))
            folder = [f for f in inside if f.is_file and f.base_name.endswith(SUFFIXES)]
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
    """All rows of a chunk that parse, with their numbers in column `ROW`, and those that do not.

    A file that cannot be read at all gives no rows and one `BadRow` with row 0. Text files give string
    columns; bytes that are not UTF-8 spoil their own row only.
    """
    filesystem, _ = open_filesystem(chunk.uri)
    try:
        if chunk.row_groups is not None:
            return _read_parquet(filesystem, chunk)
        with filesystem.open_input_stream(chunk.path, compression=None) as stream:
            raw = stream.read()
        name = chunk.path
        if name.endswith(".gz"):
            raw, name = gzip.decompress(raw), name.removesuffix(".gz")
        if name.endswith((".jsonl", ".ndjson")):
            return _read_json_lines(raw)
        return _read_csv(raw, "\t" if name.endswith(".tsv") else csv_delimiter)
    except (OSError, EOFError, pa.ArrowException) as e:
        return pa.table({ROW: pa.array([], pa.int64())}), [BadRow(0, f"the file cannot be read: {e}")]


def _read_parquet(filesystem: pafs.FileSystem, chunk: Chunk) -> tuple[pa.Table, list[BadRow]]:
    assert chunk.row_groups is not None  # noqa: S101 - the caller's branch
    with filesystem.open_input_file(chunk.path) as handle:
        file = pq.ParquetFile(handle)
        table = file.read_row_groups(list(range(*chunk.row_groups)), use_threads=False)
    numbers = pa.array(range(chunk.first_row + 1, chunk.first_row + 1 + table.num_rows), pa.int64())
    return table.append_column(ROW, numbers), []


def _read_json_lines(raw: bytes) -> tuple[pa.Table, list[BadRow]]:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as e:
            bad.append(BadRow(number, f"not UTF-8 at byte {e.start} of the line"))
            continue
        except (json.JSONDecodeError, RecursionError) as e:
            bad.append(BadRow(number, f"not JSON: {e}"))
            continue
        if not isinstance(row, dict):
            bad.append(BadRow(number, f"expected a JSON object, got {type(row).__name__}"))
            continue
        rows.append(row)
        numbers.append(number)
    columns = dict.fromkeys(key for row in rows for key in row)
    table = pa.table({str(c): json_array([row.get(c) for row in rows]) for c in columns if c != ROW})
    return table.append_column(ROW, pa.array(numbers, pa.int64())), bad


def json_array(values: list[Any]) -> pa.Array:
    """An Arrow array of JSON values; where types clash or surrogates stand alone, each as JSON text."""
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([_as_text(v) for v in values], pa.string())
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _as_text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "ignore").decode()


def _read_csv(raw: bytes, delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    bad: list[BadRow] = []

    def on_invalid(row: Any) -> str:  # noqa: ANN401 - pyarrow's InvalidRow
        # pyarrow counts lines that hold rows, the header being the first
        bad.append(
            BadRow((row.number or 1) - 1, f"{row.actual_columns} columns, expected {row.expected_columns}")
        )
        return "skip"

    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        return pa.table({ROW: pa.array([], pa.int64())}), bad
    header = pcsv.open_csv(
        io.BytesIO(raw),
        parse_options=pcsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda _: "skip"
        ),
        convert_options=pcsv.ConvertOptions(check_utf8=False),
    ).schema.names
    table = pcsv.read_csv(
        io.BytesIO(raw),
        # one thread, so that invalid rows know their numbers
        read_options=pcsv.ReadOptions(use_threads=False, block_size=min(len(raw) + 1, _CSV_BLOCK_BYTES)),
        parse_options=pcsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_invalid
        ),
        convert_options=pcsv.ConvertOptions(
            column_types={name: pa.binary() for name in header}, check_utf8=False, strings_can_be_null=True,
            null_values=[""], quoted_strings_can_be_null=True,
        ),
    )  # fmt: skip
    skipped = {b.row for b in bad}
    numbers = [n for n in range(1, table.num_rows + len(skipped) + 1) if n not in skipped]
    table = table.append_column(ROW, pa.array(numbers, pa.int64()))
    return _decode_columns(table, bad)


def _decode_columns(table: pa.Table, bad: list[BadRow]) -> tuple[pa.Table, list[BadRow]]:
    """Binary columns as strings; rows whose bytes are not UTF-8 go to `bad`."""
    try:
        return _cast_strings(table), bad
    except pa.ArrowInvalid:
        pass  # some cell is not UTF-8: find the rows
    good = []
    for index, row in enumerate(table.to_pylist()):
        wrong = [k for k, v in row.items() if isinstance(v, bytes) and not _is_utf8(v)]
        if wrong:
            bad.append(BadRow(row[ROW], f"column {wrong[0]} is not UTF-8; save the file as UTF-8"))
        else:
            good.append(index)
    return _cast_strings(table.take(pa.array(good, pa.int64()))), bad


def _cast_strings(table: pa.Table) -> pa.Table:
    return pa.table(
        {
            n: c if n == ROW else pc.cast(c, pa.string())
            for n, c in zip(table.column_names, table.columns, strict=True)
        }
    )


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
