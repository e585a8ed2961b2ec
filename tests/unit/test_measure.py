"""One slice, one model: lists of a block of users, blocks joined, figures beyond accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp

from pipelines.core import measure as module
from pipelines.core import metrics
from pipelines.core.measure import (
    BEYOND_ACCURACY,
    ItemFacts,
    SliceResult,
    beyond_accuracy,
    join_results,
    measure,
)
from pipelines.core.metrics import RANK_METRICS
from pipelines.core.scoring import Asked
from pipelines.core.slices import Slice

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
KS = (1, 2, 5)


@dataclass(frozen=True)
class Content:
    """A scorer: own words against items."""

    items: FloatArray

    def scores(self, asked: Asked, candidates: IntArray) -> FloatArray:
        """Dot products."""
        return np.asarray(asked.own_profiles @ self.items[candidates].T)


def cells(n: int, m: int, *pairs: tuple[int, int]) -> sp.csr_matrix:
    matrix = sp.lil_matrix((n, m), dtype=np.float32)
    for row, column in pairs:
        matrix[row, column] = 1
    return matrix.tocsr()


def asked_with(own: FloatArray, n_items: int) -> Asked:
    n = len(own)
    return Asked(sp.csr_matrix((n, n_items), dtype=np.float32), own, np.zeros_like(own), [""] * n, [""] * n)


def part_of(relevant: sp.csr_matrix, masked: sp.csr_matrix, candidates: IntArray) -> Slice:
    """A slice whose users are known by nothing, and may have been shown `masked`."""
    history = sp.csr_matrix(masked.shape, dtype=np.float32)
    users = 10 + np.arange(relevant.shape[0])
    return Slice("all", "train", users, history, relevant, masked, np.asarray(candidates))


def run(
    scores: list[list[float]], relevant: sp.csr_matrix, masked: sp.csr_matrix, candidates: IntArray,
    ks: tuple[int, ...] = KS,
) -> SliceResult:  # fmt: skip
    """Measure a model with these scores of all items."""
    n_items = relevant.shape[1]
    scorer = Content(np.eye(n_items, dtype=np.float32))
    asked = asked_with(np.array(scores, dtype=np.float32).reshape(-1, n_items), n_items)
    return measure(scorer, part_of(relevant, masked, candidates), asked, ks)


def test_masked_items_are_not_ranked() -> None:
    result = run(
        [[9, 5, 7, 1], [1, 2, 3, 4]], cells(2, 4, (0, 2), (1, 0)), cells(2, 4, (0, 0), (1, 3)), np.arange(4)
    )
    np.testing.assert_array_equal(result.values["recall@1"], [1, 0])
    np.testing.assert_array_equal(result.values["recall@5"], [1, 1])
    np.testing.assert_array_equal(result.listed, [[2, 1, 3, -1], [2, 1, 0, -1]])
    np.testing.assert_array_equal(result.scores, [[7, 5, 1, np.nan], [3, 2, 1, np.nan]])
    np.testing.assert_array_equal(result.users, [10, 11])


def test_only_candidates_compete_and_lists_hold_item_rows() -> None:
    result = run([[9, 8, 7, 6]], cells(1, 4, (0, 3)), cells(1, 4), np.array([3, 1]), (1, 2))
    np.testing.assert_array_equal(result.values["recall@1"], [0])
    np.testing.assert_array_equal(result.values["recall@2"], [1])
    np.testing.assert_array_equal(result.values["mrr@2"], [1 / 2])
    np.testing.assert_array_equal(result.listed, [[1, 3]])
    assert list(result.values) == [f"{name}@{k}" for k in (1, 2) for name in RANK_METRICS]


def test_what_is_to_be_found_beside_the_candidates_does_not_count() -> None:
    """The slice of all items' users may have more to find than one of its parts shows."""
    result = run([[9, 8, 7, 6]], cells(1, 4, (0, 0), (0, 3)), cells(1, 4), np.array([3, 1]), (2,))
    np.testing.assert_array_equal(result.values["recall@2"], [1])


def test_equal_scores_follow_the_candidates_order() -> None:
    result = run([[1, 1, 1, 1]], cells(1, 4, (0, 3)), cells(1, 4), np.array([2, 0, 3, 1]), (4,))
    np.testing.assert_array_equal(result.listed, [[2, 0, 3, 1]])


@pytest.mark.parametrize("candidates", [[], [0, 1]])
def test_nobody_and_nothing(candidates: list[int]) -> None:
    result = run([], cells(0, 2), cells(0, 2), np.array(candidates, dtype=np.int64))
    assert result.listed.shape == result.scores.shape == (0, len(candidates))
    assert all(len(v) == 0 for v in result.values.values())
    assert set(result.values) == {f"{m}@{k}" for m in RANK_METRICS for k in KS}
    nothing = np.zeros(0, dtype=np.int64)
    facts = ItemFacts(np.zeros(2, dtype=np.int64), 0, np.zeros((2, 3), dtype=np.float32))
    more = beyond_accuracy(result, part_of(cells(0, 2), cells(0, 2), nothing), facts, 5)
    assert all(len(more.values[f"{name}@5"]) == 0 for name in BEYOND_ACCURACY)


