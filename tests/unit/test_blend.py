"""Features, profiles and the two parts of a score as one dot product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import blend
from pipelines.core.config import BlendConfig

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


def test_a_text_profile_is_what_is_said_beside_the_words_that_are_used() -> None:
    raw, mean = normal(20, 5, 7), normal(21, 7)
    raw[1], raw[2, 4:], raw[3, :4] = 0, 0, 0  # nothing; no known word; a word without a meaning
    found = blend.text_profile(raw, mean, 4, 0.6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :4], blend.centre(raw[:, :4], mean[:4]))
    np.testing.assert_allclose(found[:, 4:], 0.6 * blend.centre(raw[:, 4:], mean[4:]), rtol=1e-6)
    lengths = [[1, 0, 1, 0, 1], [0.6, 0, 0, 0.6, 0.6]]
    for columns, expected in zip((slice(0, 4), slice(4, 7)), lengths, strict=True):
        np.testing.assert_allclose(np.linalg.norm(found[:, columns], axis=1), expected, rtol=1e-6)
    # likeness adds up: of two texts' meanings, and of their words by the weight's square
    both = raw[[0, 4]]
    apart = [blend.centre(both[:, c], mean[c]) for c in (slice(0, 4), slice(4, 7))]
    expected_likeness = apart[0][0] @ apart[0][1] + 0.36 * (apart[1][0] @ apart[1][1])
    assert found[0] @ found[4] == pytest.approx(expected_likeness, abs=1e-6)


def test_a_text_profile_with_a_mean_for_each_row_and_without_words() -> None:
    raw, means = normal(22, 3, 6), normal(23, 3, 6)
    found = blend.text_profile(raw, means, 4, 2.0)
    for row in range(3):
        alone = blend.text_profile(raw[row : row + 1], means[row], 4, 2.0)
        np.testing.assert_allclose(found[row], alone[0], atol=1e-6)
    np.testing.assert_array_equal(
        blend.text_profile(raw, means, 6, 2.0), blend.centre(raw, means), "no lexical columns"
    )
    assert not blend.text_profile(raw, means, 4, 0.0)[:, 4:].any()
    assert blend.text_profile(raw[:0], means[0], 4, 1.0).shape == (0, 6)


def test_item_vectors_by_hand() -> None:
    settings = BlendConfig(gamma=4.0, text_fade=0.5, cold_scale=3.0)
    factors = np.array([[1.0], [2.0], [5.0]], dtype=np.float32)
    profiles = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    found = blend.item_vectors(factors, profiles, np.array([0, 3, 8]), settings)
    # cold: everything times 3; of three interactions: text by (1 + 3)^-0.5; sqrt(gamma) is 2
    np.testing.assert_allclose(found, [[3, 6, 12], [2, 1, 0], [5, 0, 0]], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize(("fade", "scale"), [(0.0, 1.0), (0.6, 1.0), (0.6, 2.5)])
def test_item_vectors_rank_by_the_documented_score(gamma: float, fade: float, scale: float) -> None:
    settings = BlendConfig(gamma=gamma, text_fade=fade, cold_scale=scale)
    x, p_user, y, p_item = normal(24, 3, 4), normal(25, 3, 6), normal(26, 8, 4), normal(27, 8, 6)
    evidence = np.array([0, 1, 0, 5, 40, 3, 0, 1])
    found = blend.blend(x, p_user, gamma) @ blend.item_vectors(y, p_item, evidence, settings).T
    for user in range(3):
        for item, n in enumerate(evidence):
            score = x[user] @ y[item] + gamma / (1 + n) ** fade * (p_user[user] @ p_item[item])
            expected = score * (scale if n == 0 else 1)
            assert found[user, item] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_item_vectors_of_nothing_to_bend_are_blended_ones() -> None:
    y, p = normal(28, 5, 3), normal(29, 5, 4)
    settings = BlendConfig(gamma=0.3, text_fade=0.0, cold_scale=1.0)
    np.testing.assert_array_equal(
        blend.item_vectors(y, p, np.array([0, 1, 2, 0, 9]), settings), blend.blend(y, p, 0.3)
    )
    assert blend.item_vectors(y[:0], p[:0], np.zeros(0, dtype=np.int64), settings).shape == (0, 7)


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


def test_pad_adds_zeros_and_nothing_where_nothing_is_missing() -> None:
    words = normal(9, 2, 3)
    found = blend.pad(words, 5)
    np.testing.assert_array_equal(found, np.concatenate([words, np.zeros((2, 2))], axis=1))
    assert found.dtype == np.float32
    assert blend.pad(words, 3) is words
    assert blend.pad(words[0], 5).shape == (5,)
    assert blend.pad(words[:0], 5).shape == (0, 5)


def test_blocks_join_the_text_centred_and_at_their_weights() -> None:
    text = blend.normalize(normal(10, 4, 3))
    image, sound = 5 + normal(11, 4, 2), normal(12, 4, 6)
    image[1] = 0
    mean = image[[0, 2, 3]].mean(axis=0)
    none = np.zeros(6, np.float32)
    found = blend.join_blocks(text, [(0.5, image, mean), (2.0, sound, none)])
    assert found.shape == (4, 11)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :3], text)
    for row in (0, 2, 3):
        direction = (image[row] - mean) / np.linalg.norm(image[row] - mean)
        np.testing.assert_allclose(found[row, 3:5], 0.5 * direction, atol=1e-6)
    assert not found[1, 3:5].any(), "no vector is no direction"
    np.testing.assert_allclose(np.linalg.norm(found[:, 5:], axis=1), 2.0, rtol=1e-6)
    assert blend.join_blocks(text, []) is text


def test_words_meet_the_text_of_an_item_and_not_its_blocks() -> None:
    text, words = blend.normalize(normal(13, 4, 3)), blend.normalize(normal(14, 2, 3))
    items = blend.join_blocks(text, [(0.7, normal(15, 4, 2), np.zeros(2, np.float32))])
    np.testing.assert_allclose(blend.pad(words, 5) @ items.T, words @ text.T, atol=1e-6)
    # so a profile of liked items is the sum of both kinds of profile
    liked = sp.csr_matrix(np.array([[1, 0, -1, 0]], dtype=np.float32))
    joint = blend.profiles(liked, items, blend.pad(words[:1], 5), 1.0, 0.5)
    apart = [
        blend.profiles(liked, text, words[:1], 1.0, 0.5),
        blend.profiles(liked, items[:, 3:], np.zeros((1, 2), np.float32), 1.0, 0.5),
    ]
    np.testing.assert_allclose(joint, np.concatenate(apart, axis=1), atol=1e-6)
