"""Ranked lists, their metrics and intervals against loops and numbers worked out by hand."""

from __future__ import annotations

from math import log2

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.metrics import bootstrap_interval, list_metrics, top_k

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
        assert len(listed) == min(k, m)
        filled = listed[listed >= 0]
        assert (listed[len(filled) :] == -1).all()
        assert len(set(filled)) == len(filled)
        best = sorted((s for s in row if s > NEVER), reverse=True)[:k]
        assert [row[i] for i in filled] == best
        ordered = [(-row[i], i) for i in filled]
        assert ordered == sorted(ordered)


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


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        low, high = bootstrap_interval(rng.beta(1, 4, size=80), 200, rng)
        assert low < high
        covered += low <= 0.2 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_is_the_same_for_the_same_seed_and_a_point_when_all_agree() -> None:
    values = np.random.default_rng(1).random(30)
    first, second = (bootstrap_interval(values, 100, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert bootstrap_interval(np.full(9, 0.25), 70, np.random.default_rng(0)) == (0.25, 0.25)
