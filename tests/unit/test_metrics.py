"""Ranked lists and their metrics against trec_eval, loops and numbers worked out by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import numpy.typing as npt
import pytest
import pytrec_eval
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import metrics
from pipelines.core.metrics import RANK_METRICS, list_metrics, top_k

NEVER = -np.inf


def scores_of(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def test_best_first() -> None:
    found = top_k(scores_of([0.1, 0.9, 0.5, 0.7], [4, 3, 2, 1]), 3)
    np.testing.assert_array_equal(found, [[1, 3, 2], [0, 1, 2]])


def test_equal_scores_follow_the_columns() -> None:
    np.testing.assert_array_equal(top_k(scores_of([1, 2, 1, 2, 1]), 5), [[1, 3, 0, 2, 4]])


def test_minus_infinity_is_never_chosen() -> None:
    found = top_k(scores_of([NEVER, 1, NEVER, 2], [NEVER] * 4), 3)
    np.testing.assert_array_equal(found, [[3, 1, -1], [-1, -1, -1]])


def test_a_list_is_no_longer_than_the_candidates() -> None:
    np.testing.assert_array_equal(top_k(scores_of([3, 5]), 10), [[1, 0]])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 15), st.integers(1, 6))
def test_top_k_equals_sorting(seed: int, m: int, k: int, n_levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice([NEVER, *range(n_levels)], (5, m)).astype(np.float32)
    for row, listed in zip(scores, top_k(scores, k), strict=True):
        by_score_then_column = np.argsort(-row, kind="stable")[:k]
        np.testing.assert_array_equal(listed, [i if row[i] > NEVER else -1 for i in by_score_then_column])


def test_metrics_worked_out_by_hand() -> None:
    top = np.array([[2, 0, 1], [1, 2, -1], [0, 1, 2]])
    relevant = sp.csr_matrix(np.array([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1]]))
    found = list_metrics(top, relevant, (1, 2, 3))
    np.testing.assert_allclose(found["recall@1"], [0, 1 / 3, 0])
    np.testing.assert_allclose(found["recall@2"], [1, 2 / 3, 0])
    np.testing.assert_allclose(found["recall@3"], [1, 2 / 3, 0])
    np.testing.assert_allclose(found["ndcg@1"], [0, 1, 0])
    np.testing.assert_allclose(found["ndcg@2"], [1 / log2(3), 1, 0])
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    np.testing.assert_allclose(found["ndcg@3"], [1 / log2(3), (1 + 1 / log2(3)) / ideal, 0])
    np.testing.assert_allclose(found["map@1"], [0, 1 / 3, 0])
    np.testing.assert_allclose(found["map@3"], [1 / 2, 2 / 3, 0])
    np.testing.assert_allclose(found["mrr@1"], [0, 1, 0])
    np.testing.assert_allclose(found["mrr@2"], [1 / 2, 1, 0])
    np.testing.assert_array_equal(found["hit_rate@1"], [0, 1, 0])
    np.testing.assert_array_equal(found["hit_rate@3"], [1, 1, 0])
    assert list(found) == [f"{name}@{k}" for k in (1, 2, 3) for name in RANK_METRICS]


def test_a_list_shorter_than_k_is_taken_as_it_is() -> None:
    found = list_metrics(np.array([[1, 0], [-1, -1]]), sp.csr_matrix([[1, 0], [0, 1]]), (1, 5))
    np.testing.assert_array_equal(found["recall@5"], [1, 0])
    np.testing.assert_allclose(found["ndcg@5"], [1 / log2(3), 0])
    np.testing.assert_allclose(found["map@5"], [1 / 2, 0])
    np.testing.assert_allclose(found["mrr@5"], [1 / 2, 0])
    np.testing.assert_array_equal(found["mrr@1"], [0, 0])


TREC = {
    "recall": "recall_{}", "ndcg": "ndcg_cut_{}", "map": "map_cut_{}", "hit_rate": "success_{}",
}  # fmt: skip
"""Our name to trec_eval's. It has no reciprocal rank at a cutoff: there the run is cut."""


