"""Columns of dates as the caller has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import MILLISECONDS_FROM, arrow_seconds, iso_seconds, one_array, written_numbers

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
_DAYS_AND_YEARS = ((1800, 2200), (18_000_101, 22_001_231))
"""Numbers that are a year or a day such as 20260131; as seconds they would be of 1970."""


def date_seconds(column: pa.ChunkedArray) -> tuple[DoubleArray, BoolArray] | None:
    """(n,) seconds since 1970 UTC, NaN where there is no date, and (n,) where something else stands in its place.

    Args:
        column: dates, numbers, which are seconds, or texts of ISO 8601 or of such numbers.

    Returns:
        None for a column of a type that holds no dates.

    """
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan), np.zeros(len(column), dtype=bool)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds = np.array(arrow_seconds(column).to_numpy(), dtype=np.float64)
        return seconds, np.zeros(len(column), dtype=bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
        seconds = _as_seconds(numbers)
        return seconds, np.isnan(seconds) & ~np.isnan(numbers)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    texts = one_array(pc.utf8_trim_whitespace(column.cast(pa.string())))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    dates = iso_seconds(texts.to_pylist())
    seconds = np.where(np.isnan(dates), _as_seconds(written_numbers(texts)), dates)
    return seconds, np.isnan(seconds) & texts.is_valid().to_numpy(zero_copy_only=False)


def _as_seconds(numbers: DoubleArray) -> DoubleArray:
    """NaN for what is no moment in seconds."""
    wrong = ~(np.abs(numbers) < MILLISECONDS_FROM)
    for low, high in _DAYS_AND_YEARS:
        wrong |= (numbers >= low) & (numbers <= high)
    return np.where(wrong, np.nan, numbers)
