"""Columns of dates as the caller has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipelines.core.columns import MILLISECONDS_FROM, arrow_seconds

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def date_seconds(column: pa.ChunkedArray) -> tuple[DoubleArray, BoolArray] | None:
    """(n,) seconds since 1970 UTC, NaN where there is no date, and (n,) where something else stands in its place.

    Args:
        column: dates, numbers, which are seconds, or ISO 8601.

    Returns:
        None for a column of a type that holds no dates.

    """
    kind = column.type
    nothing = np.zeros(len(column), dtype=bool)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), nothing
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return np.array(arrow_seconds(column).to_numpy(), dtype=np.float64), nothing
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        seconds = np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
        wrong = np.abs(seconds) >= MILLISECONDS_FROM
        return np.where(wrong, np.nan, seconds), wrong
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    texts = pd.Series(column.to_pylist(), dtype=object).replace("", None)
    dates = pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601")
    moments = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    seconds = np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)
    return seconds, (dates.isna() & texts.notna()).to_numpy(dtype=bool)
