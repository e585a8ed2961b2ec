"""Sorted pair files as sparse rows, and what is counted over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from pipelines.core.als import confidences
from pipelines.core.pairs import (
    Side,
    read_pairs,
    row_offsets,
    row_shard,
    signs,
    text_sums,
    wanted_counts,
)
from pipelines.core.schema import ITEM_IDX, USER_IDX, WEIGHT

N_USERS, N_ITEMS = 40, 30


def dense_weights() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    weights = np.where(
        rng.random((N_USERS, N_ITEMS)) < 0.2, rng.choice([-1, 0.5, 1, 3], (N_USERS, N_ITEMS)), 0
    )
    weights[[0, 7, 8, N_USERS - 1]] = 0
    weights[:, [0, N_ITEMS - 1]] = 0
    return weights.astype(np.float32)


@pytest.fixture(scope="module", params=["user", "item"])
def stored(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Side, np.ndarray]:
    """A pair file in many row groups, its side, and the matrix whose rows that side is."""
    side: Side = request.param
    weights = dense_weights()
    path = tmp_path_factory.mktemp("pairs") / f"train_by_{side}.parquet"
    users, items = np.nonzero(weights)
    order = np.lexsort((items, users) if side == "user" else (users, items))
    table = pa.table(
        {
            USER_IDX: users[order],
            ITEM_IDX: items[order],
            WEIGHT: weights[users, items][order].astype(np.float64),
        }
    )
    pq.write_table(table, path, row_group_size=7)
    return path, side, weights if side == "user" else weights.T


def test_windows_equal_slices_of_the_whole(stored: tuple[Path, Side, np.ndarray]) -> None:
    path, side, weights = stored
    n, m = weights.shape
    for start, stop in [(0, n), (0, 1), (5, 12), (7, 9), (n - 3, n), (4, 4)]:
        found = read_pairs(path, side, start, stop, m)
        assert found.shape == (stop - start, m)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.toarray(), weights[start:stop])
        found.check_format()


def test_offsets_count_each_rows_pairs(stored: tuple[Path, Side, np.ndarray]) -> None:
    path, side, weights = stored
    counts = np.count_nonzero(weights, axis=1)
    np.testing.assert_array_equal(
        row_offsets(path, side, len(weights)), np.concatenate([[0], np.cumsum(counts)])
    )


def test_an_empty_file_has_empty_rows(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    nothing = np.zeros(0, dtype=np.int64)
    pq.write_table(pa.table({USER_IDX: nothing, ITEM_IDX: nothing, WEIGHT: nothing.astype(np.float64)}), path)
    assert read_pairs(path, "user", 2, 6, 9).shape == (4, 9)
    np.testing.assert_array_equal(row_offsets(path, "user", 3), np.zeros(4))


def test_a_shard_has_the_rows_in_the_solvers_form() -> None:
    weights = sp.csr_matrix(dense_weights()[5:15])
    features = np.ones((10, 3), dtype=np.float32)
    shard = row_shard(weights, 5, features, 2 * features, alpha=4.0)
    assert shard.start == 5
    assert shard.n_rows == 10
    np.testing.assert_array_equal(shard.evidence, np.count_nonzero(weights.toarray(), axis=1))
    np.testing.assert_array_equal(shard.confidences, confidences(weights.data, 4.0))
    for array, dtype in [
        (shard.indptr, np.int32),
        (shard.indices, np.int32),
        (shard.confidences, np.float32),
    ]:
        assert array.dtype == dtype


def test_counts_signs_and_text_sums_equal_loops() -> None:
    rng = np.random.default_rng(1)
    dense = dense_weights()
    weights = sp.csr_matrix(dense)
    items = rng.standard_normal((N_ITEMS, 4)).astype(np.float32)
    own = rng.standard_normal((N_USERS, 4)).astype(np.float32)
    own[::3] = 0
    np.testing.assert_array_equal(wanted_counts(weights), (dense > 0).sum(axis=1))
    np.testing.assert_array_equal(signs(weights).toarray(), np.sign(dense))
    a_quarter = np.where(dense < 0, -0.25, np.sign(dense))
    np.testing.assert_array_equal(signs(weights, 0.25).toarray(), a_quarter)
    found = text_sums(weights, items, own)
    for user in range(N_USERS):
        expected = np.zeros(4)
        for item in np.flatnonzero(dense[user] > 0):
            expected += items[item].astype(np.float64) + own[user]
        np.testing.assert_allclose(found[user], expected, atol=1e-5)
    assert wanted_counts(sp.csr_matrix((0, 5), dtype=np.float32)).shape == (0,)
