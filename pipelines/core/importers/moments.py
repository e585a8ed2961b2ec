"""Moments as people write them, as seconds since 1970 UTC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import arrow_seconds, one_array, string_values

_UNITS = (
    ("seconds", 1e11, 1.0),
    ("milliseconds", 1e14, 1e3),
    ("microseconds", 1e17, 1e6),
    ("nanoseconds", 1e20, 1e9),
)
"""(name, below which, how many in a second): from 1973 until 5138 no number can be taken for another unit's."""
_FORMATS = ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d", "%Y年%m月%d日")
"""Beside ISO 8601, those that have one reading; 01/02/2024 has two."""


def seconds_of(
    column: pa.ChunkedArray, written_as: str | None
) -> tuple[npt.NDArray[np.float64], Counter[str]]:
    """(n,) seconds, NaN where nothing was written or nothing could be read, and how many of what was found.

    Args:
        column: numbers in any of four units, dates, or text.
        written_as: a `strptime` format that is tried first, then numbers; absent: ISO 8601 and
            what else has one reading.

    """
    found: Counter[str] = Counter()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        found["dates"] = len(column) - column.null_count
        return np.asarray(arrow_seconds(column).to_numpy(), dtype=np.float64), found
    texts = one_array(pc.utf8_trim_whitespace(string_values(column)))
    seconds = np.full(len(texts), np.nan)
    is_there = pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False)
    if written_as is not None:
        _read_dates(texts, np.flatnonzero(is_there), (written_as,), seconds, found)
    numbers = np.where(np.isnan(seconds), _numbers(texts), np.nan)
    with np.errstate(invalid="ignore"):
        month, day = numbers // 100 % 100, numbers % 100
        is_day = (
            (numbers >= 19000101)
            & (numbers < 21000101)
            & (month >= 1)
            & (month <= 12)
            & (day >= 1)
            & (day <= 31)
        )
    in_numbers = to_seconds(np.where(is_day, np.nan, numbers), found)
    seconds = np.where(np.isnan(seconds), in_numbers, seconds)
    if written_as is None:
        # eight digits are a day here, and a year with more digits to ISO 8601
        usual = (*_FORMATS, "ISO8601") if is_day.any() else ("ISO8601", *_FORMATS)
        _read_dates(texts, np.flatnonzero(np.isnan(seconds) & is_there), usual, seconds, found)
    found["unreadable"] += int((np.isnan(seconds) & is_there).sum())
    return seconds, +found


def _read_dates(
    texts: pa.Array,
    rows: npt.NDArray[np.int64],
    formats: Sequence[str],
    seconds: npt.NDArray[np.float64],
    found: Counter[str],
) -> None:
    """Fill in the seconds of those `rows` that are written in one of `formats`."""
    values = pd.Series(texts.take(pa.array(rows)).to_pylist(), dtype=object, index=rows)
    for form in formats:
        if not len(values):
            return
        dates = pd.to_datetime(values, errors="coerce", utc=True, format=form)
        moments = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        read = ~np.isnat(moments)
        seconds[values.index[read].to_numpy()] = moments[read].astype(np.int64) / 1e6
        found["dates"] += int(read.sum())
        values = values[~read]


def _numbers(texts: pa.Array) -> npt.NDArray[np.float64]:
    """What is a plain number, NaN where nothing is or something else."""
    plain = pc.fill_null(
        pc.match_substring_regex(texts, r"^-?[0-9]{1,19}(\.[0-9]+)?([eE]\+?[0-9]{1,2})?$"), False
    )
    kept = pc.if_else(plain, texts, pa.scalar(None, pa.string())).cast(pa.float64())
    return np.array(kept.to_numpy(zero_copy_only=False), dtype=np.float64)


def to_seconds(numbers: npt.NDArray[np.float64], found: Counter[str]) -> npt.NDArray[np.float64]:
    """(n,) numbers in seconds, whatever their unit; `found` counts how many had which."""
    seconds, low = np.full(len(numbers), np.nan), -1.0
    for name, below, per_second in _UNITS:
        with np.errstate(invalid="ignore"):
            mine = (np.abs(numbers) > low) & (np.abs(numbers) < below)
        seconds[mine] = numbers[mine] / per_second
        found[name] += int(mine.sum())
        low = np.nextafter(below, 0)
    return seconds
