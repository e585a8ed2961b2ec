"""From interactions to pairs: one row per user and item, in that order.

Row numbers are small whole numbers, so everything here is sorted by counting, in linear time (scipy's conversion
between sparse formats does it), and held in columns as narrow as they may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from pipelines.core.schema import ITEM_IDX, TIMESTAMP, USER_IDX, WEIGHT

IntArray = npt.NDArray[np.signedinteger]
BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]

ROUNDING = float(np.finfo(np.float32).eps)
"""Of weights as they are stored; a sum that is a smaller share of what it is made of is 0."""


@dataclass(frozen=True)
class Pairs:
    """Parallel columns, sorted by user and then by item, each pair once.

    Attributes:
        user: (n,) row numbers of users, int32.
        item: (n,) row numbers of items, int32.
        weight: (n,) summed weights, none of them 0; below 0 where the user does not want the item. Of single
            interactions in single precision, as they are stored.
        moment: (n,) seconds of the first interaction, NaN where none has a timestamp; absent unless asked for.

    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    weight: DoubleArray | npt.NDArray[np.float32]
    moment: DoubleArray | None = None

    def __len__(self) -> int:
        """Pairs."""
        return len(self.user)

    @property
    def wanted(self) -> BoolArray:
        """(n,) whether the user wants the item."""
        return self.weight > 0

    def take(self, rows: npt.NDArray[np.integer] | BoolArray) -> Pairs:
        """Some of the pairs."""
        moment = None if self.moment is None else self.moment[rows]
        return replace(
            self, user=self.user[rows], item=self.item[rows], weight=self.weight[rows], moment=moment
        )


def read_interactions(parts: Iterable[pa.Table], n_rows: int, *, with_moments: bool) -> Pairs:
    """The parts of a clean interactions table below one another, not yet one row per pair.

    Args:
        parts: with the columns of `schema.INTERACTIONS` that are needed here.
        n_rows: rows of all parts together.
        with_moments: whether timestamps are needed.

    """
    user, item = np.empty(n_rows, dtype=np.int32), np.empty(n_rows, dtype=np.int32)
    weight = np.empty(n_rows, dtype=np.float32)
    moment = np.empty(n_rows, dtype=np.float64) if with_moments else None
    start = 0
    for part in parts:
        here = slice(start, start + part.num_rows)
        user[here], item[here] = part.column(USER_IDX).to_numpy(), part.column(ITEM_IDX).to_numpy()
        weight[here] = part.column(WEIGHT).to_numpy()
        if moment is not None:
            moment[here] = part.column(TIMESTAMP).to_numpy()
        start += part.num_rows
    return Pairs(user, item, weight, moment)


def aggregate(rows: Pairs, n_users: int, n_items: int) -> tuple[Pairs, int]:
    """One row per pair, and how many pairs were left out because their weights cancel out.

    Weights are summed in double precision: single precision would depend on the order of the rows.
    """
    by_item = stable_order(rows.item, n_items)
    order = by_item[stable_order(rows.user[by_item], n_users)]
    del by_item
    user, item = rows.user[order], rows.item[order]
    is_first = np.ones(len(order), dtype=bool)
    np.not_equal(user[1:], user[:-1], out=is_first[1:])
    is_first[1:] |= item[1:] != item[:-1]
    starts = np.flatnonzero(is_first)
    if not len(starts):
        return replace(rows, weight=rows.weight.astype(np.float64)), 0
    single = rows.weight[order]
    weight = np.add.reduceat(single, starts, dtype=np.float64)
    moment = None if rows.moment is None else np.fmin.reduceat(rows.moment[order], starts)
    pairs = Pairs(user[starts], item[starts], weight, moment)
    cancelled = weight == 0
    if (single < 0).any():  # 0.1 three times less 0.3 is not quite 0 in the precision they come in
        cancelled = np.abs(weight) <= ROUNDING * np.add.reduceat(np.abs(single), starts, dtype=np.float64)
    return (pairs.take(~cancelled) if cancelled.any() else pairs), int(cancelled.sum())


def stable_order(keys: npt.NDArray[np.int32], n_keys: int) -> npt.NDArray[np.signedinteger]:
    """(n,) positions that sort `keys`, which are below `n_keys`; equal ones stay in their order."""
    n = len(keys)
    # a row per key with one entry in the key's column: its transpose lists the rows of each column
    rows = sp.csr_matrix((np.zeros(n, dtype=np.int8), keys, np.arange(n + 1)), shape=(n, n_keys))
    order: npt.NDArray[np.signedinteger] = rows.tocsc().indices
    return order
