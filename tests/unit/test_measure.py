"""A block of users on one slice, blocks joined, and the summary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import measure
from pipelines.core.measure import SliceResult, join_results, measure_block, summarize

KS = (1, 2, 5)


def pairs(n: int, m: int, *cells: tuple[int, int]) -> sp.csr_matrix:
    matrix = sp.lil_matrix((n, m), dtype=np.float32)
    for row, column in cells:
        matrix[row, column] = 1
    return matrix.tocsr()


def as_vectors(scores: list[list[float]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """User and item vectors whose products are these scores."""
    return np.array(scores, dtype=np.float32), np.eye(len(scores[0]), dtype=np.float32)


def test_training_pairs_are_masked_and_users_without_relevant_items_passed_over() -> None:
    users, items = as_vectors([[9, 5, 7, 1], [9, 5, 7, 1], [1, 2, 3, 4]])
    result = measure_block(
        users, items, pairs(3, 4, (0, 2), (2, 0)), pairs(3, 4, (0, 0), (2, 3)), np.arange(4), KS
    )
    np.testing.assert_array_equal(result.values["recall@1"], [1, 0])  # users 0 and 2
    np.testing.assert_array_equal(result.values["recall@5"], [1, 1])
    np.testing.assert_array_equal(result.shown[1], [False, False, True, False])
    np.testing.assert_array_equal(result.shown[2], [False, True, True, False])
    np.testing.assert_array_equal(result.shown[5], [True] * 4)


def test_masked_items_do_not_count_as_shown() -> None:
    users, items = as_vectors([[3, 2, 1]])
    result = measure_block(users, items, pairs(1, 3, (0, 1)), pairs(1, 3, (0, 0)), np.arange(3), (5,))
    np.testing.assert_array_equal(result.shown[5], [False, True, True])


def test_only_candidates_compete_and_only_relevant_candidates_count() -> None:
    users, items = as_vectors([[9, 8, 7, 6]])
    result = measure_block(users, items, pairs(1, 4, (0, 0), (0, 3)), pairs(1, 4), np.array([3, 1]), (1, 2))
    np.testing.assert_array_equal(result.values["recall@1"], [0])
    np.testing.assert_array_equal(result.values["recall@2"], [1])
    np.testing.assert_array_equal(result.shown[1], [False, True])  # in the candidates' order
    elsewhere = measure_block(users, items, pairs(1, 4, (0, 0)), pairs(1, 4), np.array([3, 1]), (1,))
    assert len(elsewhere.values["recall@1"]) == 0


def test_no_candidates_give_no_values() -> None:
    users, items = as_vectors([[1, 2]])
    result = measure_block(users, items, pairs(1, 2, (0, 1)), pairs(1, 2), np.zeros(0, dtype=np.int64), KS)
    assert set(result.values) == {f"{m}@{k}" for m in ("recall", "ndcg") for k in KS}
    assert all(len(v) == 0 for v in result.values.values())
    assert summarize(result, 10, 0) == (dict.fromkeys([*result.values, *(f"coverage@{k}" for k in KS)]), {})


def random_block(
    n: int = 40, m: int = 25
) -> tuple[np.ndarray, np.ndarray, sp.csr_matrix, sp.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(0)
    cells = rng.random((n, m))
    return (
        rng.standard_normal((n, 6)).astype(np.float32),
        rng.standard_normal((m, 6)).astype(np.float32),
        sp.csr_matrix((cells < 0.05).astype(np.float32)),
        sp.csr_matrix((cells > 0.8).astype(np.float32)),
        rng.permutation(m)[:20],
    )


def assert_same(left: SliceResult, right: SliceResult) -> None:
    assert list(left.values) == list(right.values)
    for name, values in left.values.items():
        np.testing.assert_allclose(values, right.values[name], err_msg=name)
    for k, shown in left.shown.items():
        np.testing.assert_array_equal(shown, right.shown[k])


def test_blocks_joined_equal_one_block() -> None:
    users, items, relevant, masked, candidates = random_block()
    whole = measure_block(users, items, relevant, masked, candidates, KS)
    blocks = [
        measure_block(users[a:b], items, relevant[a:b], masked[a:b], candidates, KS)
        for a, b in [(0, 13), (13, 13), (13, 40)]
    ]
    assert_same(join_results(blocks), whole)


def test_a_block_is_scored_in_steps_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure_block(*random_block(), KS)
    monkeypatch.setattr(measure, "_SCORES_AT_ONCE", 60)  # three users
    assert_same(measure_block(*random_block(), KS), whole)


def test_a_block_equals_a_loop_over_users() -> None:
    users, items, relevant, masked, candidates = random_block()
    result = measure_block(users, items, relevant, masked, candidates, (3,))
    expected, shown = [], set()
    for user in range(len(users)):
        wanted = set(relevant[user].indices) & set(candidates)
        if not wanted:
            continue
        open_to = [i for i in candidates if i not in set(masked[user].indices)]
        best = sorted(open_to, key=lambda i, user=user: -float(users[user] @ items[i]))[:3]
        expected.append(len(wanted & set(best)) / len(wanted))
        shown |= set(best)
    np.testing.assert_allclose(result.values["recall@3"], expected)
    assert set(candidates[result.shown[3]]) == shown


def test_summary_is_means_coverage_and_intervals_around_them() -> None:
    result = measure_block(*random_block(), KS)
    means, intervals = summarize(result, 200, 0)
    assert list(means) == [
        "recall@1", "ndcg@1", "recall@2", "ndcg@2", "recall@5", "ndcg@5", "coverage@1", "coverage@2", "coverage@5",
    ]  # fmt: skip
    for name, values in result.values.items():
        assert means[name] == pytest.approx(values.mean(), abs=1e-6)
        assert intervals[name][0] <= means[name] <= intervals[name][1]
    assert means["coverage@5"] == pytest.approx(result.shown[5].mean(), abs=1e-6)
    assert set(intervals) == set(result.values)
    assert summarize(result, 200, 0) == (means, intervals)
    assert summarize(result, 0, 0) == (means, {})


def test_no_users_are_an_empty_block() -> None:
    """A catalogue without any behaviour is still measured, with nothing to say."""
    users, items = as_vectors([[1, 2]])
    result = measure_block(users[:0], items, pairs(0, 2), pairs(0, 2), np.arange(2), (5,))
    assert summarize(join_results([result]), 10, 0) == (
        {"recall@5": None, "ndcg@5": None, "coverage@5": None},
        {},
    )
