"""Row solves, maps and shards of ALS against dense solves, `implicit` itself and known answers.

Dimensions as in `als`: U users, I items, F factors, D text dimensions plus the constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from pipelines.core import als, blend
from pipelines.core.als import RowShard
from pipelines.core.errors import ConfigError
from pipelines.core.pairs import row_shard, text_sums, wanted_counts

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

ALPHA = 5.0


def normal(rng: np.random.Generator, *shape: int) -> FloatArray:
    return rng.standard_normal(shape).astype(np.float32)


def random_weights(rng: np.random.Generator, n: int, m: int, density: float = 0.2) -> sp.csr_matrix:
    """(n, m) weights between -3 and 3, most of them above zero; some rows are likely empty."""
    mask = rng.random((n, m)) < density
    mask[:: max(n // 3, 1)] = False
    weights = np.where(rng.random((n, m)) < 0.25, -1, 1) * rng.uniform(0.2, 3, (n, m))
    return sp.csr_matrix(np.where(mask, weights, 0).astype(np.float32))


def bare_shard(weights: sp.csr_matrix, alpha: float = ALPHA) -> RowShard:
    nothing = np.zeros((weights.shape[0], 1), dtype=np.float32)
    return row_shard(weights, 0, nothing, nothing, alpha)


def dense_solve(
    shard: RowShard, opposite: FloatArray, prior: FloatArray, regularization: float
) -> DoubleArray:
    """Each row's minimiser, as a weighted least squares over every opposite row, observed or not."""
    y = opposite.astype(np.float64)
    n_factors = y.shape[1]
    solved = np.zeros((shard.n_rows, n_factors))
    for row in range(shard.n_rows):
        confidence, wanted = np.ones(len(y)), np.zeros(len(y))
        for entry in range(shard.indptr[row], shard.indptr[row + 1]):
            confidence[shard.indices[entry]] = abs(shard.confidences[entry])
            wanted[shard.indices[entry]] = shard.confidences[entry] > 0
        if shard.indptr[row] < shard.indptr[row + 1]:
            root = np.sqrt(confidence)
            left = np.concatenate([root[:, None] * y, np.sqrt(regularization) * np.eye(n_factors)])
            right = np.concatenate([root * wanted, np.sqrt(regularization) * prior[row].astype(np.float64)])
            solved[row] = np.linalg.lstsq(left, right, rcond=None)[0]
    return solved


@dataclass(frozen=True)
class Case:
    """One half-step to solve."""

    shard: RowShard
    opposite: FloatArray
    prior: FloatArray
    regularization: float

    @property
    def gramian(self) -> DoubleArray:
        """Of the opposite side."""
        return als.gramian(self.opposite)

    @property
    def expected(self) -> DoubleArray:
        """The slow solution."""
        return dense_solve(self.shard, self.opposite, self.prior, self.regularization)


def make_case(seed: int, n: int = 23, m: int = 31, n_factors: int = 6, regularization: float = 3.0) -> Case:
    rng = np.random.default_rng(seed)
    shard = bare_shard(random_weights(rng, n, m))
    return Case(shard, normal(rng, m, n_factors), normal(rng, n, n_factors), regularization)


def test_confidence_is_one_plus_alpha_times_weight_and_negative_for_a_dislike() -> None:
    weights = np.array([1.0, 2.5, -2.0], dtype=np.float32)
    found = als.confidences(weights, 10.0)
    np.testing.assert_array_equal(found, np.array([11, 26, -21], dtype=np.float32))
    assert found.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(1, 9),
    st.floats(0.0625, 100),
)
def test_cholesky_equals_a_dense_solve(
    seed: int, n: int, m: int, n_factors: int, regularization: float
) -> None:
    case = make_case(seed, n, m, n_factors, regularization)
    found = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, case.regularization)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, case.expected, rtol=2e-4, atol=1e-5 * max(1, np.abs(case.prior).max()))


def test_cholesky_is_exact_to_single_precision() -> None:
    case = make_case(1, n=60, m=80, n_factors=16, regularization=10.0)
    found = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, case.regularization)
    np.testing.assert_allclose(found, case.expected, atol=1e-5)


