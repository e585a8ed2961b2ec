"""What concerns all parts of a clean table: duplicates, one schema, numbers for ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.columns import one_array
from pipelines.core.errors import InputError
from pipelines.core.ids import row_numbers
from pipelines.core.schema import ID_COLUMN, REJECTS, TEXT, USER_ID, USER_IDX, TableName
from pipelines.core.storage import part_paths


@dataclass(frozen=True)
class Duplicates:
    """Which rows of a table stay.

    Attributes:
        ids: one column, the ids that stay, in order: their row numbers from here on.
        keep: for each part, a mask over its rows.
        rejects: later rows whose id was there already with another text.
        n_merged: later rows that say the same again, left out without harm.

    """

    ids: pa.Table
    keep: list[npt.NDArray[np.bool_]]
    rejects: pa.Table
    n_merged: int


def find_duplicates(paths: Sequence[Path], table: TableName) -> Duplicates:
    """Keep the first row of each id. Holds the ids of the whole table, and texts only of ids that come again."""
    id_column = ID_COLUMN[table]
    ids = _column(paths, id_column, pa.string())
    code = ids.dictionary_encode().indices.to_numpy()
    # numbers are given in the order of appearance: an id is new where its number is above all before it
    is_first = np.diff(np.maximum.accumulate(code), prepend=-1) > 0
    first_rows = np.flatnonzero(is_first)
    again = np.flatnonzero(~is_first)
    differs = again[_texts_differ(paths, again, first_rows[code[again]])]
    sources, rows = _column(paths, "_source", pa.string()), _column(paths, "_row", pa.int64())
    rejects = pa.table(
        {
            "table": pa.repeat(table, len(differs)),
            "source": sources.take(pa.array(differs)),
            "row": rows.take(pa.array(differs)),
            "reason": pa.repeat(f"{id_column} was there already with a different text", len(differs)),
            "record": ids.take(pa.array(differs)),
        },
        schema=REJECTS,
    )
    ends = np.cumsum([pq.read_metadata(path).num_rows for path in paths])
    keep = np.split(is_first, ends[:-1]) if paths else []
    kept = pa.table({id_column: ids.filter(pa.array(is_first))})
    return Duplicates(kept, keep, rejects, len(again) - len(differs))


def _column(paths: Sequence[Path], name: str, kind: pa.DataType) -> pa.Array:
    """One column of all parts."""
    chunks = [c for path in paths for c in pq.read_table(path, columns=[name]).column(0).chunks]
    return pa.concat_arrays([c.cast(kind) for c in chunks]) if chunks else pa.array([], kind)


def _texts_differ(
    paths: Sequence[Path], rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """(n,) whether the text of each of `rows` is not that of the row beside it in `others`."""
    if not len(rows):
        return np.zeros(0, dtype=bool)
    asked = np.unique(np.concatenate([rows, others]))
    pieces: list[pa.Array] = []
    start = 0
    for path in paths:
        stop = start + pq.read_metadata(path).num_rows
        inside = asked[(asked >= start) & (asked < stop)]
        if len(inside):
            texts = pq.read_table(path, columns=[TEXT]).column(0).take(pa.array(inside - start))
            pieces += texts.chunks
        start = stop
    code = pa.chunked_array(pieces).combine_chunks().dictionary_encode().indices.to_numpy()
    return np.asarray(code[np.searchsorted(asked, rows)] != code[np.searchsorted(asked, others)])


def first_of_each(paths: Sequence[Path]) -> list[npt.NDArray[np.bool_]]:
    """For each part, a mask over its rows: those that no row before equals in every column."""
    if not paths:
        return []
    parts = [pq.read_table(path) for path in paths]
    table = pa.concat_tables(parts)
    fresh = np.zeros(table.num_rows, dtype=bool)
    rows = table.append_column("_first", pa.array(np.arange(table.num_rows)))
    grouped = rows.group_by(table.column_names, use_threads=False).aggregate([("_first", "min")])
    fresh[grouped.column("_first_min").to_numpy()] = True
    return np.split(fresh, np.cumsum([len(part) for part in parts])[:-1])


def common_schema(paths: Sequence[Path]) -> pa.Schema:
    """One schema for all parts; a column whose types clash between files becomes a string."""
    fields: dict[str, pa.Field] = {}
    for path in paths:
        for field in pq.read_schema(path).remove_metadata():
            known = fields.get(field.name)
            fields[field.name] = field if known is None else _common_field(known, field)
    return pa.schema([f for name, f in fields.items() if name not in ("_source", "_row")])


def _common_field(a: pa.Field, b: pa.Field) -> pa.Field:
    text = pa.field(a.name, pa.string())
    kinds = {f.type for f in (a, b) if not pa.types.is_null(f.type)}
    # Arrow's common type of these cannot hold all their values: uint64 becomes int64, seconds nanoseconds
    if len(kinds) > 1 and any(pa.types.is_temporal(k) or pa.types.is_uint64(k) for k in kinds):
        return text
    try:
        return pa.unify_schemas([pa.schema([a]), pa.schema([b])], promote_options="permissive").field(0)
    except pa.ArrowException:
        return text


def conform(part: pa.Table, schema: pa.Schema, keep: npt.NDArray[np.bool_]) -> pa.Table:
    """The kept rows of a part under the common schema; absent columns are null.

    Raises:
        InputError: values that the common type cannot hold.

    """
    part = part.filter(pa.array(keep))
    columns = []
    for field in schema:
        if field.name not in part.column_names:
            columns.append(pa.nulls(part.num_rows, field.type))
            continue
        column = part.column(field.name)
        if pa.types.is_string(field.type) and not pa.types.is_string(column.type):
            column = pa.chunked_array(
                [pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())]
            )
        try:
            # whole numbers beyond 2^53 become the nearest float
            columns.append(column.cast(field.type, safe=not pa.types.is_floating(field.type)))
        except pa.ArrowException as e:
            raise InputError(
                f"column '{field.name}' is {column.type} in one file and elsewhere such that all files together "
                f"need {field.type}: {e}. Write it with one type in all files."
            ) from e
    return pa.Table.from_arrays(columns, schema=schema)


def distinct_ids(paths: Sequence[Path]) -> pa.Array:
    """The ids in one-column files, each once."""
    found, waiting = pa.array([], pa.string()), list[pa.Array]()
    for path in paths:
        waiting += pq.read_table(path).column(0).chunks
        # merged when they outweigh what is known: all together cost a few passes, not one per file
        if sum(map(len, waiting)) > len(found):
            found, waiting = pc.unique(pa.concat_arrays([found, *waiting])), []
    return pc.unique(pa.concat_arrays([found, *waiting]))


def new_ids(ids: pa.Array, known: pa.Array) -> pa.Array:
    """Those of `ids` that are not in `known`, sorted."""
    fresh = ids.filter(pc.invert(pc.is_in(ids, value_set=known)))
    return fresh.take(pc.sort_indices(fresh))


def bare_users(ids: pa.Array) -> pa.Table:
    """A users part for ids of which nothing but behaviour is known."""
    return pa.table({USER_ID: ids, TEXT: pa.array([""] * len(ids), pa.string())})


def encode_users(part: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Put the place in a list of the part's own users in the place of `user_id`; the part and that list."""
    users = one_array(part.column(USER_ID)).dictionary_encode()
    return (
        part.drop_columns([USER_ID]).add_column(0, USER_IDX, users.indices),
        pa.table({USER_ID: users.dictionary}),
    )


def number_users(part: pa.Table, own: pa.Array, known: pa.Array) -> pa.Table:
    """Turn places in a part's own list of users into `user_idx`, places in the list of all."""
    numbers = row_numbers(own, known)[part.column(USER_IDX).to_numpy()]
    return part.set_column(0, USER_IDX, pa.array(numbers))


def read_parts(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All parts of a clean table, in order; parts may lack optional columns."""
    parts = []
    for path in sorted(directory.glob("part-*.parquet")):
        have = pq.read_schema(path).names
        parts.append(pq.read_table(path, columns=columns and [c for c in columns if c in have]))
    return pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})


def read_texts(directory: Path, rows: npt.NDArray[np.int64]) -> list[str]:
    """The texts of some rows of a table; parts without any of them are not read."""
    texts: list[str] = [""] * len(rows)
    start = 0
    for path in part_paths(directory):
        stop = start + pq.read_metadata(path).num_rows
        inside = np.flatnonzero((rows >= start) & (rows < stop))
        if len(inside):
            column = pq.read_table(path, columns=[TEXT]).column(0).take(rows[inside] - start).to_pylist()
            for position, text in zip(inside, column, strict=True):
                texts[position] = text
        start = stop
    return texts
