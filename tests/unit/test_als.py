"""Row solves of ALS against dense solves, `implicit` itself and known answers.

Dimensions as in `als`: U users, I items, F factors, D text dimensions plus the constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu import _als
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from pipelines.core import als, row_solver
from pipelines.core.als import RowShard
from pipelines.core.errors import ConfigError
from tests.unit.als_cases import (
    ALPHA,
    Case,
    FloatArray,
    bare_shard,
    dense_solve,
    make_case,
    normal,
    random_weights,
)


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


@pytest.mark.parametrize("cut", [1, 40])
@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_row_knows_a_share_of_the_gramian(
    solver: Literal["cholesky", "cg"], cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short rows, rows that are longer than F, and with a small buffer rows that are summed in pieces."""
    monkeypatch.setattr(row_solver, "_BATCH_FLOATS", row_solver._BATCH_FLOATS if cut == 1 else 40)
    monkeypatch.setattr(row_solver, "_LONG_FLOATS", row_solver._LONG_FLOATS if cut == 1 else 40)
    case = make_case(4, n=30, m=60)
    exposure = np.random.default_rng(5).uniform(0.01, 1.0, 30).astype(np.float32)
    exposure[:3] = 1.0
    shard = replace(case.shard, exposure=exposure)
    found = als.solve_rows(
        shard, case.opposite, case.gramian, case.prior, case.regularization, solver=solver, cg_steps=60
    )
    for row in range(30):  # whoever is owed a part of it alone, solved as if it were all there is
        alone = replace(
            case.shard, indptr=case.shard.indptr[row : row + 2] - case.shard.indptr[row],
            indices=case.shard.indices[case.shard.indptr[row] : case.shard.indptr[row + 1]],
            confidences=case.shard.confidences[case.shard.indptr[row] : case.shard.indptr[row + 1]],
        )  # fmt: skip
        gramian = float(exposure[row]) * case.gramian
        expected = als.solve_rows(
            alone, case.opposite, gramian, case.prior[row : row + 1], case.regularization
        )
        np.testing.assert_allclose(found[row], expected[0], atol=1e-3 if solver == "cg" else 1e-4)


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
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 20), st.integers(1, 6), st.integers(1, 14)
)
def test_each_row_may_have_a_regularization_of_its_own(
    solver: Literal["cholesky", "cg"], seed: int, n: int, m: int, n_factors: int, n_different: int
) -> None:
    """Rows are solved in batches by length; the answer is in the order of the rows."""
    case = make_case(seed, n, m, n_factors)
    rng = np.random.default_rng(seed)
    strengths = rng.choice(np.exp2(rng.uniform(-2, 6, n_different)), n)
    start = normal(rng, n, n_factors)
    found = als.solve_rows(
        case.shard,
        case.opposite,
        case.gramian,
        case.prior,
        strengths,
        solver=solver,
        cg_steps=80,
        start=start,
    )
    expected = dense_solve(case.shard, case.opposite, case.prior, strengths)
    scale = max(1, np.abs(case.prior).max(), np.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=(2e-5 if solver == "cholesky" else 2e-3) * scale)
    assert not found[case.shard.evidence == 0].any()


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_one_regularization_for_all_is_the_same_as_one_each(solver: Literal["cholesky", "cg"]) -> None:
    case = make_case(14)
    one, each = (
        als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, lam, solver=solver)
        for lam in (7.0, np.full(case.shard.n_rows, 7.0))
    )
    np.testing.assert_array_equal(one, each)


def test_a_row_by_itself_is_solved_as_among_others() -> None:
    """Rows of another regularization and length in the same batch: each in a call of its own gives the same."""
    case = make_case(15, n=9)
    strengths = np.array([3.0, 1, 3, 0.5, 1, 3, 8, 0.5, 1])
    together = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, strengths)
    for row in range(9):
        cut = slice(case.shard.indptr[row], case.shard.indptr[row + 1])
        alone = replace(
            case.shard,
            indptr=(case.shard.indptr[row : row + 2] - case.shard.indptr[row]).astype(np.int32),
            indices=case.shard.indices[cut],
            confidences=case.shard.confidences[cut],
        )
        found = als.solve_rows(
            alone, case.opposite, case.gramian, case.prior[row : row + 1], float(strengths[row])
        )
        np.testing.assert_allclose(found[0], together[row], atol=1e-6)


