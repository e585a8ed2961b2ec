"""One block of users, one model, one slice: ranked lists and their metrics. And the sum over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pipelines.core.metrics import bootstrap_interval, list_metrics, top_k

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
SliceName = Literal["cold", "warm", "all"]
SLICES: tuple[SliceName, ...] = ("cold", "warm", "all")

_SCORES_AT_ONCE = 16_000_000
"""Bounds the score matrix of a block to 64 MB."""


@dataclass(frozen=True)
class SliceResult:
    """Metrics of some users on one slice.

    Attributes:
        values: metric name to one value per user.
        shown: list length to a mask over the candidates that appeared in some list.

    """

    values: dict[str, DoubleArray]
    shown: dict[int, BoolArray]


def measure_block(
    user_vectors: FloatArray,
    item_vectors: FloatArray,
    relevant: sp.csr_matrix,
    masked: sp.csr_matrix,
    candidates: npt.NDArray[np.int64],
    ks: Sequence[int],
) -> SliceResult:
    """Rank `candidates` for each user and compare with what was relevant.

    Args:
        user_vectors: (n, D).
        item_vectors: (I, D).
        relevant: (n, I) held-out pairs of the slice; rows without any are passed over.
        masked: (n, I) training pairs, which are never ranked.
        candidates: item rows that compete, in an order that helps nobody.
        ks: list lengths.

    """
    users = np.flatnonzero(np.diff(relevant[:, candidates].indptr))
    names = [f"{m}@{k}" for k in ks for m in ("recall", "ndcg")]
    parts: dict[str, list[DoubleArray]] = {name: [] for name in names}
    shown = {k: np.zeros(len(candidates), dtype=bool) for k in ks}
    if not len(candidates):
        return SliceResult({n: np.zeros(0) for n in names}, shown)
    chosen = np.ascontiguousarray(item_vectors[candidates])
    step = max(1, _SCORES_AT_ONCE // len(candidates))
    for start in range(0, len(users), step):
        rows = users[start : start + step]
        scores = user_vectors[rows] @ chosen.T
        seen = masked[rows][:, candidates].tocoo()
        scores[seen.row, seen.col] = -np.inf
        top = top_k(scores, max(ks))
        for name, value in list_metrics(top, relevant[rows][:, candidates], ks).items():
            parts[name].append(value)
        for k in ks:
            listed = top[:, :k]
            shown[k][listed[listed >= 0]] = True
    return SliceResult({n: np.concatenate(v) if v else np.zeros(0) for n, v in parts.items()}, shown)


def join_results(results: Sequence[SliceResult]) -> SliceResult:
    """The result over the users of several blocks."""
    first = results[0]
    return SliceResult(
        {name: np.concatenate([r.values[name] for r in results]) for name in first.values},
        {k: np.logical_or.reduce([r.shown[k] for r in results]) for k in first.shown},
    )


def summarize(
    result: SliceResult, resamples: int, seed: int
) -> tuple[dict[str, float | None], dict[str, list[float]]]:
    """Mean of each metric with coverage, and the intervals; None where no user had anything relevant.

    coverage@k is the share of the candidates that appeared in at least one list.
    """
    means: dict[str, float | None] = {}
    intervals: dict[str, list[float]] = {}
    for name, values in result.values.items():
        means[name] = round(float(values.mean()), 6) if len(values) else None
        if len(values) and resamples:
            low, high = bootstrap_interval(values, resamples, np.random.default_rng(seed))
            intervals[name] = [round(low, 6), round(high, 6)]
    for k, shown in result.shown.items():
        n_users = len(next(iter(result.values.values())))
        means[f"coverage@{k}"] = round(float(shown.mean()), 6) if len(shown) and n_users else None
    return means, intervals
