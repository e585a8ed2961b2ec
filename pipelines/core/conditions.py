"""Conditions on item metadata, as a mask over items.

A condition is a value (equal to it), a list (equal to any), or {"min": a, "max": b} (a <= value <= b). On a
column that holds lists, such as categories, equality means that the list contains it. Dates and timestamps
compare as seconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import arrow_seconds
from pipelines.core.errors import InputError

Scalar = str | int | float | bool
Condition = Scalar | list[Scalar] | dict[str, float]
Filter = dict[str, Condition]


def condition_mask(items: pa.Table, conditions: Filter, what: str = "filter") -> npt.NDArray[np.bool_]:
    """Rows that meet every condition; an item without a value meets none.

    Args:
        items: their metadata.
        conditions: by column.
        what: has these conditions, for the messages.

    Raises:
        InputError: an unknown column, or a condition its type cannot be compared with.

    """
    mask = np.ones(items.num_rows, dtype=bool)
    for name, condition in conditions.items():
        if name not in items.column_names:
            raise InputError(f"{what}: no column '{name}'; the items have {', '.join(items.column_names)}.")
        mask &= _meets(items.column(name), name, condition, what)
    return mask


def _meets(column: pa.ChunkedArray, name: str, condition: Condition, what: str) -> npt.NDArray[np.bool_]:
    try:
        if isinstance(condition, dict):
            return _within(_as_numbers(column), name, condition, what)
        wanted = condition if isinstance(condition, list) else [condition]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            rows = column.combine_chunks()
            found = np.zeros(len(rows), dtype=bool)
            hits = _is_any(pa.chunked_array([rows.flatten()]), wanted)
            found[pc.list_parent_indices(rows).to_numpy()[hits]] = True
            return found
        return _is_any(column, wanted)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as e:
        raise InputError(
            f"{what}: {condition!r} cannot be compared with column '{name}' of {column.type}."
        ) from e


def _is_any(column: pa.ChunkedArray, wanted: list[Any]) -> npt.NDArray[np.bool_]:
    if any(isinstance(v, bool) for v in wanted) and not pa.types.is_boolean(column.type):
        raise pa.ArrowTypeError("true or false is no number")  # Arrow would take it for 1 or 0
    if pa.types.is_decimal(column.type) or pa.types.is_temporal(column.type):
        column = _as_numbers(column)
    if pa.types.is_integer(column.type):  # 1.0 is 1, and 1.5 is no whole number
        wanted = [v for v in wanted if not isinstance(v, float) or v.is_integer()]
        wanted = [int(v) if isinstance(v, float) else v for v in wanted]
    return _bools(pc.is_in(column, value_set=pa.array(wanted, column.type)))


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return arrow_seconds(column)
    if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    return column


def _within(column: pa.ChunkedArray, name: str, bounds: dict[str, float], what: str) -> npt.NDArray[np.bool_]:
    if not bounds or not bounds.keys() <= {"min", "max"}:
        raise InputError(f"{what}: {bounds!r} on '{name}': expected min, max or both.")
    mask = _bools(pc.is_valid(column))
    if "min" in bounds:
        mask &= _bools(pc.greater_equal(column, _bound(bounds["min"], column)))
    if "max" in bounds:
        mask &= _bools(pc.less_equal(column, _bound(bounds["max"], column)))
    return mask


def _bound(value: float, column: pa.ChunkedArray) -> pa.Scalar:
    # in single precision 19.99 is not 19.99: the bound is rounded as the values were
    return pa.scalar(value, column.type) if pa.types.is_floating(column.type) else pa.scalar(value)


def _bools(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False).to_numpy(), dtype=bool)
