"""Moments as people write them, as seconds since 1970 UTC."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import arrow_seconds, string_values

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
        written_as: a `strptime` format of text; absent: ISO 8601 and what else has one reading.

    """
    found: Counter[str] = Counter()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        found["dates"] = len(column) - column.null_count
        return np.asarray(arrow_seconds(column).to_numpy(), dtype=np.float64), found
    texts = pc.utf8_trim_whitespace(string_values(column))
    values = pd.Series(texts.to_pylist(), dtype=object)
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if written_as is not None:
        numbers = np.full(len(values), np.nan)
    is_day = values.str.fullmatch(r"(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", na=False).to_numpy(
        dtype=bool
    )
    seconds = np.where(is_day, np.nan, to_seconds(numbers, found, ~is_day))
    rest = np.flatnonzero(np.isnan(seconds) & (values.fillna("") != "").to_numpy(dtype=bool))
    # eight digits are a day here, and a year with more digits to ISO 8601
    usual = (*_FORMATS, "ISO8601") if is_day.any() else ("ISO8601", *_FORMATS)
    for form in (written_as,) if written_as else usual:
        if not len(rest):
            break
        dates = pd.to_datetime(values.iloc[rest], errors="coerce", utc=True, format=form)
        moments = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        read = ~np.isnat(moments)
        seconds[rest[read]] = moments[read].astype(np.int64) / 1e6
        found["dates"] += int(read.sum())
        rest = rest[~read]
    found["unreadable"] += len(rest)
    return seconds, +found


def to_seconds(
    numbers: npt.NDArray[np.float64], found: Counter[str], counted: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """(n,) numbers in seconds, whatever their unit; `found` counts how many had which."""
    seconds, low = np.full(len(numbers), np.nan), -1.0
    for name, below, per_second in _UNITS:
        with np.errstate(invalid="ignore"):
            mine = (np.abs(numbers) > low) & (np.abs(numbers) < below)
        seconds[mine] = numbers[mine] / per_second
        found[name] += int((mine if counted is None else mine & counted).sum())
        low = np.nextafter(below, 0)
    return seconds
