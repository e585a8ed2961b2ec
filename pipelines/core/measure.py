"""One slice, one model: ranked lists and what they are worth, user by user. And the sum over blocks of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core import metrics
from pipelines.core.scoring import Asked, Scorer
from pipelines.core.slices import Slice

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BEYOND_ACCURACY = ("novelty", "diversity", "cold_share", "popularity_bias")
_SCORES_AT_ONCE = 16_000_000
"""Bounds the score matrix of a block to 64 MB."""


@dataclass(frozen=True)
class SliceResult:
    """What a model did for some users of a slice.

    Attributes:
        users: (n,) rows of the users table.
        values: metric name such as "recall@20" to (n,) values.
        listed: (n, K) item rows in the order of the list, -1 for an empty place.
        scores: (n, K) their scores, NaN for an empty place.

    """

    users: IntArray
    values: dict[str, DoubleArray]
    listed: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class ItemFacts:
    """What the metrics beyond accuracy need to know about the items.

    Attributes:
        counts: (I,) interactions in the training of the model that answers.
        n_users: users of that training.
        profiles: (I, E).

    """

    counts: IntArray
    n_users: int
    profiles: FloatArray


def measure(scorer: Scorer, part: Slice, asked: Asked, ks: Sequence[int]) -> SliceResult:
    """Rank the candidates for each user and compare with what was relevant.

    Args:
        scorer: a fitted model.
        part: users of a slice.
        asked: what the same users tell, see `slices.ask`.
        ks: list lengths.

    """
    n, m = len(part.users), len(part.candidates)
    values = {f"{name}@{k}": np.zeros(n) for k in ks for name in metrics.RANK_METRICS}
    length = min(max(ks), m)
    listed = np.full((n, length), -1, dtype=np.int64)
    scores = np.full((n, length), np.nan, dtype=np.float32)
    step = max(1, _SCORES_AT_ONCE // max(m, 1))
    for start in range(0, n if m else 0, step):
        rows = slice(start, start + step)
        block = scorer.scores(_rows(asked, rows), part.candidates).astype(np.float32, copy=True)
        seen = part.masked[rows][:, part.candidates].tocoo()
        block[seen.row, seen.col] = -np.inf
        top = metrics.top_k(block, max(ks))
        for name, value in metrics.list_metrics(top, part.relevant[rows][:, part.candidates], ks).items():
            values[name][rows] = value
        listed[rows] = np.where(top >= 0, part.candidates[top], -1)
        scores[rows] = np.where(top >= 0, np.take_along_axis(block, np.maximum(top, 0), axis=1), np.nan)
    return SliceResult(part.users, values, listed, scores)


def beyond_accuracy(result: SliceResult, part: Slice, facts: ItemFacts, k: int) -> SliceResult:
    """`result` with novelty, diversity, share of cold items and popularity bias of lists of length k."""
    listed = result.listed[:, :k]
    ranks = metrics.popularity_ranks(facts.counts)
    more = {
        f"novelty@{k}": metrics.novelty(listed, facts.counts, facts.n_users),
        f"diversity@{k}": metrics.diversity(listed, facts.profiles),
        f"cold_share@{k}": metrics.cold_share(listed, facts.counts),
        f"popularity_bias@{k}": metrics.popularity_bias(listed, part.relevant, ranks),
    }
    return SliceResult(result.users, result.values | more, result.listed, result.scores)


def join_results(results: Sequence[SliceResult]) -> SliceResult:
    """The result over the users of several blocks."""
    first = results[0]
    return SliceResult(
        np.concatenate([r.users for r in results]),
        {name: np.concatenate([r.values[name] for r in results]) for name in first.values},
        np.concatenate([r.listed for r in results]),
        np.concatenate([r.scores for r in results]),
    )


def _rows(asked: Asked, rows: slice) -> Asked:
    return Asked(
        asked.history[rows], asked.own_profiles[rows], asked.queries[rows], asked.own_texts[rows],
        asked.query_texts[rows],
    )  # fmt: skip
