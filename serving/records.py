"""An item as a caller describes it, made into a row as a build would: the same checks, the same cleaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.readers import Chunk
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, N_INTERACTIONS, N_WANTED, RESERVED, ROW, TEXT
from pipelines.core.validate import check_entities

Row = dict[str, Any]
_MADE = frozenset({ITEM_ID, TEXT, *RESERVED})
"""Columns that nobody gives."""


def own_columns(table: pa.Table, config: Config) -> dict[str, pa.DataType]:
    """Name to type of what a caller may say of an item, as in the items of this version."""
    tags = {c for name in config.attributes.labels for c in (name, f"{name}_confidence")}
    return {f.name: f.type for f in table.schema if f.name not in _MADE | tags}


def check_fields(fields: Mapping[str, Any], columns: Mapping[str, pa.DataType]) -> None:
    """See that each value is one of its column.

    Raises:
        InputError: it is not, or there is no such column; names it and what was expected.

    """
    for name, value in fields.items():
        if name not in columns:
            raise InputError(
                f"fields: no column {name[:80]!r} that can be given; expected some of {', '.join(sorted(columns))}. "
                "A new column comes with the next build."
            )
        _array(name, value, columns[name])


def to_row(item_id: str, fields: Mapping[str, Any], table: pa.Table, config: Config) -> Row:
    """All columns of `table` for one item without behaviour; what is not given is empty.

    Raises:
        InputError: a build would reject the item; says why.

    """
    columns = own_columns(table, config)
    check_fields(fields, columns)
    given = {name: _array(name, value, columns[name]) for name, value in fields.items()}
    one = pa.table({ITEM_ID: pa.array([item_id], pa.string()), **given, ROW: pa.array([1], pa.int64())})
    chunk = Chunk("items", 0, "", "the service", None, 0)
    checked = check_entities(chunk, one, [], config)
    if checked.rejects.num_rows:
        raise InputError(f"item {item_id[:80]!r}: {checked.rejects.column('reason')[0].as_py()}")
    (row,) = checked.table.to_pylist()
    known = {name: row.get(name) for name in table.column_names}
    return known | {IS_HIDDEN: bool(row[IS_HIDDEN]), N_INTERACTIONS: 0, N_WANTED: 0}


def _array(name: str, value: Any, kind: pa.DataType) -> pa.Array:  # noqa: ANN401 - what JSON can say
    try:
        if isinstance(value, bool) and not pa.types.is_boolean(kind):
            raise pa.ArrowTypeError("true or false is no number")  # Arrow would take it for 1 or 0
        if isinstance(value, str) and pa.types.is_nested(kind):
            raise pa.ArrowTypeError("a text is no list")  # Arrow would take its characters for one
        if isinstance(value, str) and pa.types.is_temporal(kind):
            return pa.array([value]).cast(kind)
        if isinstance(value, float) and pa.types.is_integer(kind) and not value.is_integer():
            raise pa.ArrowTypeError("no whole number")  # Arrow would cut it
        if isinstance(value, int) and pa.types.is_floating(kind):
            value = float(value)
        return pa.array([value], kind)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError, ValueError) as e:
        raise InputError(f"fields: {name} is {str(value)[:80]!r}, expected {kind}.") from e
