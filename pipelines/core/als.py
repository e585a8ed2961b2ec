"""Implicit ALS whose factors start from what the text predicts: the row solves and the maps.

Dimensions: U users, I items, F factors, D text dimensions plus the constant, n rows of one shard.

    minimise  sum_ui e_i (x_u . y_i)^2 + sum_S [(c_ui - 1) (x_u . y_i)^2 - 2 c_ui p_ui x_u . y_i]
              + sum_u lam_u |x_u - s_u A f_u|^2 + sum_i lam_i |y_i - s_i B g_i|^2 + ridge (|A|^2 + |B|^2)

p is 1 where the user wants the item, else 0; c is the confidence of the observed pairs S. e_i is the weight of a pair
of item i that was not observed (`pipelines.core.exposure`); with 1 for all the first line is, but for a constant,
sum_ui c_ui (p_ui - x_u . y_i)^2 with c = 1 where nothing was observed. Solved by block coordinates (Hu, Koren and
Volinsky 2008, with a Gaussian prior whose mean is the text's prediction).
lam may grow with a row's evidence n (Rendle et al. 2021, iALS revisited), and the share s of the text's prediction may
fade with it: see `row_regularization` and `prior_share`.
Everything here works on one shard of rows and is deterministic; who holds which shard is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.core import row_solver
from pipelines.core.errors import ConfigError

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

_BLOCK = 2048
"""Rows whose products are summed at once."""


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
        exposure: (n,) weight of each row's pairs that were not observed, see `pipelines.core.exposure`; 1 for all
            if absent.

    """

    start: int
    indptr: IntArray
    indices: IntArray
    confidences: FloatArray
    features: FloatArray
    text_sums: FloatArray
    exposure: FloatArray | None = None

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


def gramian(factors: FloatArray, exposure: FloatArray | None = None) -> DoubleArray:
    """V'EV (F, F) in double precision, so that the sum over shards does not depend on how rows are cut.

    Args:
        factors: (n, F) V.
        exposure: (n,) E, see `RowShard`.

    """
    total = np.zeros((factors.shape[1], factors.shape[1]))
    for block in _blocks(len(factors)):
        wide = factors[block].astype(np.float64)
        total += wide.T @ (wide if exposure is None else wide * exposure[block, None])
    return total


def _blocks(n: int) -> Iterator[slice]:
    """Rows few enough at a time for their conversions to stay in a cache."""
    return (slice(start, start + _BLOCK) for start in range(0, n, _BLOCK))


def row_regularization(evidence: IntArray, regularization: float, power: float) -> DoubleArray:
    """Lam (n,) = regularization * (1 + n)^power of rows with n pairs.

    1 + n is rounded to the nearest half power of two.
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
    opposite: FloatArray | Iterable[FloatArray],
    opposite_gramian: DoubleArray,
    prior: FloatArray,
    regularization: float | DoubleArray,
    *,
    solver: Literal["cholesky", "cg"] = "cholesky",
    cg_steps: int = 3,
    start: FloatArray | None = None,
    num_threads: int = 1,
) -> FloatArray:
    """Solve every row of a shard: (e Y'Y + Y_S'(C - I)Y_S + lam I) x = Y_S'C p + lam prior.

    Args:
        shard: the rows.
        opposite: (m, F) factors of the other side, whole or in consecutive blocks, which are then looked at one
            after the other and only once; cold rows must be zero.
        opposite_gramian: (F, F) its gramian, see `gramian`.
        prior: (n, F) what the text predicts for each row.
        regularization: lam > 0, one for all rows or (n,).
        solver: "cholesky" is exact; "cg" takes `cg_steps` steps of preconditioned conjugate gradients, see
            `row_solver`.
        cg_steps: steps of CG.
        start: (n, F) where CG starts; the prior if absent.
        num_threads: cores to use.

    Returns:
        (n, F) factors; rows without evidence are zero, see `fill_cold`.

    Raises:
        ConfigError: a regularization too small for these confidences and single precision.

    """
    n = shard.n_rows
    if n == 0:
        return np.zeros(prior.shape, dtype=np.float32)
    blocks = (opposite,) if isinstance(opposite, np.ndarray) else opposite
    lam = np.broadcast_to(np.asarray(regularization, dtype=np.float64), (n,))
    try:
        return row_solver.solve(
            row_solver.Rows(shard.indptr, shard.indices, shard.confidences, shard.exposure), blocks,
            opposite_gramian, prior, lam, cg_steps=cg_steps if solver == "cg" else None, start=start,
            num_threads=num_threads,
        )  # fmt: skip
    except row_solver.UnsolvableRowsError as e:
        raise ConfigError(
            f"rows {shard.start} to {shard.start + n} cannot be solved ({e}): a regularization of "
            f"{lam.min():g} or more is too small for these confidences. Raise factorize.user_regularization and "
            "factorize.item_regularization, or lower factorize.alpha."
        ) from e


def fill_cold(factors: FloatArray, evidence: IntArray, prior: FloatArray) -> FloatArray:
    """Cold rows take the text's prediction as it is: never shown is not the same as not wanted."""
    return np.where((evidence > 0)[:, None], factors, prior).astype(np.float32)


def map_gram(features: FloatArray, counts: npt.NDArray[np.float32]) -> DoubleArray:
    """F'WF (D, D), the half of the regression of factors on text that never changes.

    Args:
        features: (m, D) single texts.
        counts: (m,) wanted pairs each text stands for, or another weight made from them.

    """
    total = np.zeros((features.shape[1], features.shape[1]))
    for block in _blocks(len(features)):
        wide = features[block].astype(np.float64)
        total += (wide * counts[block, None]).T @ wide
    return total


def map_cross(shard: RowShard, factors: FloatArray) -> DoubleArray:
    """A shard's share of F'WX (D, F), the other half.

    The regression sees one row per wanted pair: the features of one text of the user (their own words, or
    one item they liked) or of the item, and the whole factor. So a row weighs its evidence, for a factor made
    from two clicks is mostly noise; and a user's map learns to predict from one sentence, as it will have to,
    not from the mean over a long history, which is a far less noisy thing than any newcomer brings (see
    docs/decisions/0003).

    Products of a few thousand rows are in single precision and their sum in double, at a fifth of the cost of double
    throughout. Cutting rows into other shards changes the result by about 1e-7 of the sum of what is added
    up.
    """
    total = np.zeros((shard.text_sums.shape[1], factors.shape[1]))
    for block in _blocks(len(factors)):
        total += shard.text_sums[block].T @ factors[block]
    return total


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
