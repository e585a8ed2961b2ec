"""Precomputed vectors of items, such as of images: checked as they come in, read by rows afterwards.

Clean tables hold them as float32 lists of one length per column, zeros where an item has none. They join the
profiles as blocks beside the text (`blend.join_blocks`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.columns import Rejects
from pipelines.core.errors import InputError
from pipelines.core.schema import ITEM_ID, REJECTS
from pipelines.core.storage import part_paths, read_rows

FloatArray = npt.NDArray[np.float32]
_VECTOR = pa.list_(pa.float32())
_LARGEST = 1e15
"""Beyond it, lengths are infinite in single precision, and such a vector would come out as zeros."""


def vector_values(column: pa.ChunkedArray, name: str, rejects: Rejects) -> pa.Array:
    """A column as float32 lists, null where there is no vector; their lengths are compared elsewhere.

    Lists of numbers, or text: a JSON array, or numbers with spaces between. An empty list is no vector. What
    is no list of finite numbers is a reject.
    """
    kind = column.type
    if pa.types.is_list(kind) and _is_number(kind.value_type):
        return _from_lists(_one_array(column), name, rejects)
    vectors: list[list[float] | None] = []
    for index, value in enumerate(column.to_pylist()):
        try:
            vectors.append(_parse(value))
        except ValueError as e:
            rejects.add([index], f"{name} {e}")
            vectors.append(None)
    return _from_lists(pa.array(vectors, pa.list_(pa.float64())), name, rejects)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _parse(value: object) -> list[float] | None:
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else [float(part) for part in text.split()]
        except (ValueError, RecursionError):
            raise ValueError(f"is {text[:40]!r}, expected numbers") from None
    if not isinstance(value, list):
        raise ValueError(f"is a {type(value).__name__}, expected a list of numbers")
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in value):
        raise ValueError(f"is {str(value)[:40]}, expected numbers")
    try:
        return [float(x) for x in value]
    except OverflowError:
        raise ValueError("is not finite in single precision") from None


def _from_lists(lists: pa.Array, name: str, rejects: Rejects) -> pa.Array:
    with np.errstate(over="ignore"):
        numbers = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(np.float32)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    bad = np.unique(np.repeat(np.arange(len(lists)), lengths)[~np.isfinite(numbers)])
    rejects.add(bad, f"{name} is not finite in single precision")
    large = np.unique(np.repeat(np.arange(len(lists)), lengths)[np.abs(numbers) > _LARGEST])
    rejects.add(large, f"{name} has numbers beyond {_LARGEST:g}; scale the column down")
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32(), mask=_none(lengths))
    return pa.ListArray.from_arrays(offsets, pa.array(numbers))


def _none(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Arrow marks a list as null at its first offset; the last offset belongs to nobody."""
    return np.append(lengths == 0, False)


class VectorLengths:
    """The length of each vector column, which its first vector decides; the rest of the table is held to it."""

    def __init__(self, names: Iterable[str]) -> None:
        """Start with nothing seen."""
        self.lengths = dict.fromkeys(names, 0)

    def check(self, clean: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Clean rows of items, in table order: those that stay, and rejects for vectors of another length."""
        wrong: dict[int, str] = {}
        for name in self.lengths:
            if name not in clean.column_names:
                continue
            found = pc.fill_null(pc.list_value_length(clean.column(name)), 0).to_numpy()
            if not self.lengths[name] and found.any():
                self.lengths[name] = int(found[found > 0][0])
            expected = self.lengths[name]
            for index in np.flatnonzero((found > 0) & (found != expected)):
                reason = f"{name} has {found[index]} numbers, the first of the table {expected}"
                wrong.setdefault(int(index), reason)
        if not wrong:
            return clean, REJECTS.empty_table()
        shown = clean.select([ITEM_ID, "_source", "_row"]).take(pa.array(sorted(wrong))).to_pylist()
        rows = [
            {
                "table": "items",
                "source": r["_source"],
                "row": r["_row"],
                "reason": reason,
                "record": r[ITEM_ID],
            }
            for (_, reason), r in zip(sorted(wrong.items()), shown, strict=True)
        ]
        keep = np.ones(clean.num_rows, dtype=bool)
        keep[list(wrong)] = False
        return clean.filter(pa.array(keep)), pa.Table.from_pylist(rows, schema=REJECTS)

    def problem(self) -> str:
        """What is wrong when the whole table has been seen; empty when nothing is."""
        for name, length in self.lengths.items():
            if not length:
                return f"data.vectors names the column '{name}', where no item has a vector. Correct or leave it out"
        return ""

    def fix(self, table: pa.Table) -> pa.Table:
        """Every vector column with its one length and zeros where there was no vector.

        Raises:
            InputError: a column of `data.vectors` that holds no vector at all.

        """
        if self.problem():
            raise InputError(f"{self.problem()}.")
        for name, length in self.lengths.items():
            lists = _one_array(table.column(name))
            rows = np.zeros((len(lists), length), dtype=np.float32)
            rows[lists.is_valid().to_numpy(zero_copy_only=False)] = (
                pc.list_flatten(lists).to_numpy().reshape(-1, length)
            )
            fixed = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), length)
            table = table.set_column(table.column_names.index(name), name, fixed)
        return table


@dataclass(frozen=True)
class Block:
    """Extra columns of the items' profiles.

    Attributes:
        weight: length of a row of the block beside the text's 1.
        source: directory of table parts, or of row parts of a matrix.
        column: of the table parts; None for a matrix.

    """

    weight: float
    source: Path
    column: str | None = None

    def read(self, start: int, stop: int) -> FloatArray:
        """(n, L) rows start .. stop; zeros for an item that has none."""
        if self.column is None:
            return read_rows(self.source, start, stop)
        return _read_column(part_paths(self.source), self.column, start, stop)


def _read_column(paths: Sequence[Path], column: str, start: int, stop: int) -> FloatArray:
    blocks = []
    first, width = 0, 0
    for path in paths:
        file = pq.ParquetFile(path)
        width = file.schema_arrow.field(column).type.list_size
        last = first + file.metadata.num_rows
        if first < stop and start < last:
            for batch in file.iter_batches(columns=[column]):
                cut = slice(max(start - first, 0), max(stop - first, 0))
                rows = batch.column(0)[cut]
                blocks.append(rows.flatten().to_numpy().reshape(-1, width))
                first += batch.num_rows
        first = last
    return np.concatenate([np.zeros((0, width), dtype=np.float32), *blocks])
