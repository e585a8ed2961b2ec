"""What the report draws beside figures: calibration of cold against warm, exposure by popularity, a map of the texts.

Dimensions: n users, K list length, I items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.measure import SliceResult
from pipelines.core.slices import Slice

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BINS = 10
_DECILES = 10
_MAP_ITEMS = 2000
_TOO_COMMON = 0.5
_LEAST_FOR_MAP = 10


def calibration(
    result: SliceResult, part: Slice, counts: IntArray
) -> dict[str, dict[str, list[float]]] | None:
    """How often a listed item is right, by its score, for cold and for warm items apart.

    Where the two curves lie on each other a cold item's score means what a warm one's does.

    Args:
        result: of the model on the slice of all items.
        part: that slice.
        counts: (I,) interactions in training.

    Returns:
        For "cold" and "warm" the mean `score`, the share `rate` of relevant ones and the number `n` of each bin, bins
        of equal size over the scores of both; None where nothing is listed.

    """
    row, place = np.nonzero(result.listed >= 0)
    if not len(row):
        return None
    item, score = result.listed[row, place], result.scores[row, place]
    hit = np.asarray(part.relevant[row, item]).ravel() > 0
    return curves(Binned.of(score, hit, counts[item] == 0))


@dataclass(frozen=True)
class Binned:
    """Places of lists by their score, in bins of equal size over cold and known items together.

    Attributes:
        bins: (n,) of each place.
        is_cold: (n,) whether its item is.
        score: (n,) of it.
        hit: (n,) whether it is right.

    """

    bins: IntArray
    is_cold: npt.NDArray[np.bool_]
    score: FloatArray
    hit: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, score: FloatArray, hit: npt.NDArray[np.bool_], is_cold: npt.NDArray[np.bool_]) -> Binned:
        """Bins of n >= 1 places."""
        edges = np.quantile(score, np.linspace(0, 1, _BINS + 1)[1:-1])
        return cls(np.searchsorted(edges, score), is_cold, score, hit)

    def counts(self, mask: npt.NDArray[np.bool_]) -> DoubleArray:
        """(2, 2, B) of the places under `mask`: how many there are and how many are right, cold ones and known ones."""
        return np.array(
            [
                [
                    np.bincount(self.bins[m], weights=w[m], minlength=_BINS)
                    for w in (np.ones(len(m)), self.hit)
                ]
                for m in (mask & self.is_cold, mask & ~self.is_cold)
            ]
        )


def curves(binned: Binned) -> dict[str, dict[str, list[float]]]:
    """What `calibration` returns."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, mask in (("cold", binned.is_cold), ("warm", ~binned.is_cold)):
        n = np.bincount(binned.bins[mask], minlength=_BINS)
        some = n > 0
        mean, rate = (
            np.bincount(binned.bins[mask], weights=values[mask], minlength=_BINS)[some] / n[some]
            for values in (binned.score, binned.hit)
        )
        found[name] = {
            "score": np.round(mean, 6).tolist(), "rate": np.round(rate, 6).tolist(), "n": n[some].tolist(),
        }  # fmt: skip
    return found


def calibration_gap(counts: DoubleArray) -> float | None:
    """How far cold and known items of one score are apart in how often they are right, as a share of how often all are.

    The mean over the bins of |rate of cold - rate of known|, weighed by n_cold n_known / (n_cold + n_known), which is
    how much a bin tells of the difference. 0: a score means the same for both. None: no bin has both, or nothing is
    right.

    Args:
        counts: (2, 2, B) as `Binned.counts` has them.

    """
    (n_cold, right_cold), (n_known, right_known) = counts
    n, right = float(n_cold.sum() + n_known.sum()), float(right_cold.sum() + right_known.sum())
    weight = n_cold * n_known / np.maximum(n_cold + n_known, 1.0)
    if not weight.any() or not right:
        return None
    apart = np.abs(right_cold / np.maximum(n_cold, 1.0) - right_known / np.maximum(n_known, 1.0))
    return float(weight @ apart / weight.sum() / (right / n))


def exposure(results: Mapping[str, SliceResult], part: Slice, counts: IntArray, k: int) -> dict[str, object]:
    """Share of list places by popularity of the item, for every model and for what users chose themselves."""
    known = np.flatnonzero(counts > 0)
    bucket = np.full(len(counts), _DECILES)
    # deciles of items, not of interactions; ties by row are ties of nothing that matters here
    bucket[known[np.argsort(counts[known], kind="stable")]] = (
        np.arange(len(known)) * _DECILES // max(len(known), 1)
    )
    labels = [f"{10 * d}–{10 * (d + 1)} %" for d in range(_DECILES)] + ["cold"]

    def shares(items: IntArray) -> list[float]:
        placed = np.bincount(bucket[items], minlength=_DECILES + 1)
        return [round(float(s), 6) for s in placed / max(placed.sum(), 1)]

    return {
        "labels": labels,
        "models": {m: shares(r.listed[:, :k][r.listed[:, :k] >= 0]) for m, r in results.items()},
        "relevant": shares(part.relevant.tocoo().col.astype(np.int64)),
    }


def embedding_map(
    profiles: FloatArray, categories: Sequence[Sequence[str]], counts: IntArray, seed: int
) -> dict[str, object] | None:
    """A plane in which items of like text lie together (t-SNE), for a sample of items that have text.

    Args:
        profiles: (I, E).
        categories: (I,) the categories of each item, may be none.
        counts: (I,) interactions in training.
        seed: of the sample and of t-SNE.

    Returns:
        `x`, `y`, `category`, `cold` of each point; None for fewer than ten items whose texts differ.

    """
    from sklearn.manifold import TSNE  # noqa: PLC0415 - a second that only this task has to spend

    rng = np.random.default_rng(seed)
    with_text = np.flatnonzero(profiles.any(axis=1))
    rows = np.sort(rng.permutation(with_text)[:_MAP_ITEMS])
    # one and the same text on all items has no plane, and kills t-SNE with its process
    if len(np.unique(profiles[rows], axis=0)) < _LEAST_FOR_MAP:
        return None
    perplexity = min(30.0, (len(rows) - 1) / 3.0)
    plane = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=seed).fit_transform(
        profiles[rows]
    )
    return {
        "x": np.round(plane[:, 0], 3).tolist(),
        "y": np.round(plane[:, 1], 3).tolist(),
        "category": _telling(categories, rows),
        "cold": (counts[rows] == 0).tolist(),
    }


def _telling(categories: Sequence[Sequence[str]], rows: IntArray) -> list[str]:
    """One category per item: its most frequent one that is not on most items anyway; "" for none."""
    frequency = Counter(c for row in rows for c in set(categories[row]))
    limit = _TOO_COMMON * len(rows)

    def choose(own: Sequence[str]) -> str:
        usable = [c for c in own if frequency[c] <= limit]
        return max(usable, key=lambda c: (frequency[c], c), default="")

    return [choose(categories[row]) for row in rows]
