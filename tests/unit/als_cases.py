"""Half-steps of ALS to solve, and the slow way to solve them.

Dimensions as in `als`: n rows, m opposite rows, F factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core import als
from pipelines.core.als import RowShard
from pipelines.core.pairs import row_shard

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
    shard: RowShard, opposite: FloatArray, prior: FloatArray, regularization: float | DoubleArray
) -> DoubleArray:
    """Each row's minimiser, as a weighted least squares over every opposite row, observed or not."""
    y = opposite.astype(np.float64)
    strengths = np.broadcast_to(np.asarray(regularization, dtype=np.float64), (shard.n_rows,))
    n_factors = y.shape[1]
    solved = np.zeros((shard.n_rows, n_factors))
    for row in range(shard.n_rows):
        confidence, wanted = np.ones(len(y)), np.zeros(len(y))
        for entry in range(shard.indptr[row], shard.indptr[row + 1]):
            confidence[shard.indices[entry]] = abs(shard.confidences[entry])
            wanted[shard.indices[entry]] = shard.confidences[entry] > 0
        if shard.indptr[row] < shard.indptr[row + 1]:
            root = np.sqrt(confidence)
            pull = np.sqrt(strengths[row])
            left = np.concatenate([root[:, None] * y, pull * np.eye(n_factors)])
            right = np.concatenate([root * wanted, pull * prior[row].astype(np.float64)])
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
