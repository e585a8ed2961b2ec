"""Ranking metrics over blocks of users, and their intervals. Definitions: DESIGN, section 5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def top_k(scores: FloatArray, k: int) -> IntArray:
    """Columns of the k largest scores of each row, best first; -1 in place of a score of -inf.

    Equal scores are taken in an order that follows the columns', so shuffle the columns beforehand: a model
    that cannot tell items apart must get no help from the order they are stored in.

    Args:
        scores: (n, m).
        k: list length; min(k, m) places are returned.

    """
    k = min(k, scores.shape[1])
    chosen = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(chosen, order, axis=1)
    return np.where(np.isneginf(np.take_along_axis(values, order, axis=1)), -1, ranked)


def list_metrics(top: IntArray, relevant: sp.csr_matrix, ks: Sequence[int]) -> dict[str, DoubleArray]:
    """Per-user metrics of ranked lists.

    recall@k = hits / relevant. ndcg@k = sum over hits of 1 / log2(position + 1), over its best value for
    min(k, relevant) items.

    Args:
        top: (n, K) candidate columns, best first, -1 for an empty place; K >= max(ks) or all candidates.
        relevant: (n, m) nonzero where relevant; every row has at least one.
        ks: list lengths.

    Returns:
        Name such as "recall@20" to (n,) values.

    """
    n, length = top.shape
    dense = np.zeros((n, relevant.shape[1] + 1), dtype=bool)  # the last column answers for -1
    coo = relevant.tocoo()
    dense[coo.row, coo.col] = True
    hits = np.take_along_axis(dense, top, axis=1).astype(np.float64)
    n_relevant = dense.sum(axis=1)
    discounts = 1.0 / np.log2(np.arange(2, max([*ks, length]) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    result: dict[str, DoubleArray] = {}
    for k in ks:
        cut = hits[:, :k]
        result[f"recall@{k}"] = cut.sum(axis=1) / n_relevant
        result[f"ndcg@{k}"] = cut @ discounts[: cut.shape[1]] / ideal[np.minimum(k, n_relevant)]
    return result


def bootstrap_interval(values: DoubleArray, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean over users, by the percentile bootstrap (Efron 1979)."""
    n = len(values)
    means = np.empty(resamples)
    for start in range(0, resamples, 64):
        stop = min(start + 64, resamples)
        means[start:stop] = values[rng.integers(0, n, size=(stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
