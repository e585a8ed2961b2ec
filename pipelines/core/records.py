"""Items as callers of the service describe them, made into rows as a build would: checked and cleaned alike."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.readers import Chunk
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, N_INTERACTIONS, N_WANTED, RESERVED, ROW, TEXT
from pipelines.core.validate import check_entities

Row = dict[str, Any]
SOURCE = "the service"
"""Where rows are from that no file of the caller's has."""
_MADE = frozenset({ITEM_ID, TEXT, *RESERVED})
"""Columns that nobody gives."""
_WRONG = (pa.ArrowException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a value may raise that is none of its column."""


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
        _read_as(name, value, columns[name])


def to_row(
    item_id: str, fields: Mapping[str, Any], table: pa.Table, config: Config, beside: Row | None = None
) -> Row:
    """All columns of `table` for one item without behaviour; what is not given is empty.

    Args:
        item_id: of the item.
        fields: column to value, as JSON says it.
        table: of the items of a version.
        config: of that version.
        beside: a row of `table`, whose values stay where `fields` says nothing.

    Raises:
        InputError: a build would reject the item; says why.

    """
    check_fields(fields, own_columns(table, config))
    (row,) = to_rows([Change(item_id, fields, beside)], table, config)
    if isinstance(row, str):
        raise InputError(f"item {item_id[:80]!r}: {row}")
    return row


@dataclass(frozen=True)
class Change:
    """What is said of one item, see `to_row`."""

    item_id: str
    fields: Mapping[str, Any]
    beside: Row | None = None


def to_rows(changes: Sequence[Change], table: pa.Table, config: Config) -> list[Row | str]:
    """The same for many: rows, or why a build would reject them. Fields of columns that `table` has not are left."""
    columns = own_columns(table, config)
    found: list[Row | str] = []
    given: list[Row] = []
    for change in changes:
        try:
            said = {n: _read_as(n, v, columns[n]) for n, v in change.fields.items() if n in columns}
        except InputError as e:
            found.append(str(e))
            continue
        beside = {name: value for name, value in (change.beside or {}).items() if name in columns}
        given.append({**beside, **said, ITEM_ID: change.item_id, ROW: len(found)})
        found.append("")
    if given:
        names = dict.fromkeys(name for row in given for name in row)
        kinds = {**columns, ITEM_ID: pa.string(), ROW: pa.int64()}
        chunk = Chunk("items", 0, "", SOURCE, None, 0)
        told = pa.Table.from_pylist(given, pa.schema([(name, kinds[name]) for name in names]))
        checked = check_entities(chunk, told, [], config)
        for place, reason in zip(
            checked.rejects.column("row").to_pylist(),
            checked.rejects.column("reason").to_pylist(),
            strict=True,
        ):
            found[place] = reason
        for row in checked.table.to_pylist():
            known = {name: row.get(name) for name in table.column_names}
            found[row["_row"]] = known | {IS_HIDDEN: bool(row[IS_HIDDEN]), N_INTERACTIONS: 0, N_WANTED: 0}
    return found


def _read_as(name: str, value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - what JSON can say
    """A value of its column, as Arrow takes it.

    Raises:
        InputError: it is none of this kind.

    """
    try:
        read = _read(value, kind)
        pa.array([read], kind)
    except _WRONG as e:
        raise InputError(f"fields: {name} is {str(value)[:80]!r}, expected {_how(kind)}.") from e
    return read


def _how(kind: pa.DataType) -> str:
    written = ""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        written = "text such as 2026-01-31T12:00:00" + ("+00:00" if getattr(kind, "tz", None) else "")
    return f"{kind}, as {written}" if written else str(kind)


def _read(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - what JSON can say, and what Arrow takes
    """A value for Arrow, which by itself would cut numbers, pass over fields and take true for 1.

    Raises:
        ValueError: or another of `_WRONG`: it is none of this kind.

    """
    if value is None:
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_read(one, kind.value_type) for one in _a(value, list)]
    if pa.types.is_struct(kind):
        return {name: _read(one, kind.field(name).type) for name, one in _a(value, dict).items()}
    for is_kind, read in _READERS:
        if is_kind(kind):
            return read(value, kind)
    return value


def _a(value: Any, *types: type) -> Any:  # noqa: ANN401
    """The value, if it is of one of these types; true is no number."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeError
    return value


def _whole(value: Any, _kind: pa.DataType) -> int:  # noqa: ANN401
    if _a(value, int, float) != int(value):
        raise ValueError
    return int(value)


def _number(value: Any, kind: pa.DataType) -> float:  # noqa: ANN401
    if not abs(_a(value, int, float)) <= float(np.finfo(kind.to_pandas_dtype()).max):
        raise ValueError
    return float(value)


def _moment(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401
    return pa.scalar(_a(value, str)).cast(kind).as_py()


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.DataType], Any]], ...] = (
    (pa.types.is_boolean, lambda value, _: _a(value, bool)),
    (pa.types.is_integer, _whole),
    (pa.types.is_floating, _number),
    (pa.types.is_decimal, lambda value, _: Decimal(str(_a(value, int, float, str)))),
    (pa.types.is_time, lambda value, _: time.fromisoformat(_a(value, str))),
    (pa.types.is_duration, lambda value, _: timedelta(seconds=_a(value, int, float))),
    (pa.types.is_temporal, _moment),
    (pa.types.is_binary, lambda value, _: base64.b64decode(_a(value, str), validate=True)),
)
"""How values of a kind are written in JSON: as `serving.metadata` writes them."""