@pytest.mark.parametrize("regularization", [0.5, 30.0])
@pytest.mark.parametrize("warm_start", [False, True])
def test_many_steps_of_cg_come_to_the_dense_solve(regularization: float, warm_start: bool) -> None:
    case = make_case(2, regularization=regularization)
    start = normal(np.random.default_rng(9), *case.prior.shape) if warm_start else None
    found = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, case.regularization,
        solver="cg", cg_steps=60, start=start,
    )  # fmt: skip
    np.testing.assert_allclose(found, case.expected, atol=1e-3)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_long_prior_does_not_weigh_on_itself(solver: str) -> None:
    """The prior's row adds to the matrix what grows with its length; that must stay below rounding."""
    case = make_case(12, n_factors=16, regularization=60.0)
    case = replace(case, prior=10 * case.prior)
    found = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, case.regularization, solver=solver, cg_steps=60
    )
    np.testing.assert_allclose(found, case.expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_disliked_item_is_a_sure_zero(solver: str) -> None:
    """One user, one item, one factor: x = lam prior / (c y^2 + lam) when disliked, + c y when liked."""
    y, prior, lam, c = 2.0, 0.5, 4.0, 1 + ALPHA
    for weight, expected in [
        (-1, lam * prior / (c * y * y + lam)),
        (1, (lam * prior + c * y) / (c * y * y + lam)),
    ]:
        shard = bare_shard(sp.csr_matrix(np.array([[weight]], dtype=np.float32)))
        opposite = np.array([[y]], dtype=np.float32)
        found = als.solve_rows(
            shard, opposite, als.gramian(opposite), np.array([[prior]], dtype=np.float32), lam,
            solver=solver, cg_steps=10,
        )  # fmt: skip
        assert found[0, 0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_rows_without_evidence_are_zero_until_filled_from_the_prior(solver: str) -> None:
    case = make_case(3)
    cold = case.shard.evidence == 0
    assert cold.any()
    assert not cold.all()
    found = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, 3.0, solver=solver)
    assert not found[cold].any()
    filled = als.fill_cold(found, case.shard.evidence, case.prior)
    np.testing.assert_array_equal(filled[cold], case.prior[cold])
    np.testing.assert_array_equal(filled[~cold], found[~cold])


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_an_empty_shard_gives_no_rows(solver: str) -> None:
    opposite = np.ones((4, 3), dtype=np.float32)
    shard = bare_shard(sp.csr_matrix((0, 4), dtype=np.float32))
    found = als.solve_rows(
        shard, opposite, als.gramian(opposite), np.zeros((0, 3), np.float32), 1.0, solver=solver
    )
    assert found.shape == (0, 3)
    assert found.dtype == np.float32


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_memory_order_and_read_only_inputs_make_no_difference(solver: str) -> None:
    """Arrays that come out of Ray's object store are read-only; nothing given is written to."""
    case = make_case(4)
    start = normal(np.random.default_rng(5), *case.prior.shape)
    usual = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, 3.0, solver=solver, start=start
    )

    def locked(array: np.ndarray) -> np.ndarray:
        array = np.asfortranarray(array)
        array.flags.writeable = False
        return array

    shard = replace(
        case.shard,
        indptr=locked(case.shard.indptr),
        indices=locked(case.shard.indices),
        confidences=locked(case.shard.confidences),
    )
    odd = als.solve_rows(
        shard, locked(case.opposite), locked(case.gramian), locked(case.prior), 3.0,
        solver=solver, start=locked(start),
    )  # fmt: skip
    np.testing.assert_array_equal(odd, usual)
    single = locked(case.gramian.astype(np.float32))
    also = als.solve_rows(
        shard, locked(case.opposite), single, locked(case.prior), 3.0, solver=solver, start=locked(start)
    )
    np.testing.assert_array_equal(also, usual)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_without_text_it_is_implicit(solver: str) -> None:
    rng = np.random.default_rng(6)
    weights = random_weights(rng, 40, 30)
    user_start, item_start = 0.1 * normal(rng, 40, 7), 0.1 * normal(rng, 30, 7)
    confident = weights.copy()
    confident.data = als.confidences(weights.data, ALPHA)
    with threadpool_limits(1, "blas"):  # implicit warns of more
        theirs = AlternatingLeastSquares(
            factors=7, regularization=2.0, alpha=1.0, iterations=6, use_cg=solver == "cg", num_threads=1
        )
        theirs.user_factors, theirs.item_factors = user_start.copy(), item_start.copy()
        theirs.fit(confident, show_progress=False)

    users, items = bare_shard(weights), bare_shard(weights.T.tocsr())
    x, y = user_start, item_start
    for _ in range(6):
        x = als.solve_rows(
            users, y, als.gramian(y), np.zeros_like(x), 2.0, solver=solver, cg_steps=3, start=x
        )
        y = als.solve_rows(
            items, x, als.gramian(x), np.zeros_like(y), 2.0, solver=solver, cg_steps=3, start=y
        )
    np.testing.assert_allclose(x, theirs.user_factors, atol=2e-5)
    np.testing.assert_allclose(y, theirs.item_factors, atol=2e-5)


