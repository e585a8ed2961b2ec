"""Which pairs a published version has not seen: by its history, not by the clock.

The version in service may have held pairs back (`publish.refit = false`), rows may come late, and rows of before may
count for more today; what it was fitted on is in its bundle and tells exactly.

Axes: n pairs; U, I users and items of the tables; V, J users and items of the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from pipelines.core.bundle import BundlePaths
from pipelines.core.columns import one_array
from pipelines.core.errors import ArtefactError
from pipelines.core.ids import row_numbers
from pipelines.core.layout import Layout
from pipelines.core.schema import ITEM_ID, USER_ID

BoolArray = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.signedinteger]
_AT_ONCE = 4_000_000
"""Pairs that are looked up at once: three numbers of eight bytes each."""


@dataclass(frozen=True)
class Seen:
    """Who did what, as a published version knows it.

    Attributes:
        user_ids: (V,) in the order of its rows.
        item_ids: (J,) likewise.
        indptr: (V + 1,) where each user's pairs begin in `indices`.
        indices: rows of items.

    """

    user_ids: pa.Array
    item_ids: pa.Array
    indptr: Rows
    indices: Rows

    @classmethod
    def read(cls, bundle: Path) -> Seen:
        """The history in a version's directory, and nothing else of it.

        Raises:
            ArtefactError: it is not there, or not whole.

        """
        paths = BundlePaths(bundle)
        try:
            users, items = (
                one_array(pq.read_table(path, columns=[name]).column(0))
                for path, name in ((paths.users, USER_ID), (paths.items, ITEM_ID))
            )
            with safe_open(paths.user_arrays, framework="numpy") as arrays:
                indptr, indices = arrays.get_tensor("indptr"), arrays.get_tensor("indices")
        except (OSError, pa.ArrowException, SafetensorError) as e:
            raise ArtefactError(
                f"what version {bundle.name} has seen cannot be read: {e}. Put another version into service."
            ) from e
        return cls(users, items, indptr, indices)


def find_newest(layout: Layout, user: Rows, item: Rows, version: str) -> BoolArray:
    """`newest_pairs` of the tables of a build beside a version that lies there."""
    users, items = (one_array(pq.read_table(layout.ids(t)).column(0)) for t in ("users", "items"))
    return newest_pairs(user, item, users, items, Seen.read(layout.bundle(version)))


def newest_pairs(user: Rows, item: Rows, user_ids: pa.Array, item_ids: pa.Array, seen: Seen) -> BoolArray:
    """(n,) pairs that are not in the history of the version; of users or items it does not know, all.

    Args:
        user: (n,) rows of `user_ids`.
        item: (n,) rows of `item_ids`.
        user_ids: (U,) of the tables.
        item_ids: (I,) of the tables.
        seen: by the version.

    """
    users, items = row_numbers(user_ids, seen.user_ids), row_numbers(item_ids, seen.item_ids)
    width = max(len(seen.item_ids), 1)
    # a pair is one number: the version's pairs, sorted, are looked through for it
    known = np.repeat(np.arange(len(seen.user_ids), dtype=np.int64) * width, np.diff(seen.indptr))
    known += seen.indices
    known.sort()
    is_newest = np.ones(len(user), dtype=bool)
    for start in range(0, len(user) if len(known) else 0, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        row, column = users[user[part]], items[item[part]]
        keys = row * width + column
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        is_newest[part] = (row < 0) | (column < 0) | (known[place] != keys)
    return is_newest
