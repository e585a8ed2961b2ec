"""Single columns as the caller wrote them, turned into what the model needs; what cannot be is rejected."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.readers import Chunk
from pipelines.core.schema import IS_HIDDEN, REJECTS, ROW, TIMESTAMP
from pipelines.core.text_files import BadRow

_CONTROL = r"[\x00-\x1f\x7f]"
_MAX_ID_BYTES = 512
MILLISECONDS_FROM = 1e11
"""Seconds since 1970 reach this in the year 5138; whoever sends more sends milliseconds."""


class Rejects:
    """Collects the reason of each rejected row; the first reason counts."""

    def __init__(self, chunk: Chunk, table: pa.Table) -> None:
        """Start with nothing rejected; `table` has the readers' row numbers."""
        self.chunk = chunk
        self.numbers = table.column(ROW).to_numpy()
        self._reason = np.full(table.num_rows, -1, dtype=np.int64)
        """(n,) into `_words`, -1 for rows that stay."""
        self._words: list[str] = []

    @property
    def reasons(self) -> dict[int, str]:
        """The reason of each rejected row, by its index in the chunk."""
        return {int(i): self._words[self._reason[i]] for i in self._indices()}

    def _indices(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self._reason >= 0)

    def add(self, indices: Sequence[int] | npt.NDArray[np.int64], reason: str) -> None:
        """Reject the rows at `indices` of the chunk."""
        self.add_each(indices, np.zeros(len(indices), dtype=np.int64), [reason])

    def add_each(
        self,
        indices: Sequence[int] | npt.NDArray[np.int64],
        which: npt.NDArray[np.int64],
        reasons: Sequence[str],
    ) -> None:
        """Reject the row at each of `indices` for the reason that `which` picks."""
        rows = np.asarray(indices, dtype=np.int64)
        fresh = self._reason[rows] < 0
        if fresh.any():
            self._reason[rows[fresh]] = len(self._words) + which[fresh]
            self._words.extend(reasons)

    def keep_mask(self) -> npt.NDArray[np.bool_]:
        """Rows that were not rejected."""
        return self._reason < 0

    def to_table(self, table: pa.Table, bad: list[BadRow], shown: Sequence[str]) -> pa.Table:
        """Rejects with the columns `shown` as their record, enough to find the row and no personal text."""
        shown = [c for c in shown if c in table.column_names]
        indices = self._indices()
        records = table.select(shown).take(pa.array(indices)).to_pylist() if len(indices) else []
        reasons = pa.array(self._words, pa.string()).take(pa.array(self._reason[indices]))
        n = len(indices) + len(bad)
        columns = [
            pa.repeat(self.chunk.table, n),
            pa.repeat(self.chunk.path, n),
            pa.array(np.append(self.numbers[indices], [b.row for b in bad]).astype(np.int64)),
            pa.concat_arrays([reasons, pa.array([b.reason for b in bad], pa.string())]),
            pa.array([_short_json(r) for r in records] + [""] * len(bad), pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=REJECTS)


def _short_json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:500]


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def string_values(column: pa.ChunkedArray) -> pa.Array:
    """Each value as a string, null where absent."""
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        return one_array(column.cast(pa.string()))
    return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())


def id_values(table: pa.Table, name: str, rejects: Rejects) -> pa.Array:
    """Ids as strings. Whole numbers become their digits; anything else that is no string is a reject."""
    column = one_array(table.column(name))
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        ids = pc.utf8_trim_whitespace(column.cast(pa.string()))
    else:
        ids = pa.array([_id_text(v, i, name, rejects) for i, v in enumerate(column.to_pylist())], pa.string())
    # an empty id and one that is absent are the same to us
    length = pc.fill_null(pc.binary_length(ids), 0).to_numpy(zero_copy_only=False)
    rejects.add(np.flatnonzero(length == 0), f"{name} is missing")
    rejects.add(np.flatnonzero(length > _MAX_ID_BYTES), f"{name} is longer than {_MAX_ID_BYTES} bytes")
    wrong = (length == 0) | (length > _MAX_ID_BYTES)
    if pc.any(pc.match_substring_regex(pc.unique(ids), _CONTROL)).as_py():  # no route or log could name it
        odd = pc.fill_null(pc.match_substring_regex(ids, _CONTROL), False).to_numpy(zero_copy_only=False)
        rejects.add(np.flatnonzero(odd), f"{name} has a control character")
        wrong |= odd
    return pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), ids) if wrong.any() else ids