@dataclass(frozen=True)
class Fitted:
    """Factors and maps of both sides, cold rows filled in."""

    x: FloatArray
    y: FloatArray
    user_map: FloatArray
    item_map: FloatArray


def fit(
    weights: sp.csr_matrix, item_text: FloatArray, own_text: FloatArray, item_start: FloatArray, *,
    n_shards: int = 1, iterations: int = 4, regularization: float = 2.0, solver: str = "cholesky",
) -> Fitted:  # fmt: skip
    """The alternation of the factorize stage, with shards but without Ray."""
    features = blend.features(item_text)
    by_item = weights.T.tocsr()
    profile = blend.profiles(weights.sign().tocsr(), item_text, own_text, 1.0, 0.5)
    own = blend.own_features(own_text)
    counts = wanted_counts(by_item)

    def shards(
        rows: sp.csr_matrix, row_features: FloatArray, sums: FloatArray
    ) -> list[tuple[RowShard, slice]]:
        cuts = als.cut_rows(rows.indptr.astype(np.int64), n_shards)
        return [(row_shard(rows[a:b], a, row_features[a:b], sums[a:b], ALPHA), slice(a, b)) for a, b in cuts]

    def solve(
        side: list[tuple[RowShard, slice]], opposite: list[FloatArray], text_map: FloatArray
    ) -> list[FloatArray]:
        gram = np.sum([als.gramian(part) for part in opposite], axis=0)
        return [
            als.solve_rows(
                shard,
                np.concatenate(opposite),
                gram,
                shard.features @ text_map,
                regularization,
                solver=solver,
                cg_steps=5,
            )
            for shard, _ in side
        ]

    def fit_map(
        side: list[tuple[RowShard, slice]], factors: list[FloatArray], gram: DoubleArray
    ) -> FloatArray:
        cross = np.sum([als.map_cross(s, f) for (s, _), f in zip(side, factors, strict=True)], axis=0)
        return als.ridge_map(gram, cross, 1.0)

    users = shards(weights, blend.features(profile), text_sums(weights, features, own))
    items = shards(by_item, features, features * counts[:, None])
    item_gram = np.sum([als.map_gram(features[cut], counts[cut]) for _, cut in items], axis=0)
    user_gram = item_gram + np.sum(
        [als.map_gram(own[cut], wanted_counts(weights[cut])) for _, cut in users], axis=0
    )
    user_map = item_map = np.zeros((features.shape[1], item_start.shape[1]), dtype=np.float32)
    y = [
        np.where((shard.evidence > 0)[:, None], item_start[cut], 0).astype(np.float32) for shard, cut in items
    ]
    for _ in range(iterations):
        x = solve(users, y, user_map)
        user_map = fit_map(users, x, user_gram)
        y = solve(items, x, item_map)
        item_map = fit_map(items, y, item_gram)
    x = solve(users, y, user_map)

    def filled(
        side: list[tuple[RowShard, slice]], factors: list[FloatArray], text_map: FloatArray
    ) -> FloatArray:
        return np.concatenate(
            [
                als.fill_cold(f, s.evidence, s.features @ text_map)
                for (s, _), f in zip(side, factors, strict=True)
            ]
        )

    return Fitted(filled(users, x, user_map), filled(items, y, item_map), user_map, item_map)


