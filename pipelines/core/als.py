"""Implicit ALS whose factors start from what the text predicts: the row solves and the maps.

Dimensions: U users, I items, F factors, D text dimensions plus the constant, n rows of one shard.

    minimise  sum_ui c_ui (p_ui - x_u . y_i)^2
              + sum_u lam_u |x_u - s_u A f_u|^2 + sum_i lam_i |y_i - s_i B g_i|^2 + ridge (|A|^2 + |B|^2)

p is 1 where the user wants the item, else 0; c is the confidence, 1 where nothing was observed. Solved by
block coordinates (Hu, Koren and Volinsky 2008, with a Gaussian prior whose mean is the text's prediction).
lam may grow with a row's evidence n (Rendle et al. 2021, iALS revisited), and the share s of the text's prediction may
fade with it: see `row_regularization` and `prior_share`.
Everything here works on one shard of rows and is deterministic; who holds which shard is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from implicit.cpu import _als
from threadpoolctl import threadpool_limits

from pipelines.core.errors import ConfigError

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

_CG_SCALE = 1e-10
"""Length of the prior's row for the CG kernel, see `solve_rows`."""


@dataclass(frozen=True)
class RowShard:
    """Consecutive rows of one side, with their text.

    Attributes:
        start: number of the first row.
        indptr: (n + 1,) into `indices`, from 0.
        indices: opposite rows of the observed pairs.
        confidences: c >= 1 for a wanted pair, -c for a pair known to be unwanted (implicit's convention).
        features: (n, D) text features with the constant 1 last; the prior is `features @ map`.
        text_sums: (n, D) for each row, the summed features of the single texts it is known by, one for each
            wanted pair. The map is fitted on single texts, see `map_cross`.

    """

    start: int
    indptr: IntArray
    indices: IntArray
    confidences: FloatArray
    features: FloatArray
    text_sums: FloatArray

    @property
    def n_rows(self) -> int:
        """Rows of the shard."""
        return len(self.indptr) - 1

    @property
    def evidence(self) -> IntArray:
        """(n,) observed pairs of each row; 0 marks a cold row."""
        return np.diff(self.indptr)


def confidences(weights: FloatArray, alpha: float) -> FloatArray:
    """C = 1 + alpha |w|, negated for w < 0: a dislike is a sure 0, not a missing value."""
    return np.where(weights < 0, -1.0, 1.0).astype(np.float32) * (1.0 + alpha * np.abs(weights)).astype(
        np.float32
    )


def gramian(factors: FloatArray) -> DoubleArray:
    """V'V (F, F) in double precision, so that the sum over shards does not depend on how rows are cut."""
    wide = factors.astype(np.float64)
    return np.asarray(wide.T @ wide)


def row_regularization(evidence: IntArray, regularization: float, power: float) -> DoubleArray:
    """Lam (n,) = regularization * (1 + n)^power of rows with n pairs.

    1 + n is rounded to the next half power of two, so that the rows of a shard have a few dozen different lam and
    are solved in as many groups.
    """
    levels = np.round(2.0 * np.log2(1.0 + evidence)) / 2.0
    return np.asarray(regularization * np.exp2(power * levels))


def prior_share(evidence: IntArray, fade: float) -> FloatArray:
    """S (n,) = 1 / (1 + n / fade): what is left of the text's prediction after n pairs; fade 0 stands for never.

    A prediction made from the very history that is solved for counts the same evidence twice. Where behaviour is
    plentiful it has to give way faster than lam alone makes it.
    """
    if fade == 0:
        return np.ones(len(evidence), dtype=np.float32)
    return np.asarray(1.0 / (1.0 + evidence / fade), dtype=np.float32)


def solve_rows(
    shard: RowShard,
    opposite: FloatArray,
    opposite_gramian: DoubleArray,
    prior: FloatArray,
    regularization: float | DoubleArray,
    *,
    solver: Literal["cholesky", "cg"] = "cholesky",
    cg_steps: int = 3,
    start: FloatArray | None = None,
    num_threads: int = 1,
) -> FloatArray:
    """Solve every row of a shard: (Y'Y + Y_S'(C - I)Y_S + lam I) x = Y'C p + lam prior.

    The prior enters through implicit's own kernels as one more row per solved row. For Cholesky, whose
    gramian is an argument, the row `lam * prior` with confidence exactly 1 adds (1 - 1) to the matrix and
    `lam * prior` to the right-hand side: the solution is exact. The CG kernel makes the gramian itself, so
    there the row is `s * prior` with confidence `lam / s`; s is so small that what it adds to the matrix,
    (lam / s) s^2 |prior|^2, is below rounding beside lam whatever the length of the prior.

    Args:
        shard: the rows.
        opposite: (m, F) factors of the other side, contiguous float32; cold rows must be zero.
        opposite_gramian: (F, F) its gramian.
        prior: (n, F) what the text predicts for each row.
        regularization: lam > 0, one for all rows or (n,) with few different values: rows of one value are one
            call of the kernel.
        solver: "cholesky" or "cg".
        cg_steps: steps of CG.
        start: (n, F) where CG starts; the prior if absent.
        num_threads: of implicit's kernel.

    Returns:
        (n, F) factors; rows without evidence are zero, see `fill_cold`.

    """
    n, m = shard.n_rows, len(opposite)
    if n == 0:
        return np.zeros((0, opposite.shape[1]), dtype=np.float32)
    lam = np.broadcast_to(np.asarray(regularization, dtype=np.float64), (n,))
    scale = lam if solver == "cholesky" else np.full(n, _CG_SCALE)
    own_confidence = np.ones(n) if solver == "cholesky" else lam / _CG_SCALE
    # [Y ; scale * prior] in one buffer: the kernels want one contiguous, writable matrix
    extended = np.empty((m + n, opposite.shape[1]), dtype=np.float32)
    extended[:m] = opposite
    np.multiply(prior, scale[:, None], out=extended[m:], casting="same_kind")
    order = np.argsort(lam, kind="stable")
    indptr, indices, data = _with_own_row(shard, order, m, own_confidence)
    factors = np.ascontiguousarray((prior if start is None else start)[order], dtype=np.float32)
    cuts = np.flatnonzero(np.diff(lam[order], prepend=-1.0, append=-1.0))
    for first, last in pairwise(int(c) for c in cuts):  # rows of one lam; the kernels take a window of indptr
        try:
            with threadpool_limits(1, "blas"):
                _run_kernel(
                    (indptr[first : last + 1], indices, data), factors[first:last], extended, opposite_gramian,
                    float(lam[order[first]]), solver=solver, cg_steps=cg_steps, num_threads=num_threads,
                )  # fmt: skip
        except ValueError as e:
            raise ConfigError(
                f"a row of rows {shard.start} to {shard.start + n} cannot be solved ({e}): a regularization of "
                f"{lam[order[first]]:g} is too small for these confidences. Raise factorize.user_regularization and "
                "factorize.item_regularization, or lower factorize.alpha."
            ) from e
    solved = np.empty_like(factors)
    solved[order] = factors
    solved[shard.evidence == 0] = 0.0
    return solved