def test_no_candidates_leave_empty_lists_that_find_nothing() -> None:
    result = run([[1, 2]], cells(1, 2, (0, 1)), cells(1, 2), np.zeros(0, dtype=np.int64))
    assert result.listed.shape == (1, 0)
    assert all((v == 0).all() and len(v) == 1 for v in result.values.values())


@dataclass(frozen=True)
class Case:
    """A random slice with a model for it."""

    scorer: Content
    part: Slice
    asked: Asked

    def measure(self, start: int = 0, stop: int = 40, ks: tuple[int, ...] = KS) -> SliceResult:
        """Of some of its users."""
        own = self.asked.own_profiles[start:stop]
        return measure(self.scorer, self.part.block(start, stop), asked_with(own, 25), ks)


def random_case(n: int = 40, m: int = 25) -> Case:
    rng = np.random.default_rng(0)
    chance = rng.random((n, m))
    candidates = rng.permutation(m)[:20]
    relevant = chance < 0.05
    relevant[np.arange(n), rng.choice(candidates, n)] = True
    relevant[:, np.setdiff1d(np.arange(m), candidates)] = False
    part = part_of(
        sp.csr_matrix(relevant.astype(np.float32)),
        sp.csr_matrix(((chance > 0.8) & ~relevant).astype(np.float32)),
        candidates,
    )
    own, items = rng.standard_normal((n, 6)), rng.standard_normal((m, 6))
    return Case(Content(items.astype(np.float32)), part, asked_with(own.astype(np.float32), m))


def assert_same(left: SliceResult, right: SliceResult) -> None:
    np.testing.assert_array_equal(left.users, right.users)
    np.testing.assert_array_equal(left.listed, right.listed)
    np.testing.assert_allclose(left.scores, right.scores, rtol=1e-5, atol=1e-6)
    assert list(left.values) == list(right.values)
    for name, values in left.values.items():
        np.testing.assert_allclose(values, right.values[name], err_msg=name)


def test_blocks_joined_equal_one_block() -> None:
    case = random_case()
    blocks = [case.measure(a, b) for a, b in [(0, 13), (13, 13), (13, 40)]]
    assert_same(join_results(blocks), case.measure())


def test_a_block_is_scored_in_steps_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case()
    whole = case.measure()
    for at_once in (60, 1):  # three users; less than one
        monkeypatch.setattr(module, "_SCORES_AT_ONCE", at_once)
        assert_same(case.measure(), whole)


def test_a_block_equals_a_loop_over_users() -> None:
    case = random_case()
    part, result = case.part, case.measure(ks=(3,))
    for user in range(40):
        wanted = set(part.relevant[user].indices)
        open_to = [i for i in part.candidates if i not in set(part.masked[user].indices)]
        scores = case.scorer.items @ case.asked.own_profiles[user]
        best = sorted(open_to, key=lambda i, scores=scores: -float(scores[i]))[:3]
        assert result.listed[user].tolist() == best
        np.testing.assert_allclose(result.scores[user], scores[best], rtol=1e-5, atol=1e-6)
        assert result.values["recall@3"][user] == pytest.approx(len(wanted & set(best)) / len(wanted))
        places = [place for place, i in enumerate(best, 1) if i in wanted]
        assert result.values["mrr@3"][user] == pytest.approx(1 / places[0] if places else 0)


def test_scores_are_not_written_to() -> None:
    """A scorer may hand out an array of its own, read-only or needed again."""
    table = np.array([[3, 2, 1]], dtype=np.float32)
    table.setflags(write=False)

    class Fixed:
        def scores(self, _asked: Asked, _candidates: IntArray) -> FloatArray:
            return table

    part = part_of(cells(1, 3, (0, 1)), cells(1, 3, (0, 0)), np.arange(3))
    result = measure(Fixed(), part, asked_with(np.ones((1, 1), np.float32), 3), (1,))
    np.testing.assert_array_equal(result.listed, [[1]])
    np.testing.assert_array_equal(table, [[3, 2, 1]])


def test_beyond_accuracy_adds_four_figures_of_lists_of_k() -> None:
    case = random_case()
    rng = np.random.default_rng(1)
    result = case.measure()
    counts = rng.integers(0, 3, 25)
    facts = ItemFacts(counts, 9, rng.standard_normal((25, 4)).astype(np.float32))
    more = beyond_accuracy(result, case.part, facts, 2)
    short = result.listed[:, :2]
    assert list(more.values) == [*result.values, *(f"{name}@2" for name in BEYOND_ACCURACY)]
    for name, expected in {
        "novelty@2": metrics.novelty(short, counts, 9),
        "diversity@2": metrics.diversity(short, facts.profiles),
        "cold_share@2": metrics.cold_share(short, counts),
        "popularity_bias@2": metrics.popularity_bias(
            short, case.part.relevant, metrics.popularity_ranks(counts)
        ),
    }.items():
        np.testing.assert_allclose(more.values[name], expected, err_msg=name)
    assert more.listed is result.listed