def test_regularization_grows_with_evidence_in_half_powers_of_two() -> None:
    evidence = np.array([0, 1, 2, 3, 4, 6, 7, 15, 1023], dtype=np.int32)
    found = als.row_regularization(evidence, 5.0, 1.0)
    # 3 counts as 2^1.5, 5 as 2^2.5 (5.66) and 7 as 2^3
    expected = 5 * np.array([1, 2, 2**1.5, 4, 2**2.5, 8, 8, 16, 1024])
    np.testing.assert_allclose(found, expected[[0, 1, 2, 3, 4, 5, 6, 7, 8]])
    np.testing.assert_allclose(als.row_regularization(evidence, 5.0, 0.5), 5 * (expected / 5) ** 0.5)
    np.testing.assert_array_equal(als.row_regularization(evidence, 5.0, 0.0), np.full(9, 5.0))
    every = als.row_regularization(np.arange(100_000, dtype=np.int32), 1.0, 1.0)
    assert len(np.unique(every)) < 40
    assert np.all(np.abs(np.log2(every / (1 + np.arange(100_000)))) <= 0.25 + 1e-9)


def test_the_share_of_the_text_fades_with_evidence() -> None:
    evidence = np.array([0, 5, 10, 990], dtype=np.int32)
    found = als.prior_share(evidence, 10.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 1 / 1.5, 0.5, 0.01], rtol=1e-6)
    np.testing.assert_array_equal(als.prior_share(evidence, 0.0), np.ones(4))


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_rows_of_every_length_equal_a_dense_solve(
    solver: Literal["cholesky", "cg"], n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter and longer than F, one to a batch, longer than a batch, and too long for CG; several lots of each."""
    monkeypatch.setattr(row_solver, "_BATCH_FLOATS", 24 * 5)
    monkeypatch.setattr(row_solver, "_LONG_FLOATS", 40 * 5)
    monkeypatch.setattr(row_solver, "_LOT_BATCHES", 3)
    rng = np.random.default_rng(16)
    lengths = np.array([0, 1, 1, 2, 3, 4, 5, 6, 6, 9, 12, 23, 24, 25, 40, 60, 0, 2])
    dense = np.zeros((len(lengths), 60), dtype=np.float32)
    for row, length in enumerate(lengths):
        dense[row, rng.choice(60, length, replace=False)] = rng.uniform(0.2, 3, length) * rng.choice(
            [1, 1, -1]
        )
    case = Case(bare_shard(sp.csr_matrix(dense)), normal(rng, 60, 5), normal(rng, len(lengths), 5), 2.0)
    strengths = rng.uniform(0.5, 9, len(lengths))
    found = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, strengths,
        solver=solver, cg_steps=30, num_threads=n_threads,
    )  # fmt: skip
    np.testing.assert_allclose(
        found, dense_solve(case.shard, case.opposite, case.prior, strengths), atol=2e-5
    )


@pytest.mark.parametrize("lot_rows", [1, 2, 7])
@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_rows_of_one_length_are_cut_into_lots(
    solver: Literal["cholesky", "cg"], lot_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lot ends when it has its rows, within a batch that would have room for more."""
    monkeypatch.setattr(row_solver, "_LOT_ROWS", lot_rows)
    rng = np.random.default_rng(20)
    weights = sp.csr_matrix(np.tile(np.array([[1, 0, 2, 0, -1]], dtype=np.float32), (7, 1)))
    case = Case(bare_shard(weights), normal(rng, 5, 3), normal(rng, 7, 3), 2.0)
    found = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, 2.0, solver=solver, cg_steps=20
    )
    np.testing.assert_allclose(found, case.expected, atol=2e-5)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_steps_of_cg_are_those_of_the_textbook(n_steps: int) -> None:
    """Hestenes and Stiefel on one row's dense system, preconditioned by (Y'Y + lam I)^-1, from the same start."""
    case = make_case(21, n=6, m=40, n_factors=8)
    start = normal(np.random.default_rng(22), *case.prior.shape)
    found = als.solve_rows(
        case.shard, case.opposite, case.gramian, case.prior, 3.0, solver="cg", cg_steps=n_steps, start=start
    )
    y = case.opposite.astype(np.float64)
    common = y.T @ y + 3.0 * np.eye(8)
    for row in range(6):
        entries = slice(case.shard.indptr[row], case.shard.indptr[row + 1])
        if entries.start == entries.stop:
            continue
        few, signed = y[case.shard.indices[entries]], case.shard.confidences[entries].astype(np.float64)
        matrix = common + (few.T * (np.abs(signed) - 1)) @ few
        x = start[row].astype(np.float64)
        residual = few.T @ np.maximum(signed, 0) + 3.0 * case.prior[row] - matrix @ x
        direction = step = np.linalg.solve(common, residual)
        for _ in range(n_steps):
            before = residual @ step
            along = before / (direction @ matrix @ direction)
            x, residual = x + along * direction, residual - along * matrix @ direction
            step = np.linalg.solve(common, residual)
            direction = step + residual @ step / before * direction
        np.testing.assert_allclose(found[row], x, atol=1e-4)


