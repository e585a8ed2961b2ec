"""JSON Lines and CSV as tables, so that one bad row costs one row."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from pipelines.core.schema import ROW

_BOM = b"\xef\xbb\xbf"
_CSV_BLOCK_BYTES = 64 << 20
_MAX_DEPTH = 16
"""Lists and objects nested deeper are kept as JSON text: Parquet has its limits, and nobody filters on them."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not even be parsed. Row 0 stands for the whole file."""

    row: int
    reason: str


def read_json_lines(raw: bytes) -> tuple[pa.Table, list[BadRow]]:
    """One row for each line that holds a JSON object; blank lines are none."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, line in enumerate(raw.removeprefix(_BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as e:
            bad.append(BadRow(number, f"not UTF-8 at byte {e.start} of the line"))
            continue
        except (ValueError, RecursionError) as e:  # also numbers of thousands of digits
            bad.append(BadRow(number, f"not JSON: {e}"))
            continue
        if not isinstance(row, dict):
            bad.append(BadRow(number, f"expected a JSON object, got {type(row).__name__}"))
            continue
        rows.append(row)
        numbers.append(number)
    columns = dict.fromkeys(key for row in rows for key in row)
    arrays = [json_array([row.get(c) for row in rows]) for c in columns]
    names = [_encodable(c) for c in columns]
    return pa.Table.from_arrays([*arrays, pa.array(numbers, pa.int64())], names=[*names, ROW]), bad


def json_array(values: list[Any]) -> pa.Array:
    """An Arrow array of JSON values; each as JSON text where types clash or Parquet could not hold them."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.array([_as_text(v) for v in values], pa.string())
    if not _is_storable(array.type):
        return pa.array([_as_text(v) for v in values], pa.string())
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _is_storable(kind: pa.DataType, depth: int = 0) -> bool:
    if pa.types.is_struct(kind):
        inner = [kind.field(i).type for i in range(kind.num_fields)]
        return depth < _MAX_DEPTH and bool(inner) and all(_is_storable(t, depth + 1) for t in inner)
    return not pa.types.is_list(kind) or (depth < _MAX_DEPTH and _is_storable(kind.value_type, depth + 1))


def _as_text(value: Any) -> str | None:  # noqa: ANN401 - JSON
    if value is None:
        return None
    return _encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _encodable(text: str) -> str:
    """Lone surrogates as U+FFFD; leaving them out could make one id of two."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_csv(raw: bytes, delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    """One row for each record, its cells strings that nobody has checked for UTF-8, null where empty."""
    raw = raw.removeprefix(_BOM)
    if not raw.strip():
        return pa.table({ROW: pa.array([], pa.int64())}), []
    raw += b"\n"
    is_utf8 = _is_utf8(raw)
    if not is_utf8:  # each byte as one character: pyarrow cannot report a bad row it cannot decode
        raw = raw.decode("latin-1").encode()
    # the end is marked by a record of our own: where it does not come back, an open quote has swallowed it
    names = _header(raw, delimiter)
    table, bad = _parse(raw + delimiter.join(["end"] * len(names)).encode(), names, delimiter)
    total = table.num_rows + len(bad)
    is_bad = bool(bad) and bad[-1].row == total
    rest = table if is_bad else table.slice(0, table.num_rows - 1)
    if is_bad or any(c[-1].as_py() != b"end" for c in table.columns):
        bad = [b for b in bad if b.row != total]
        bad.append(BadRow(total, "a quote is opened and never closed: the file cannot be read from here on"))
    taken = {b.row for b in bad}
    numbers = [n for n in range(1, total + 1) if n not in taken][: rest.num_rows]
    if not is_utf8:
        names = [name.encode("latin-1").decode() for name in names]
    names = [name.strip() for name in names]  # "item_id, title" means title
    strings = [(c if is_utf8 else _original(c)).cast(pa.string(), safe=False) for c in rest.columns]
    return pa.Table.from_arrays([*strings, pa.array(numbers, pa.int64())], names=[*names, ROW]), bad


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _original(column: pa.ChunkedArray) -> pa.Array:
    """Cells as the bytes they were in the file."""
    values = [None if v is None else v.decode().encode("latin-1") for v in column.to_pylist()]
    return pa.array(values, pa.binary())


def _header(raw: bytes, delimiter: str) -> list[str]:
    reader = pcsv.open_csv(
        io.BytesIO(raw),
        read_options=_read_options(raw),
        parse_options=pcsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=lambda _: "skip"
        ),
        convert_options=pcsv.ConvertOptions(check_utf8=False),
    )
    return list(reader.schema.names)


def _parse(raw: bytes, names: list[str], delimiter: str) -> tuple[pa.Table, list[BadRow]]:
    bad: list[BadRow] = []

    def on_invalid(row: Any) -> str:  # noqa: ANN401 - pyarrow's InvalidRow
        # pyarrow counts records, the header being the first
        bad.append(BadRow(row.number - 1, f"{row.actual_columns} columns, expected {row.expected_columns}"))
        return "skip"

    table = pcsv.read_csv(
        io.BytesIO(raw),
        read_options=_read_options(raw),
        parse_options=pcsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_invalid
        ),
        convert_options=pcsv.ConvertOptions(
            column_types={name: pa.binary() for name in names}, check_utf8=False, strings_can_be_null=True,
            null_values=[""], quoted_strings_can_be_null=True,
        ),
    )  # fmt: skip
    return table, bad


def _read_options(raw: bytes) -> pcsv.ReadOptions:
    # one thread, so that invalid rows know their numbers
    return pcsv.ReadOptions(use_threads=False, block_size=min(len(raw) + 16, _CSV_BLOCK_BYTES))
