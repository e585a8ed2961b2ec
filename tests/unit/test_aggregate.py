"""Interactions to pairs, against a dictionary that adds them up one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.aggregate import Pairs, aggregate, read_interactions, stable_order

N_USERS, N_ITEMS = 5, 4


def interactions(rows: list[tuple[int, int, float, float | None]]) -> pa.Table:
    user, item, weight, moment = ([row[i] for row in rows] for i in range(4))
    return pa.table(
        {
            "user_idx": pa.array(user, pa.int64()),
            "item_idx": pa.array(item, pa.int64()),
            "weight": pa.array(weight, pa.float32()),
            "timestamp": pa.array(moment, pa.float64()),
        }
    )


def slow(rows: list[tuple[int, int, float, float | None]]) -> dict[tuple[int, int], tuple[float, float]]:
    """Summed weight and first moment of each pair, in order, those that cancel out among them."""
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for user, item, weight, moment in rows:
        total, first = found.get((user, item), (0.0, np.inf))
        found[user, item] = total + weight, min(first, np.inf if moment is None else moment)
    return dict(sorted(found.items()))


def listed(pairs: Pairs) -> list[tuple[int, int, float]]:
    return list(zip(pairs.user.tolist(), pairs.item.tolist(), pairs.weight.tolist(), strict=True))


def test_known_pairs() -> None:
    parts = [
        interactions([(1, 2, 1.0, 30.0), (0, 3, 2.0, None), (1, 2, 3.0, 10.0)]),
        interactions([]),
        interactions([(1, 0, -1.0, 5.0), (0, 0, 1.0, 7.0), (0, 0, -1.0, 8.0), (0, 3, 0.5, None)]),
    ]
    rows = read_interactions(parts, 7, with_moments=True)
    pairs, n_cancelled = aggregate(rows, N_USERS, N_ITEMS)
    assert listed(pairs) == [(0, 3, 2.5), (1, 0, -1.0), (1, 2, 4.0)]
    assert n_cancelled == 1
    assert pairs.moment is not None
    np.testing.assert_array_equal(pairs.moment, [np.nan, 5.0, 10.0])
    assert pairs.wanted.tolist() == [True, False, True]
    assert len(pairs) == 3
    assert (pairs.user.dtype, pairs.item.dtype, pairs.weight.dtype) == (np.int32, np.int32, np.float64)


@pytest.mark.parametrize(
    ("weights", "total"),
    [
        ([0.1, 0.1, 0.1, -0.3], None),
        ([0.3, -0.1, -0.1, -0.1], None),
        ([0.7, 0.1, -0.8], None),
        ([0.1, 0.1, -0.3], -0.1),
        ([1e-30], 1e-30),
        ([1e6, -1e6, 2.0], 2.0),
    ],
)
def test_weights_cancel_though_they_are_rounded(weights: list[float], total: float | None) -> None:
    rows = [(0, 0, weight, None) for weight in weights] + [(1, 1, -1.0, None)]
    read = read_interactions([interactions(rows)], len(rows), with_moments=False)
    pairs, n_cancelled = aggregate(read, N_USERS, N_ITEMS)
    kept = [] if total is None else [(0, 0, pytest.approx(total, rel=1e-6))]
    assert listed(pairs) == [*kept, (1, 1, -1.0)]
    assert n_cancelled == (total is None)


@pytest.mark.parametrize("with_moments", [False, True])
def test_no_interactions_are_no_pairs(with_moments: bool) -> None:
    pairs, n_cancelled = aggregate(read_interactions([], 0, with_moments=with_moments), N_USERS, N_ITEMS)
    assert (len(pairs), n_cancelled) == (0, 0)
    assert (pairs.moment is not None) == with_moments


ROW = st.tuples(
    st.integers(0, N_USERS - 1),
    st.integers(0, N_ITEMS - 1),
    st.sampled_from([-1.0, 1.0, 2.0, 0.5]),
    st.none() | st.integers(0, 9).map(float),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ROW, max_size=8), max_size=4))
def test_any_interactions(parts: list[list[tuple[int, int, float, float | None]]]) -> None:
    rows = [row for part in parts for row in part]
    read = read_interactions(map(interactions, parts), len(rows), with_moments=True)
    pairs, n_cancelled = aggregate(read, N_USERS, N_ITEMS)
    expected = slow(rows)
    kept = {pair: both for pair, both in expected.items() if both[0] != 0}
    assert listed(pairs) == [(*pair, weight) for pair, (weight, _) in kept.items()]
    assert n_cancelled == len(expected) - len(kept)
    moments = np.array([np.nan if np.isinf(first) else first for _, first in kept.values()])
    np.testing.assert_array_equal(pairs.moment if pairs.moment is not None else [], moments)


def test_equal_keys_stay_in_their_order() -> None:
    keys = np.random.default_rng(0).integers(0, 7, 1000).astype(np.int32)
    keys.flags.writeable = False  # as an array is that comes out of Ray's object store
    np.testing.assert_array_equal(stable_order(keys, 9), np.argsort(keys, kind="stable"))
    assert len(stable_order(keys[:0], 9)) == 0


def test_some_of_the_pairs() -> None:
    numbers = np.arange(4)
    pairs = Pairs(numbers.astype(np.int32), numbers.astype(np.int32), numbers + 1.0, numbers * 10.0)
    by_row, by_mask = pairs.take(np.array([3, 1])), pairs.take(numbers > 2)
    assert listed(by_row) == [(3, 3, 4.0), (1, 1, 2.0)]
    assert listed(by_mask) == [(3, 3, 4.0)]
    assert by_row.moment is not None
    assert by_row.moment.tolist() == [30.0, 10.0]