def _id_text(value: object, index: int, name: str, rejects: Rejects) -> str | None:
    """One id that came neither as a string nor as an integer; None for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, bytes):
        rejects.add([index], f"{name} is bytes that are not declared text")
    else:
        rejects.add([index], f"{name} is a {type(value).__name__}, expected a string or a whole number")
    return None


_HIDDEN_WORDS = {
    "true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False, "": False,
}  # fmt: skip


def hidden_flags(table: pa.Table, rejects: Rejects) -> pa.Array:
    """`is_hidden` as booleans; absent means shown. Text files write true/false, yes/no or 1/0."""
    if IS_HIDDEN not in table.column_names:
        return pa.array(np.zeros(table.num_rows, dtype=bool))
    words = pc.fill_null(string_values(table.column(IS_HIDDEN)), "").dictionary_encode()
    distinct, code = words.dictionary.to_pylist(), words.indices.to_numpy()
    flags = [_HIDDEN_WORDS.get(word.strip().lower()) for word in distinct]
    unknown = np.array([flag is None for flag in flags], dtype=bool)[code]
    reasons = [f"is_hidden is {word[:40]!r}, expected true or false" for word in distinct]
    rejects.add_each(np.flatnonzero(unknown), code[unknown], reasons)
    return pa.array(np.array([bool(flag) for flag in flags], dtype=bool)[code])


def number_values(column: pa.ChunkedArray, name: str, rejects: Rejects) -> npt.NDArray[np.float64]:
    """A column as float64, NaN where absent; values that are no numbers are rejects."""
    if pa.types.is_boolean(column.type):
        rejects.add(range(len(column)), f"{name} is true/false, expected a number")
        return np.full(len(column), np.nan)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    texts = string_values(column)
    numbers = written_numbers(texts)
    # a word for not-a-number is present and wrong, unlike an empty cell
    odd = np.flatnonzero(np.isnan(numbers) & _present(texts))
    named = pd.Series(_strings(texts, odd), dtype=object).str.strip().str.lower()
    is_nan, is_word = (named == "nan").to_numpy(dtype=bool), ~named.isin(["nan", ""]).to_numpy(dtype=bool)
    reasons = [f"{name} is {text[:40]!r}, expected a number" for text in _strings(texts, odd[is_word])]
    rejects.add_each(odd[is_word], np.arange(len(reasons)), reasons)
    rejects.add(odd[is_nan], f"{name} is NaN, expected a finite number")
    return numbers


_PLAIN_NUMBER = r"^-?([0-9]{1,15}|[0-9]{1,10}\.[0-9]{1,5})$"
"""No more than 15 digits: whoever reads these finds the same number."""


def written_numbers(texts: pa.Array) -> npt.NDArray[np.float64]:
    """What is written, NaN where nothing is or no number. Arrow reads plain decimals, pandas what is left."""
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN_NUMBER), False)
    numbers = pc.if_else(plain, texts, pa.scalar(None, pa.string())).cast(pa.float64())
    found = np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
    rest = np.flatnonzero(~plain.to_numpy(zero_copy_only=False) & _present(texts))
    if len(rest):
        others = pd.to_numeric(pd.Series(_strings(texts, rest), dtype=object), errors="coerce")
        found[rest] = others.to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _present(column: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))


def _strings(texts: pa.Array, rows: npt.NDArray[np.int64]) -> list[str]:
    return list(texts.take(pa.array(rows)).to_pylist())


def timestamp_values(table: pa.Table, rejects: Rejects) -> npt.NDArray[np.float64]:
    """Seconds since 1970 UTC, NaN where absent. Arrow timestamps and ISO 8601 strings are converted."""
    if TIMESTAMP not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column(TIMESTAMP)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        seconds = np.asarray(arrow_seconds(column).to_numpy(), dtype=np.float64)
    elif pa.types.is_string(column.type):
        seconds = _written_seconds(column, rejects)
    else:
        seconds = number_values(column, TIMESTAMP, rejects)
    rejects.add(np.flatnonzero(np.isinf(seconds)), "timestamp is not finite")
    large = np.abs(seconds) >= MILLISECONDS_FROM
    rejects.add(
        np.flatnonzero(large & np.isfinite(seconds)),
        "timestamp is too large for seconds; divide milliseconds by 1000",
    )
    return seconds


def arrow_seconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Arrow's dates and timestamps as seconds since 1970 UTC, whatever time zone they are to be shown in."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    per_second = {"s": 1e0, "ms": 1e3, "us": 1e6, "ns": 1e9}[column.type.unit]
    return pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), per_second)


def iso_seconds(texts: list[Any]) -> npt.NDArray[np.float64]:
    """(n,) seconds since 1970 UTC of ISO 8601, NaN where something else is written or nothing."""
    dates = pd.to_datetime(pd.Series(texts, dtype=object), errors="coerce", utc=True, format="ISO8601")
    moments = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    return np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)


def _written_seconds(column: pa.ChunkedArray, rejects: Rejects) -> npt.NDArray[np.float64]:
    texts = one_array(column)
    seconds = written_numbers(texts)
    rest = np.flatnonzero(np.isnan(seconds) & _present(texts))
    if len(rest):
        seconds[rest] = iso_seconds(_strings(texts, rest))
    wrong = rest[np.isnan(seconds[rest])]
    reasons = [f"timestamp is {t[:40]!r}, expected seconds or ISO 8601" for t in _strings(texts, wrong)]
    rejects.add_each(wrong, np.arange(len(wrong)), reasons)
    return seconds


_CSV_NUMBER = r"^[+-]?(0|[1-9][0-9]{0,14})(\.[0-9]+)?$"


def csv_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Metadata of a text file: numbers where every value is one, so that it can be filtered by range.

    A code such as 007 or a number of more than 15 digits is no number, nor is anything beside it.
    """
    if not pa.types.is_string(column.type):
        return column
    texts = pc.utf8_trim_whitespace(column)
    # of nothing at all it is neither true nor false
    if not pc.all(pc.match_substring_regex(texts, _CSV_NUMBER)).as_py():
        return column
    kind = pa.float64() if pc.any(pc.match_substring(texts, ".")).as_py() else pa.int64()
    return pc.replace_substring_regex(texts, r"^\+", "").cast(kind)  # Arrow's whole numbers know no plus
