"""That the files of a bundle fit one another, which checksums do not tell of one that was put together by hand.

Axes: I items, U users, F factors, E columns of a profile, D = E + 1, T columns of its text, N interactions, P = U + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.bundle import BundlePaths
from pipelines.core.errors import ArtefactError
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, N_INTERACTIONS, N_WANTED, TEXT, USER_ID

Arrays = Mapping[str, npt.NDArray[Any]]
_MAPS = {
    "item_mean": "T", "user_mean": "T", "item_map": "DF", "user_map": "DF", "item_gramian": "FF", "user_gramian": "FF",
}  # fmt: skip
_ITEMS = {"factors": "IF", "profiles": "IE"}
_USERS = {"own_texts": "UE", "indptr": "P", "indices": "N", "weights": "N"}
_COLUMNS = {
    ITEM_ID: pa.string(), TEXT: pa.string(), IS_HIDDEN: pa.bool_(), N_INTERACTIONS: pa.int64(), N_WANTED: pa.int64(),
}  # fmt: skip


def check_maps(paths: BundlePaths, maps: Arrays) -> None:
    """Raise ArtefactError unless the text maps fit one another."""
    _fit(paths.text_maps, maps, _MAPS, {})


def check_items(paths: BundlePaths, items: pa.Table, arrays: Arrays, maps: Arrays) -> None:
    """Raise ArtefactError unless the items have their columns, ids that differ, and vectors that fit the maps."""
    _check_columns(paths.items, items, _COLUMNS)
    _check_ids(paths.items, items.column(ITEM_ID))
    sizes = {"I": items.num_rows, "F": maps["item_map"].shape[1], "E": maps["item_map"].shape[0] - 1}
    _fit(paths.item_arrays, arrays, _ITEMS, sizes)


def check_users(paths: BundlePaths, users: pa.Table, arrays: Arrays, n_items: int, width: int) -> None:
    """Raise ArtefactError unless users have ids that differ, words of the profiles' width, and a history of items."""
    _check_columns(paths.users, users, {USER_ID: pa.string()})
    _check_ids(paths.users, users.column(USER_ID))
    _fit(paths.user_arrays, arrays, _USERS, {"U": users.num_rows, "P": users.num_rows + 1, "E": width})
    if "kinds" in arrays:  # bundles of before have none
        _fit(paths.user_arrays, arrays, {"kinds": "N"}, {"N": len(arrays["indices"])})
    starts, rows = arrays["indptr"], arrays["indices"]
    if starts[0] != 0 or starts[-1] != len(rows) or (np.diff(starts) < 0).any():
        raise _wrong(
            paths.user_arrays, f"indptr does not rise from 0 to {len(rows)}, the number of interactions"
        )
    if len(rows) and not 0 <= rows.min() <= rows.max() < n_items:
        raise _wrong(
            paths.user_arrays, f"indices go from {rows.min()} to {rows.max()}, expected 0 to {n_items - 1}"
        )


def _check_columns(path: Path, table: pa.Table, columns: Mapping[str, pa.DataType]) -> None:
    for name, kind in columns.items():
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise _wrong(path, f"it has no column {name} of {kind}")


def _check_ids(path: Path, ids: pa.ChunkedArray) -> None:
    if ids.null_count or pc.count_distinct(ids).as_py() != len(ids):
        raise _wrong(path, "an id is missing or there twice")


def _fit(path: Path, arrays: Arrays, axes: Mapping[str, str], sizes: dict[str, int]) -> None:
    """See that arrays are there and finite, and that axes of one name are of one size; notes sizes it meets."""
    for name, letters in axes.items():
        if name not in arrays:
            raise _wrong(path, f"{name} is not in it")
        array = arrays[name]
        expected = tuple(sizes.get(a, n) for a, n in zip(letters, array.shape, strict=False))
        if array.ndim != len(letters) or array.shape != expected:
            raise _wrong(path, f"{name} is {array.shape}, expected {expected}")
        sizes |= dict(zip(letters, expected, strict=True))
        # least and largest say it too, without another array as large
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise _wrong(path, f"{name} is not finite")


def _wrong(path: Path, what: str) -> ArtefactError:
    return ArtefactError(f"{path} does not fit its bundle: {what}. Build again or roll back.")
