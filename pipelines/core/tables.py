"""What concerns all parts of a clean table: duplicates, one schema, numbers for ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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
    """Keep the first row of each id. Holds ids and text hashes of the whole table, never the texts."""
    id_column = ID_COLUMN[table]
    frames = []
    for number, path in enumerate(paths):
        part = pq.read_table(path, columns=[id_column, TEXT, "_source", "_row"])
        frames.append(
            pd.DataFrame(
                {
                    "id": part.column(id_column).to_pandas(),
                    "text": pd.util.hash_array(part.column(TEXT).to_pandas().to_numpy(dtype=object)),
                    "source": part.column("_source").dictionary_encode().to_pandas(),
                    "row": part.column("_row").to_pandas(),
                    "part": number,
                }
            )
        )
    if not frames:
        return Duplicates(pa.table({id_column: pa.array([], pa.string())}), [], REJECTS.empty_table(), 0)
    rows = pd.concat(frames, ignore_index=True)
    repeated = rows.duplicated("id", keep="first").to_numpy()
    first_text = rows.groupby("id", sort=False)["text"].transform("first").to_numpy()
    differs = repeated & (rows["text"].to_numpy() != first_text)
    rejected = rows[differs]
    rejects = pa.table(
        {
            "table": pa.array([table] * len(rejected), pa.string()),
            "source": pa.array(rejected["source"].astype(str).tolist(), pa.string()),
            "row": pa.array(rejected["row"].to_numpy(dtype=np.int64)),
            "reason": pa.array(
                [f"{id_column} was there already with a different text"] * len(rejected), pa.string()
            ),
            "record": pa.array(rejected["id"].astype(str).tolist(), pa.string()),
        },
        schema=REJECTS,
    )
    part_of = rows["part"].to_numpy()
    keep = [~repeated[part_of == number] for number in range(len(paths))]
    ids = pa.table({id_column: pa.array(rows["id"][~repeated].tolist(), pa.string())})
    return Duplicates(ids, keep, rejects, int((repeated & ~differs).sum()))


def first_of_each(paths: Sequence[Path]) -> list[npt.NDArray[np.bool_]]:
    """For each part, a mask over its rows: those that no row before equals in every column."""
    parts = [pq.read_table(path).to_pandas() for path in paths]
    if not parts:
        return []
    fresh = ~pd.concat(parts, ignore_index=True).duplicated().to_numpy()
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


def new_ids(paths: Sequence[Path], known: pa.Array) -> pa.Array:
    """User ids of interaction parts that are not in `known`, each once, sorted."""
    found = pa.array([], pa.string())
    for path in paths:
        ids = pc.unique(pq.read_table(path, columns=[USER_ID]).column(0))
        fresh = ids.filter(pc.invert(pc.is_in(ids, value_set=known)))
        found = pc.unique(pa.concat_arrays([found, fresh.combine_chunks() if isinstance(fresh, pa.ChunkedArray) else fresh]))  # fmt: skip  # noqa: E501
    return found.take(pc.sort_indices(found))


def bare_users(ids: pa.Array) -> pa.Table:
    """A users part for ids of which nothing but behaviour is known."""
    return pa.table({USER_ID: ids, TEXT: pa.array([""] * len(ids), pa.string())})


def number_users(part: pa.Table, known: pa.Array) -> pa.Table:
    """Put `user_idx` in the place of `user_id`."""
    numbers = pa.array(row_numbers(part.column(USER_ID), known))
    return part.drop_columns([USER_ID]).add_column(0, USER_IDX, numbers)


def count_distinct(paths: Sequence[Path], column: str) -> int:
    """Distinct values of a column over all parts."""
    found = pa.array([], pa.int64())
    for path in paths:
        found = pc.unique(pa.chunked_array([found, *pq.read_table(path, columns=[column]).column(0).chunks]))
    return len(found)


def read_parts(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All parts of a clean table, in order; parts may lack optional columns."""
    parts = [pq.read_table(p) for p in sorted(directory.glob("part-*.parquet"))]
    if columns is not None:
        parts = [p.select([c for c in columns if c in p.column_names]) for p in parts]
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
