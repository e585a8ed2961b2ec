"""Row numbers, and random numbers that belong to an id."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pipelines.core.ids import drawn, hash_ids, normal_by_id, row_numbers, sampled

GOLDEN_HASHES = [0xD2E5B439D1B4A53E, 0x897065C846590DEF, 0xBBA8A571AFE0B7B2, 0x186DA64456263A46]
GOLDEN_NORMAL = [
    [0.04563144966959953, -0.14984692633152008, -0.6038029193878174],
    [-0.7387176156044006, -2.2962958812713623, -0.14319780468940735],
    [1.6126766204833984, 0.9000064134597778, 1.5991759300231934],
]
GOLDEN_SEED_7 = [[1.6619963645935059, -0.31483137607574463, -0.20587843656539917]]


def ids_of(*ids: str) -> npt.NDArray[np.object_]:
    return np.array(ids, dtype=object)


def many(n: int) -> npt.NDArray[np.uint64]:
    return hash_ids(ids_of(*(f"item-{i}" for i in range(n))))


@pytest.mark.parametrize("chunked", [False, True])
def test_row_numbers(chunked: bool) -> None:
    known = pa.array(["b", "a", "中"])
    asked = ["a", "中", "nobody", None, "b"]
    ids = pa.chunked_array([asked[:2], asked[2:]]) if chunked else pa.array(asked)
    found = row_numbers(ids, known)
    np.testing.assert_array_equal(found, [1, 2, -1, -1, 0])
    assert found.dtype == np.int64
    assert len(row_numbers(pa.array([], pa.string()), known)) == 0


def test_hashes_are_the_same_in_every_process() -> None:
    """Fixed values: Python's own hash differs between processes, this one must not."""
    found = hash_ids(ids_of("B0001", "item-2", "中文", ""))
    np.testing.assert_array_equal(found, np.array(GOLDEN_HASHES, dtype=np.uint64))
    assert len(hash_ids(ids_of())) == 0


def test_normal_rows_are_the_same_in_every_process() -> None:
    hashes = hash_ids(ids_of("B0001", "item-2", "中文"))
    np.testing.assert_allclose(normal_by_id(hashes, 3, 0), GOLDEN_NORMAL, rtol=1e-6)
    np.testing.assert_allclose(normal_by_id(hashes[:1], 3, 7), GOLDEN_SEED_7, rtol=1e-6)


def test_a_row_does_not_depend_on_the_rows_around_it() -> None:
    hashes = many(50)
    order = np.random.default_rng(0).permutation(50)
    whole = normal_by_id(hashes, 8, 3)
    np.testing.assert_array_equal(normal_by_id(hashes[order], 8, 3), whole[order])
    np.testing.assert_array_equal(normal_by_id(hashes[17:19], 8, 3), whole[17:19])
    assert normal_by_id(hashes[:0], 8, 3).shape == (0, 8)


@pytest.mark.parametrize("n_columns", [1, 5, 16])
def test_rows_are_about_standard_normal_and_independent(n_columns: int) -> None:
    drawn = normal_by_id(many(4000), n_columns, 0)
    assert drawn.shape == (4000, n_columns)
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    # four standard errors
    assert np.abs(drawn.mean(axis=0)).max() < 4 / np.sqrt(4000)
    assert np.abs(drawn.std(axis=0) - 1).max() < 4 / np.sqrt(8000)
    assert np.abs((drawn < 1.0).mean(axis=0) - 0.8413).max() < 4 * 0.366 / np.sqrt(4000)
    covariance = drawn.T @ drawn / 4000 - np.eye(n_columns)
    assert np.abs(covariance).max() < 5 * np.sqrt(2 / 4000)


def test_seeds_and_ids_give_other_rows() -> None:
    hashes = many(2000)
    first, second = normal_by_id(hashes, 4, 0), normal_by_id(hashes, 4, 1)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:-1].ravel(), first[1:].ravel())[0, 1]) < 0.05
    assert np.isfinite(normal_by_id(hashes, 4, 2**32 - 1)).all()


def test_a_sample_is_fixed_nested_and_of_about_its_share() -> None:
    rows = np.arange(20_000)
    assert not sampled(rows, 0.0).any()
    assert sampled(rows, 1.0).all()
    tenth, half = sampled(rows, 0.1), sampled(rows, 0.5)
    assert tenth.mean() == pytest.approx(0.1, abs=0.01)
    assert half.mean() == pytest.approx(0.5, abs=0.015)
    assert not (tenth & ~half).any()
    np.testing.assert_array_equal(sampled(rows[500:600], 0.1), tenth[500:600])


def test_ids_are_drawn_by_what_they_are_not_where_they_stand() -> None:
    hashes = many(500)
    first = drawn(hashes, 60, 0)
    assert len(first) == 60
    assert (np.diff(first) > 0).all()
    order = np.random.default_rng(0).permutation(500)
    assert set(hashes[order][drawn(hashes[order], 60, 0)]) == set(hashes[first])
    assert len(np.intersect1d(first, drawn(hashes, 60, 1))) < 30
    np.testing.assert_array_equal(drawn(hashes, 500, 0), np.arange(500))
    assert not len(drawn(hashes[:0], 5, 0))