def _run_kernel(
    rows: tuple[IntArray, IntArray, FloatArray], factors: FloatArray, extended: FloatArray, gram: DoubleArray,
    regularization: float, *, solver: str, cg_steps: int, num_threads: int,
) -> None:  # fmt: skip
    """Solve in place with one of implicit's kernels."""
    if solver == "cholesky":
        single = np.ascontiguousarray(gram, dtype=np.float32)
        _als._least_squares(single, *rows, factors, extended, float(regularization), num_threads=num_threads)
    else:
        _als._least_squares_cg(
            *rows, factors, extended, float(regularization), num_threads=num_threads, cg_steps=cg_steps
        )


def _with_own_row(
    shard: RowShard, order: npt.NDArray[np.intp], m: int, confidence: DoubleArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """The shard's sparse rows in `order`, row r with one entry more that points at its own row m + r."""
    n = shard.n_rows
    lengths = shard.evidence[order]
    indptr = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int32)
    own = np.zeros(len(shard.indices) + n, dtype=bool)
    own[indptr[1:] - 1] = True
    # position in the shard of every entry, row after row in the new order
    taken = np.arange(len(shard.indices)) + np.repeat(
        shard.indptr[order] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths
    )
    indices = np.empty(len(own), dtype=np.int32)
    data = np.empty(len(own), dtype=np.float32)
    indices[~own], indices[own] = shard.indices[taken], m + order
    data[~own], data[own] = shard.confidences[taken], confidence[order]
    return indptr, indices, data


def fill_cold(factors: FloatArray, evidence: IntArray, prior: FloatArray) -> FloatArray:
    """Cold rows take the text's prediction as it is: never shown is not the same as not wanted."""
    return np.where((evidence > 0)[:, None], factors, prior).astype(np.float32)


def map_gram(features: FloatArray, counts: npt.NDArray[np.float32]) -> DoubleArray:
    """F'WF (D, D), the half of the regression of factors on text that never changes.

    Args:
        features: (m, D) single texts.
        counts: (m,) wanted pairs each text stands for, or another weight made from them.

    """
    return np.asarray((features.astype(np.float64) * counts[:, None]).T @ features)


def map_cross(shard: RowShard, factors: FloatArray) -> DoubleArray:
    """A shard's share of F'WX (D, F), the other half.

    The regression sees one row per wanted pair: the features of one text of the user (their own words, or
    one item they liked) or of the item, and the whole factor. So a row weighs its evidence, for a factor made
    from two clicks is mostly noise; and a user's map learns to predict from one sentence, as it will have to,
    not from the mean over a long history, which is a far less noisy thing than any newcomer brings (see
    docs/decisions/0003).
    """
    return np.asarray(shard.text_sums.T.astype(np.float64) @ factors)


def ridge_map(gram: DoubleArray, cross: DoubleArray, ridge: float) -> FloatArray:
    """The map (D, F) from text to factors, from summed statistics; ridge > 0 keeps it solvable."""
    regularized = gram + ridge * np.eye(len(gram))
    return np.asarray(np.linalg.solve(regularized, cross), dtype=np.float32)


def cut_rows(indptr: npt.NDArray[np.int64], n_shards: int) -> list[tuple[int, int]]:
    """Boundaries of at most `n_shards` consecutive shards with about equal numbers of pairs, none empty.

    No rows at all make one empty shard, so that whoever sums over shards has something to sum.
    """
    n = len(indptr) - 1
    if n == 0:
        return [(0, 0)]
    # a row costs about as much as its pairs plus a constant for its own solve
    cost = indptr.astype(np.float64) + np.arange(n + 1)
    targets = np.linspace(0, cost[-1], n_shards + 1)[1:-1]
    cuts = np.unique(np.concatenate([[0], np.searchsorted(cost, targets), [n]]))
    return [(int(a), int(b)) for a, b in pairwise(cuts)]
