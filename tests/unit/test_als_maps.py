"""The maps of ALS, from text to factors, against a regression written out; and where rows are cut into shards."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import als, blend
from pipelines.core.pairs import row_shard, text_sums, wanted_counts
from tests.unit.als_cases import ALPHA, FloatArray, normal, random_weights


def random_problem(seed: int) -> tuple[sp.csr_matrix, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    own = blend.normalize(normal(rng, 50, 5))
    own[::4] = 0  # users without a text of their own
    return random_weights(rng, 50, 35), blend.normalize(normal(rng, 35, 5)), own


def test_maps_are_a_ridge_regression_over_single_texts() -> None:
    """One row per wanted pair, written out: the item's text, and the user's own words where there are any."""
    rng = np.random.default_rng(11)
    weights, item_text, own_text = random_problem(11)
    features, own = blend.features(item_text), blend.own_features(own_text)
    x, y = normal(rng, 50, 6), normal(rng, 35, 6)
    counts = wanted_counts(weights.T.tocsr())
    user_shard = row_shard(weights, 0, features[:0], text_sums(weights, features, own), ALPHA)
    item_shard = row_shard(weights.T.tocsr(), 0, features, features * counts[:, None], ALPHA)
    item_gram = als.map_gram(features, counts)
    user_gram = item_gram + als.map_gram(own, wanted_counts(weights))

    user_rows, user_targets, item_rows, item_targets = [], [], [], []
    for u, i in zip(*weights.nonzero(), strict=True):
        if weights[u, i] > 0:
            user_rows.append(np.append(item_text[i], 1))
            user_targets.append(x[u])
            item_rows.append(np.append(item_text[i], 1))
            item_targets.append(y[i])
            if own_text[u].any():
                user_rows.append(np.append(own_text[u], 1))
                user_targets.append(x[u])
    for rows, targets, found in [
        (user_rows, user_targets, als.ridge_map(user_gram, als.map_cross(user_shard, x), 0.7)),
        (item_rows, item_targets, als.ridge_map(item_gram, als.map_cross(item_shard, y), 0.7)),
    ]:
        left = np.concatenate([np.array(rows, dtype=np.float64), np.sqrt(0.7) * np.eye(6)])
        right = np.concatenate([np.array(targets, dtype=np.float64), np.zeros((6, 6))])
        expected = np.linalg.lstsq(left, right, rcond=None)[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_map_without_any_evidence_is_zero() -> None:
    nothing = np.zeros((3, 3))
    np.testing.assert_array_equal(als.ridge_map(nothing, nothing[:, :2], 1.0), np.zeros((3, 2)))


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 12))
def test_cuts_cover_every_row_once_and_balance_the_pairs(counts: list[int], n_shards: int) -> None:
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    cuts = als.cut_rows(indptr, n_shards)
    assert 1 <= len(cuts) <= n_shards
    assert cuts[0][0] == 0
    assert cuts[-1][1] == len(counts)
    assert all(left[1] == right[0] for left, right in pairwise(cuts))
    if counts:
        assert all(start < stop for start, stop in cuts)
        heaviest = max(counts) + 1
        fair = (sum(counts) + len(counts)) / n_shards
        assert all(sum(counts[a:b]) + b - a <= fair + heaviest for a, b in cuts)


def test_no_rows_make_one_empty_shard() -> None:
    assert als.cut_rows(np.zeros(1, dtype=np.int64), 4) == [(0, 0)]


def test_equal_rows_are_cut_into_equal_shards() -> None:
    assert als.cut_rows(np.arange(0, 90, 3), 3) == [(0, 10), (10, 20), (20, 29)]
