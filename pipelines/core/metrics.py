"""Figures of ranked lists, one value per user. Definitions: docs/metrics.md.

Dimensions: n users, K list length, m candidates, I items.

Rank metrics follow DESIGN, section 5, and trec_eval, against which they are tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RANK_METRICS = ("recall", "ndcg", "map", "mrr", "hit_rate")


def top_k(scores: FloatArray, k: int) -> IntArray:
    """Columns of the k largest scores of each row, best first; -1 in place of a score of -inf.

    Equal scores are taken in the order of the columns, for every k alike, so shuffle the columns beforehand: a
    model that cannot tell items apart must get no help from the order they are stored in.

    Args:
        scores: (n, m).
        k: list length; min(k, m) places are returned.

    """
    n, k = len(scores), min(k, scores.shape[1])
    last = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    better, level = scores > last, scores == last
    # of those level with the last place the first columns, as many as there is room for
    room = k - better.sum(axis=1, keepdims=True)
    chosen = np.nonzero(better | (level & (np.cumsum(level, axis=1) <= room)))[1].reshape(n, k)
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(chosen, order, axis=1)
    return np.where(np.isneginf(np.take_along_axis(values, order, axis=1)), -1, ranked)


def list_metrics(top: IntArray, relevant: sp.csr_matrix, ks: Sequence[int]) -> dict[str, DoubleArray]:
    """Per-user metrics of ranked lists.

    With h(j) = 1 where the item in place j is relevant, r relevant items, sums over places j = 1 .. k:
    recall@k = sum h / r. ndcg@k = sum h(j) / log2(j + 1), over its best value for min(k, r) items.
    map@k = sum h(j) (hits up to j) / j, over r. mrr@k = 1 / place of the first hit, 0 without one.
    hit_rate@k = 1 with a hit, else 0.

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
    # a k beyond all candidates costs nothing
    places = np.arange(1, max(length, int(n_relevant.max(initial=0))) + 1)
    discounts = 1.0 / np.log2(places + 1.0)
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    precision_at_hits = hits * np.cumsum(hits, axis=1) / places[:length]
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), length)
    result: dict[str, DoubleArray] = {}
    for k in ks:
        cut = hits[:, :k]
        result[f"recall@{k}"] = cut.sum(axis=1) / n_relevant
        gain = cut @ discounts[: cut.shape[1]]
        result[f"ndcg@{k}"] = np.asarray(gain / ideal[np.minimum(k, n_relevant)])
        result[f"map@{k}"] = np.asarray(precision_at_hits[:, :k].sum(axis=1) / n_relevant)
        result[f"mrr@{k}"] = np.asarray(np.where(first < min(k, length), 1.0 / (first + 1.0), 0.0))
        result[f"hit_rate@{k}"] = np.asarray(cut.any(axis=1), dtype=np.float64)
    return result


def novelty(listed: IntArray, counts: IntArray, n_users: int) -> DoubleArray:
    """(n,) mean surprise of a list in bits: -log2 of the share of users who have the item, add-one smoothed.

    Source: Vargas and Castells 2011 (expected free discovery), over all places alike.

    Args:
        listed: (n, k) item rows, -1 for an empty place.
        counts: (I,) users who have each item in training.
        n_users: users of training.

    """
    surprise = -np.log2((counts + 1.0) / (n_users + 2.0))
    return _mean_over_places(surprise, listed)


def popularity_bias(listed: IntArray, relevant: sp.csr_matrix, popularity: DoubleArray) -> DoubleArray:
    """(n,) popularity of what is listed less popularity of what the user chose; 0 is unbiased.

    Args:
        listed: (n, k) item rows.
        relevant: (n, I) what is to be found; every row has some.
        popularity: (I,) from 0 to 1, see `popularity_ranks`.

    """
    chosen = np.asarray(relevant.sign() @ popularity).ravel() / np.diff(relevant.indptr)
    return _mean_over_places(popularity, listed) - chosen


def popularity_ranks(counts: IntArray) -> DoubleArray:
    """(I,) share of the items that are less popular, ties counted half; 0 for an item nobody has."""
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left")
    upto = np.searchsorted(ordered, counts, side="right")
    return np.where(counts > 0, (below + upto) / (2.0 * max(len(counts), 1)), 0.0)


def cold_share(listed: IntArray, counts: IntArray) -> DoubleArray:
    """(n,) share of a list's places that hold items without interactions in training."""
    return _mean_over_places((counts == 0).astype(np.float64), listed)


def diversity(listed: IntArray, profiles: FloatArray) -> DoubleArray:
    """(n,) 1 - mean cosine over the pairs of a list (Ziegler et al. 2005); items without text are passed over.

    From the length of the sum: |sum p|^2 = k + 2 sum over pairs, for k vectors of length 1. A list of fewer than
    two items with text has diversity 0.

    Args:
        listed: (n, k) item rows, -1 for an empty place.
        profiles: (I, E).

    """
    lengths = np.linalg.norm(profiles, axis=1)
    counts_, totals = np.zeros(len(listed)), np.zeros((len(listed), profiles.shape[1]))
    for place in listed.T:
        some = np.flatnonzero(place >= 0)
        some = some[lengths[place[some]] > 0]
        totals[some] += profiles[place[some]] / lengths[place[some], None]
        counts_[some] += 1
    pairs = counts_ * (counts_ - 1.0)
    cosine = ((totals**2).sum(axis=1) - counts_) / np.where(pairs > 0, pairs, 1.0)
    return np.asarray(np.where(pairs > 0, 1.0 - cosine, 0.0))


def coverage(exposure: DoubleArray) -> float:
    """Share of the candidates that are listed at all; exposure (m,) counts places."""
    return float((exposure > 0).mean()) if len(exposure) else 0.0


def gini(exposure: DoubleArray) -> float:
    """Inequality of exposure over the candidates: 0 all alike, towards 1 everything on one item."""
    m, total = len(exposure), float(exposure.sum())
    if m == 0 or total == 0:
        return 0.0
    ranked = np.sort(exposure)
    return float((2.0 * np.arange(1, m + 1) - m - 1.0) @ ranked / (m * total))


def _mean_over_places(value: DoubleArray, listed: IntArray) -> DoubleArray:
    """(n,) mean of a value per item over the filled places; 0 for an empty list."""
    filled = listed >= 0
    total = np.where(filled, value[np.where(filled, listed, 0)], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(filled.sum(axis=1), 1))