def by_trec_eval(
    top: npt.NDArray[np.int64], relevant: npt.NDArray[np.bool_], k: int
) -> dict[str, list[float]]:
    def run(length: int) -> dict[str, dict[str, float]]:
        return {
            f"u{user}": {f"i{item}": 1000.0 - place for place, item in enumerate(row[:length]) if item >= 0}
            for user, row in enumerate(top)
        }

    truth = {f"u{u}": {f"i{i}": 1 for i in np.flatnonzero(row)} for u, row in enumerate(relevant)}
    whole = pytrec_eval.RelevanceEvaluator(truth, {n.format(k) for n in TREC.values()}).evaluate(run(10**6))
    cut = pytrec_eval.RelevanceEvaluator(truth, {"recip_rank"}).evaluate(run(k))
    users = list(truth)
    # a user without a list is passed over there and counts as 0 here
    found = {f"{ours}@{k}": [whole[u][theirs.format(k)] if u in whole else 0.0 for u in users]
             for ours, theirs in TREC.items()}  # fmt: skip
    return found | {f"mrr@{k}": [cut[u]["recip_rank"] if u in cut else 0.0 for u in users]}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.02, 0.9), st.floats(0, 1))
def test_rank_metrics_are_those_of_trec_eval(seed: int, m: int, density: float, empty: float) -> None:
    """Dense relevance gives users with more relevant items than k; masked items leave empty places."""
    rng = np.random.default_rng(seed)
    relevant = rng.random((7, m)) < density
    relevant[np.arange(7), rng.integers(0, m, 7)] = True
    scores = np.where(rng.random((7, m)) < empty, NEVER, rng.permuted(np.tile(np.arange(m), (7, 1)), axis=1))
    top = top_k(scores.astype(np.float32), 20)
    ks = (1, 5, 10, 20)  # the cutoffs trec_eval has for all of these
    found = list_metrics(top, sp.csr_matrix(relevant), ks)
    for k in ks:
        for name, values in by_trec_eval(top, relevant, k).items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9, err_msg=name)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_metrics_equal_a_loop_over_users(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((6, m)) < 0.4
    relevant[np.arange(6), rng.integers(0, m, 6)] = True
    top = top_k(np.where(rng.random((6, m)) < 0.3, NEVER, rng.random((6, m))).astype(np.float32), 10)
    ks = (1, 3, 10)
    found = list_metrics(top, sp.csr_matrix(relevant), ks)
    for user in range(6):
        wanted = set(np.flatnonzero(relevant[user]))
        for k in ks:
            listed = list(top[user])[:k]
            hits = [place for place, item in enumerate(listed, start=1) if item in wanted]
            ideal = sum(1 / log2(place + 1) for place in range(1, min(k, len(wanted)) + 1))
            assert found[f"recall@{k}"][user] == pytest.approx(len(hits) / len(wanted))
            assert found[f"ndcg@{k}"][user] == pytest.approx(sum(1 / log2(p + 1) for p in hits) / ideal)


# ---------------------------------------------------------------- beyond accuracy

LISTS = np.array([[0, 1, 2], [3, 0, -1], [-1, -1, -1]])


def test_novelty_is_surprise_in_bits() -> None:
    counts = np.array([6, 2, 0, 14])
    bits = [-log2(7 / 16), -log2(3 / 16), -log2(1 / 16), -log2(15 / 16)]
    found = metrics.novelty(LISTS, counts, 14)
    np.testing.assert_allclose(found, [np.mean(bits[:3]), np.mean([bits[3], bits[0]]), 0])
    # an item that everybody has is no surprise, but not one of minus infinity either
    assert 0 < metrics.novelty(np.array([[0]]), np.array([10**6]), 10**6)[0] < 1e-5


def test_cold_share_counts_filled_places() -> None:
    counts = np.array([0, 4, 0, 0])
    np.testing.assert_allclose(metrics.cold_share(LISTS, counts), [2 / 3, 1, 0])


def test_popularity_ranks_by_hand() -> None:
    """Of five items: one unknown, two tied, one above; half of a tie counts, itself included."""
    np.testing.assert_allclose(
        metrics.popularity_ranks(np.array([3, 0, 3, 9, 1])), [(2 + 4) / 10, 0, 0.6, 0.9, 0.3]
    )
    np.testing.assert_array_equal(metrics.popularity_ranks(np.zeros(3, dtype=np.int64)), np.zeros(3))
    assert len(metrics.popularity_ranks(np.zeros(0, dtype=np.int64))) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_popularity_ranks_equal_counting(counts: list[int]) -> None:
    found = metrics.popularity_ranks(np.array(counts))
    for own, rank in zip(counts, found, strict=True):
        below, tied = sum(c < own for c in counts), sum(c == own for c in counts)
        assert rank == pytest.approx((below + tied / 2) / len(counts) if own else 0)


def test_popularity_bias_is_what_is_listed_less_what_was_chosen() -> None:
    popularity = np.array([0.1, 0.5, 0.9, 0.3])
    chosen = sp.csr_matrix(np.array([[0, 2, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]))  # the weight does not count
    found = metrics.popularity_bias(LISTS, chosen, popularity)
    np.testing.assert_allclose(found, [0.5 - 0.5, 0.2 - 0.2, 0 - 0.9], atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_diversity_equals_a_loop_over_pairs(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    profiles = rng.standard_normal((9, 4)).astype(np.float32)
    profiles[rng.random(9) < 0.3] = 0  # no text
    listed = np.array([rng.permutation(9)[:length] for _ in range(5)]).reshape(5, length)
    listed[rng.random((5, length)) < 0.2] = -1
    for row, found in zip(listed, metrics.diversity(listed, profiles), strict=True):
        vectors = [profiles[i] for i in row if i >= 0 and profiles[i].any()]
        cosines = [
            float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
            for place, a in enumerate(vectors)
            for b in vectors[:place]
        ]
        assert found == pytest.approx(1 - np.mean(cosines) if cosines else 0, abs=1e-5)


def test_diversity_by_hand() -> None:
    profiles = np.array([[2, 0], [0, 3], [5, 0], [-1, 0], [0, 0]], dtype=np.float32)
    listed = np.array([[0, 1], [0, 2], [0, 3], [0, -1], [0, 4]])
    np.testing.assert_allclose(metrics.diversity(listed, profiles), [1, 0, 2, 0, 0], atol=1e-6)


def test_coverage() -> None:
    assert metrics.coverage(np.array([0.0, 3, 1, 0])) == 0.5
    assert metrics.coverage(np.zeros(4)) == 0
    assert metrics.coverage(np.zeros(0)) == 0


def test_gini_by_hand() -> None:
    assert metrics.gini(np.full(7, 3.0)) == pytest.approx(0)
    assert metrics.gini(np.array([0.0, 0, 0, 8])) == pytest.approx(3 / 4)
    assert metrics.gini(np.array([1.0, 3])) == pytest.approx(1 / 4)
    assert metrics.gini(np.zeros(5)) == metrics.gini(np.zeros(0)) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=25))
def test_gini_is_half_the_relative_mean_difference(exposure: list[int]) -> None:
    values = np.array(exposure, dtype=np.float64)
    difference = np.abs(values[:, None] - values[None, :]).mean()
    expected = difference / (2 * values.mean()) if values.any() else 0.0
    assert metrics.gini(values) == pytest.approx(expected, abs=1e-12)


def test_a_length_beyond_all_candidates_costs_nothing() -> None:
    top, relevant = np.array([[1, 0, 2]]), sp.csr_matrix([[0, 1, 1]])
    found = list_metrics(top, relevant, (3, 10**12))
    for name in ("recall", "ndcg", "map", "mrr", "hit_rate"):
        assert found[f"{name}@{10**12}"] == found[f"{name}@3"]
