"""Sorted pair files as sparse rows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp

from pipelines.core.als import RowShard, confidences
from pipelines.core.blend import amounts
from pipelines.core.schema import ITEM_IDX, USER_IDX, WEIGHT

FloatArray = npt.NDArray[np.float32]
Side = Literal["user", "item"]
_KEYS: dict[str, tuple[str, str]] = {"user": (USER_IDX, ITEM_IDX), "item": (ITEM_IDX, USER_IDX)}


def read_pairs(path: Path, side: Side, start: int, stop: int, n_columns: int) -> sp.csr_matrix:
    """Rows start .. stop of one side as (stop - start, n_columns) weights; reads only their row groups."""
    row_key, column_key = _KEYS[side]
    table = pq.read_table(
        path, columns=[row_key, column_key, WEIGHT], filters=[(row_key, ">=", start), (row_key, "<", stop)]
    )
    rows = table.column(row_key).to_numpy() - start
    columns = table.column(column_key).to_numpy()
    weights = table.column(WEIGHT).to_numpy().astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=stop - start))])
    return sp.csr_matrix((weights, columns, indptr), shape=(stop - start, n_columns))


def row_offsets(path: Path, side: Side, n_rows: int) -> npt.NDArray[np.int64]:
    """(n_rows + 1,) offsets of each row's pairs in a sorted pair file; one column, one row group at a time."""
    counts = np.zeros(n_rows, dtype=np.int64)
    file = pq.ParquetFile(path)
    for batch in file.iter_batches(columns=[_KEYS[side][0]]):
        rows = batch.column(0).to_numpy()
        if len(rows):  # sorted: a batch touches a few rows, counting into all of them would be quadratic
            counts[rows[0] : rows[-1] + 1] += np.bincount(rows - rows[0])
    return np.concatenate([[0], np.cumsum(counts)])


def row_shard(
    weights: sp.csr_matrix, start: int, features: FloatArray, text_sums: FloatArray, alpha: float
) -> RowShard:
    """The shard the solvers work on, from weights, text features and summed single texts."""
    return RowShard(
        start=start,
        indptr=weights.indptr.astype(np.int32),
        indices=weights.indices.astype(np.int32),
        confidences=confidences(weights.data, alpha),
        features=features,
        text_sums=text_sums,
    )


def text_sums(weights: sp.csr_matrix, column_features: FloatArray, own_features: FloatArray) -> FloatArray:
    """(n, D) for each user: features of the wanted items, and of their own words once per wanted pair.

    Args:
        weights: (n, I) of the users' pairs.
        column_features: (I, D) of the items.
        own_features: (n, D) of the users' own words, zero rows where there are none.

    """
    liked = sp.csr_matrix(
        ((weights.data > 0).astype(np.float32), weights.indices, weights.indptr), weights.shape
    )
    return np.asarray(
        liked @ column_features + wanted_counts(weights)[:, None] * own_features, dtype=np.float32
    )


def wanted_counts(weights: sp.csr_matrix) -> FloatArray:
    """(n,) pairs of each row that are wanted."""
    liked = sp.csr_matrix(
        ((weights.data > 0).astype(np.float32), weights.indices, weights.indptr), weights.shape
    )
    return np.asarray(liked.sum(axis=1), dtype=np.float32).ravel()


def signs(weights: sp.csr_matrix, unwanted_items: float = 1.0) -> sp.csr_matrix:
    """+1 where wanted, less than 0 where not, see `blend.amounts`."""
    found = amounts(weights.data, unwanted_items)
    return sp.csr_matrix((found, weights.indices, weights.indptr), shape=weights.shape)