@pytest.mark.parametrize("always", [0.0, np.inf])
def test_either_rotation_is_good_enough_where_rounding_is_small(
    always: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both branches: double precision throughout, and single throughout."""
    monkeypatch.setattr(row_solver, "_LITTLE_NOISE", always)
    case = make_case(23, n=40, m=60, n_factors=12, regularization=20.0)
    found = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, 20.0)
    np.testing.assert_allclose(found, case.expected, atol=1e-5)


@pytest.mark.parametrize(("precision", "least", "most"), [(1e-6, 0, 1e-5), (np.inf, 1e-4, 1)])
def test_what_rounding_would_drown_is_rotated_in_double_precision(
    precision: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opposite rows all but a hundred-thousandth in one direction, a tiny lam; single precision is visibly worse."""
    monkeypatch.setattr(row_solver, "_LITTLE_NOISE", precision)
    rng = np.random.default_rng(24)
    strong, weak = normal(rng, 200, 1), normal(rng, 200, 3)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    opposite = (np.hstack([100 * strong, 1e-3 * weak]) @ turn).astype(np.float32)
    shard = bare_shard(random_weights(rng, 30, 200))
    case = Case(shard, opposite, np.zeros((30, 4), dtype=np.float32), 1e-5)
    found = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, case.regularization)
    expected = case.expected
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert least <= error < most


@pytest.mark.parametrize("sizes", [[400], [1, 0, 150, 249], [100] * 4])
def test_opposite_rows_may_come_in_blocks_one_at_a_time(sizes: list[int]) -> None:
    """A block may be gone when the next one is made: only what the shard touches is kept."""
    case = make_case(19, n=9, m=400)
    whole = als.solve_rows(case.shard, case.opposite, case.gramian, case.prior, 3.0)

    def blocks() -> Iterator[FloatArray]:
        start = 0
        for size in sizes:
            block = case.opposite[start : start + size].copy()
            yield block
            block[:] = np.nan
            start += size

    found = als.solve_rows(case.shard, blocks(), case.gramian, case.prior, 3.0)
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_pair_of_weight_zero_is_wanted_at_the_confidence_of_the_unseen(solver: str) -> None:
    """C = 1 and p = 1: it adds y to the right-hand side and nothing to the matrix."""
    rng = np.random.default_rng(17)
    opposite, prior = normal(rng, 9, 4), normal(rng, 1, 4)
    shard = RowShard(
        start=0,
        indptr=np.array([0, 2], dtype=np.int32),
        indices=np.array([3, 5], dtype=np.int32),
        confidences=np.array([1, 4], dtype=np.float32),
        features=prior,
        text_sums=prior,
    )
    found = als.solve_rows(shard, opposite, als.gramian(opposite), prior, 2.0, solver=solver, cg_steps=20)
    np.testing.assert_allclose(found, dense_solve(shard, opposite, prior, 2.0), atol=1e-5)


