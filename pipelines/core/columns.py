"""Single columns as the caller wrote them, turned into what the model needs; what cannot be is rejected."""

from __future__ import annotations

import json
import math
import re
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

_MAX_ID_BYTES = 512
_MILLISECONDS_FROM = 1e11
"""Seconds since 1970 reach this in the year 5138; whoever sends more sends milliseconds."""


class Rejects:
    """Collects the reason of each rejected row; the first reason counts."""

    def __init__(self, chunk: Chunk, table: pa.Table) -> None:
        """Start with nothing rejected; `table` has the readers' row numbers."""
        self.chunk = chunk
        self.numbers = table.column(ROW).to_numpy()
        self.reasons: dict[int, str] = {}
        self.records: dict[int, str] = {}

    def add(self, indices: Sequence[int] | npt.NDArray[np.int64], reason: str) -> None:
        """Reject the rows at `indices` of the chunk."""
        for index in indices:
            self.reasons.setdefault(int(index), reason)

    def keep_mask(self) -> npt.NDArray[np.bool_]:
        """Rows that were not rejected."""
        mask = np.ones(len(self.numbers), dtype=bool)
        mask[list(self.reasons)] = False
        return mask

    def to_table(self, table: pa.Table, bad: list[BadRow], shown: Sequence[str]) -> pa.Table:
        """Rejects with the columns `shown` as their record, enough to find the row and no personal text."""
        shown = [c for c in shown if c in table.column_names]
        indices = sorted(self.reasons)
        records = table.select(shown).take(pa.array(indices, pa.int64())).to_pylist() if indices else []
        rows = [
            {"row": int(self.numbers[i]), "reason": self.reasons[i], "record": _short_json(record)}
            for i, record in zip(indices, records, strict=True)
        ] + [{"row": b.row, "reason": b.reason, "record": ""} for b in bad]
        for row in rows:
            row |= {"table": self.chunk.table, "source": self.chunk.path}
        return pa.Table.from_pylist(rows, schema=REJECTS)


def _short_json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:500]


def string_values(column: pa.ChunkedArray) -> list[str | None]:
    """Each value as a string, None where absent."""
    if pa.types.is_string(column.type):
        return list(column.to_pylist())
    return [None if v is None else str(v) for v in column.to_pylist()]


def id_values(table: pa.Table, name: str, rejects: Rejects) -> list[str | None]:
    """Ids as strings. Whole numbers become their digits; anything else that is no string is a reject."""
    ids: list[str | None] = []
    for index, value in enumerate(table.column(name).to_pylist()):
        text: str | None = None
        if isinstance(value, bytes):
            rejects.add([index], f"{name} is bytes that are not declared text")
        elif isinstance(value, str):
            text = value.strip()
        elif isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
        elif isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
            text = str(int(value))
        elif value is not None and not (isinstance(value, float) and math.isnan(value)):
            rejects.add([index], f"{name} is a {type(value).__name__}, expected a string or a whole number")
        if not text:
            rejects.add([index], f"{name} is missing")
        elif len(text.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES:
            rejects.add([index], f"{name} is longer than {_MAX_ID_BYTES} bytes")
            text = None
        ids.append(text or None)
    return ids


def hidden_flags(table: pa.Table, rejects: Rejects) -> pa.Array:
    """`is_hidden` as booleans; absent means shown. Text files write true/false, yes/no or 1/0."""
    if IS_HIDDEN not in table.column_names:
        return pa.array(np.zeros(table.num_rows, dtype=bool))
    words = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False, "": False}  # fmt: skip  # noqa: E501
    flags = []
    for index, value in enumerate(table.column(IS_HIDDEN).to_pylist()):
        flag = words.get(str("" if value is None else value).strip().lower())
        if flag is None:
            rejects.add([index], f"is_hidden is {str(value)[:40]!r}, expected true or false")
        flags.append(bool(flag))
    return pa.array(flags)


def number_values(column: pa.ChunkedArray, name: str, rejects: Rejects) -> npt.NDArray[np.float64]:
    """A column as float64, NaN where absent; values that are no numbers are rejects."""
    if pa.types.is_boolean(column.type):
        rejects.add(range(len(column)), f"{name} is true/false, expected a number")
        return np.full(len(column), np.nan)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    texts = pd.Series(string_values(column), dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    named = texts.fillna("").str.strip().str.lower()
    wrong = np.isnan(numbers) & texts.notna().to_numpy() & ~named.isin(["nan", ""]).to_numpy()
    for index in np.flatnonzero(wrong):
        rejects.add([int(index)], f"{name} is {texts[index][:40]!r}, expected a number")
    # a word for not-a-number is present and wrong, unlike an empty cell
    rejects.add(np.flatnonzero(named == "nan"), f"{name} is NaN, expected a finite number")
    return numbers


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
    large = np.abs(seconds) >= _MILLISECONDS_FROM
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


def _written_seconds(column: pa.ChunkedArray, rejects: Rejects) -> npt.NDArray[np.float64]:
    texts = pd.Series(column.to_pylist(), dtype=object)
    seconds = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    dates = pd.to_datetime(texts.where(np.isnan(seconds)), errors="coerce", utc=True, format="ISO8601")
    moments = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    parsed = np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)
    seconds = np.where(np.isnan(seconds), parsed, seconds)
    for index in np.flatnonzero(np.isnan(seconds) & texts.notna().to_numpy()):
        rejects.add([int(index)], f"timestamp is {str(texts[index])[:40]!r}, expected seconds or ISO 8601")
    return seconds


_CSV_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,14})(\.\d+)?", re.ASCII)


def csv_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Metadata of a text file: numbers where every value is one, so that it can be filtered by range.

    A code such as 007 or a number of more than 15 digits is no number, nor is anything beside it.
    """
    if not pa.types.is_string(column.type):
        return column
    texts = [v.strip() for v in column.to_pylist() if v is not None]
    if not texts or not all(_CSV_NUMBER.fullmatch(text) for text in texts):
        return column
    kind = pa.float64() if any("." in text for text in texts) else pa.int64()
    return pc.utf8_trim_whitespace(column).cast(kind)
