"""Features, profiles and the two parts of a score as one dot product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import blend

FloatArray = npt.NDArray[np.float32]


def normal(seed: int, *shape: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.5])
def test_one_dot_product_equals_both_parts(gamma: float) -> None:
    x, y, p_user, p_item = normal(1, 4, 6), normal(2, 5, 6), normal(3, 4, 8), normal(4, 5, 8)
    served = blend.blend(x, p_user, gamma) @ blend.blend(y, p_item, gamma).T
    np.testing.assert_allclose(served, x @ y.T + gamma * (p_user @ p_item.T), rtol=1e-4, atol=1e-5)
    one_user = blend.blend(x[0], p_user[0], gamma)
    np.testing.assert_allclose(blend.blend(y, p_item, gamma) @ one_user, served[0], rtol=1e-4, atol=1e-5)
    assert one_user.dtype == np.float32


def test_normalize_leaves_zero_rows_zero() -> None:
    found = blend.normalize(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_centre_takes_the_mean_away_and_leaves_rows_without_text_zero() -> None:
    embeddings = np.array([[1, 0], [0, 1], [0, 0]], dtype=np.float32)
    mean = np.array([0.5, 0.5], dtype=np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        blend.centre(embeddings, mean), [[half, -half], [-half, half], [0, 0]], rtol=1e-6
    )
    # one mean per row, as for a request that carries words of both kinds
    each = blend.centre(embeddings, np.stack([mean, np.zeros(2, np.float32), mean]))
    np.testing.assert_allclose(each, [[half, -half], [0, 1], [0, 0]], rtol=1e-6)


def test_mean_statistics_count_masked_rows_with_text_and_add_up_over_shards() -> None:
    embeddings = normal(5, 20, 3)
    embeddings[[2, 11]] = 0
    mask = np.arange(20) % 3 != 0
    total, count = blend.mean_statistics(embeddings, mask)
    chosen = [row for row in range(20) if mask[row] and row not in (2, 11)]
    assert count == len(chosen)
    np.testing.assert_allclose(total, embeddings[chosen].sum(axis=0), rtol=1e-5)
    parts = [blend.mean_statistics(embeddings[cut], mask[cut]) for cut in (slice(0, 7), slice(7, 20))]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], total, rtol=1e-12)
    nothing, none = blend.mean_statistics(embeddings, np.zeros(20, dtype=bool))
    assert none == 0
    np.testing.assert_array_equal(nothing, np.zeros(3))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5])
def test_profiles_equal_a_loop_over_users(power: float) -> None:
    items, own = normal(6, 9, 4), normal(7, 5, 4)
    own[3] = 0
    liked = sp.csr_matrix(np.random.default_rng(8).choice([-1, 0, 0, 1], (5, 9)).astype(np.float32))
    liked = sp.vstack([liked, sp.csr_matrix((1, 9), dtype=np.float32)]).tocsr()
    own = np.concatenate([own, np.zeros((1, 4), np.float32)])
    found = blend.profiles(liked, items, own, 2.0, power)
    for user in range(6):
        total = 2.0 * own[user].astype(np.float64)
        n = 0
        for item in range(9):
            if liked[user, item]:
                total = total + float(liked[user, item]) * items[item]
                n += 1
        np.testing.assert_allclose(found[user], total / (1 + n) ** power, atol=1e-5)
    assert not found[5].any()


def test_features_are_a_direction_and_a_constant() -> None:
    found = blend.features(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8, 1], [0, 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(blend.features(np.array([0, 2], dtype=np.float32)), [0, 1, 1], rtol=1e-6)
    assert blend.features(np.zeros((0, 3), dtype=np.float32)).shape == (0, 4)


def test_own_features_have_no_constant_where_there_are_no_words() -> None:
    found = blend.own_features(np.array([[0, 5], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0, 1, 1], [0, 0, 0]], rtol=1e-6)