def test_opposite_rows_that_are_not_touched_are_not_looked_at() -> None:
    """Of a catalogue of millions a short history reads what it touches; what is not touched may be anything."""
    case = make_case(18, n=7, m=800)
    assert 0 < len(case.shard.indices) < 800
    gramian, hole = case.gramian, case.opposite.copy()
    hole[np.setdiff1d(np.arange(800), case.shard.indices)] = np.nan
    found = als.solve_rows(case.shard, hole, gramian, case.prior, 3.0)
    np.testing.assert_allclose(found, case.expected, atol=1e-4)


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
    np.testing.assert_allclose(also, usual, atol=1e-5)  # a gramian as it is stored


def without_text(
    weights: sp.csr_matrix, x: FloatArray, y: FloatArray, solver: Literal["cholesky", "cg"], cg_steps: int
) -> tuple[FloatArray, FloatArray]:
    """Six passes with priors of zero."""
    users, items = bare_shard(weights), bare_shard(weights.T.tocsr())
    for _ in range(6):
        x = als.solve_rows(
            users, y, als.gramian(y), np.zeros_like(x), 2.0, solver=solver, cg_steps=cg_steps, start=x
        )
        y = als.solve_rows(
            items, x, als.gramian(x), np.zeros_like(y), 2.0, solver=solver, cg_steps=cg_steps, start=y
        )
    return x, y


@pytest.mark.parametrize(("solver", "cg_steps"), [("cholesky", 0), ("cg", 12)])
def test_without_text_it_is_implicit(solver: Literal["cholesky", "cg"], cg_steps: int) -> None:
    rng = np.random.default_rng(6)
    weights = random_weights(rng, 40, 30)
    start = 0.1 * normal(rng, 40, 7), 0.1 * normal(rng, 30, 7)
    theirs = implicit_als(weights, *start, use_cg=False)
    x, y = without_text(weights, *start, solver, cg_steps)
    np.testing.assert_allclose(x, theirs.user_factors, atol=2e-5)
    np.testing.assert_allclose(y, theirs.item_factors, atol=2e-5)
    confident = confident_pairs(weights)
    ours = _als.calculate_loss(confident, x, y, 2.0)
    assert ours == pytest.approx(
        _als.calculate_loss(confident, theirs.user_factors, theirs.item_factors, 2.0), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(4))
def test_preconditioned_steps_get_further_than_as_many_plain_ones(seed: int) -> None:
    """Implicit's CG has no preconditioner; two steps of ours are worth more than three of its."""
    rng = np.random.default_rng(seed)
    taste, kind = normal(rng, 300, 8), normal(rng, 200, 8)
    wanted = taste @ kind.T > 4.5
    weights = sp.csr_matrix(wanted.astype(np.float32))
    start = np.zeros((300, 24), dtype=np.float32), 0.01 * normal(rng, 200, 24)
    confident = confident_pairs(weights)
    theirs = implicit_als(weights, *start, use_cg=True)
    x, y = without_text(weights, *start, "cg", 2)
    assert _als.calculate_loss(confident, x, y, 2.0) < _als.calculate_loss(
        confident, theirs.user_factors, theirs.item_factors, 2.0
    )


def implicit_als(
    weights: sp.csr_matrix, x: FloatArray, y: FloatArray, *, use_cg: bool
) -> AlternatingLeastSquares:
    """Fitted in six passes; its CG takes three steps a row."""
    with threadpool_limits(1, "blas"):  # implicit warns of more
        theirs = AlternatingLeastSquares(
            factors=x.shape[1], regularization=2.0, alpha=1.0, iterations=6, use_cg=use_cg, num_threads=1
        )
        theirs.user_factors, theirs.item_factors = x.copy(), y.copy()
        theirs.fit(confident_pairs(weights), show_progress=False)
    return theirs


def confident_pairs(weights: sp.csr_matrix) -> sp.csr_matrix:
    confident = weights.copy()
    confident.data = als.confidences(weights.data, ALPHA)
    return confident


def test_a_hopeless_regularization_is_a_clear_message() -> None:
    """The solution would be rounding, and nobody would notice."""
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