def random_problem(seed: int) -> tuple[sp.csr_matrix, FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    own = blend.normalize(normal(rng, 50, 5))
    own[::4] = 0  # users without a text of their own
    return (
        random_weights(rng, 50, 35),
        blend.normalize(normal(rng, 35, 5)),
        own,
        np.float32(0.01) * normal(rng, 35, 6),
    )


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_the_number_of_shards_changes_nothing(solver: str) -> None:
    problem = random_problem(7)
    whole = fit(*problem, solver=solver)
    for n_shards in (2, 7):
        cut = fit(*problem, n_shards=n_shards, solver=solver)
        for name in ("x", "y", "user_map", "item_map"):
            np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), atol=2e-6, err_msg=name)


def test_permuting_users_permutes_their_factors_and_leaves_the_items() -> None:
    weights, item_text, own_text, start = random_problem(8)
    order = np.random.default_rng(1).permutation(weights.shape[0])
    straight = fit(weights, item_text, own_text, start)
    permuted = fit(weights[order], item_text, own_text[order], start)
    np.testing.assert_allclose(permuted.x, straight.x[order], atol=1e-5)
    np.testing.assert_allclose(permuted.y, straight.y, atol=1e-5)


def checkerboard(n: int) -> sp.csr_matrix:
    """User u wants item i where both are even or both odd."""
    return sp.csr_matrix(np.equal.outer(np.arange(n) % 2, np.arange(n) % 2).astype(np.float32))


def test_checkerboard_is_reproduced() -> None:
    n = 20
    board = checkerboard(n)
    no_text = np.zeros((n, 2), dtype=np.float32)
    start = np.float32(0.1) * normal(np.random.default_rng(0), n, 3)
    fitted = fit(board, no_text, no_text, start, iterations=15, regularization=1e-3)
    np.testing.assert_allclose(fitted.x @ fitted.y.T, board.toarray(), atol=1e-2)


def test_checkerboard_minus_one_pair_per_user_brings_that_pair_back() -> None:
    n = 20
    board = checkerboard(n).tolil()
    board.setdiag(0)
    no_text = np.zeros((n, 2), dtype=np.float32)
    start = np.float32(0.1) * normal(np.random.default_rng(0), n, 2)
    fitted = fit(board.tocsr(), no_text, no_text, start, iterations=10, regularization=1.0)
    scores = np.where(board.toarray() > 0, -np.inf, fitted.x @ fitted.y.T)
    np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(n))


def test_cold_rows_of_a_checkerboard_are_known_by_their_text() -> None:
    """The last four items were never seen; their text says whether they are even or odd."""
    n = 20
    board = checkerboard(n).tolil()
    board[:, -4:] = 0
    item_text = np.eye(2, dtype=np.float32)[np.arange(n) % 2] - np.float32(0.5)
    start = np.float32(0.1) * normal(np.random.default_rng(0), n, 2)
    fitted = fit(board.tocsr(), item_text, np.zeros((n, 2), np.float32), start, iterations=10)
    np.testing.assert_array_equal(
        (fitted.x @ fitted.y[-4:].T) > 0.5, np.equal.outer(np.arange(n) % 2, np.arange(16, 20) % 2)
    )


def test_maps_are_a_ridge_regression_over_single_texts() -> None:
    """One row per wanted pair, written out: the item's text, and the user's own words where there are any."""
    rng = np.random.default_rng(11)
    weights, item_text, own_text, _ = random_problem(11)
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


def test_a_hopeless_regularization_is_a_clear_message() -> None:
    """Rounding makes the matrix of this row indefinite; LAPACK's word for it would help nobody."""
    rng = np.random.default_rng(0)
    opposite = (1e4 * np.repeat(rng.normal(size=(3, 1)), 8, axis=1)).astype(np.float32)
    shard = RowShard(
        start=0,
        indptr=np.array([0, 3], dtype=np.int32),
        indices=np.arange(3, dtype=np.int32),
        confidences=np.full(3, 1e6, dtype=np.float32),
        features=np.ones((1, 1), dtype=np.float32),
        text_sums=np.ones((1, 1), dtype=np.float32),
    )
    with pytest.raises(ConfigError, match=r"Raise factorize\.user_regularization"):
        als.solve_rows(shard, opposite, als.gramian(opposite), np.zeros((1, 8), dtype=np.float32), 1e-6)
