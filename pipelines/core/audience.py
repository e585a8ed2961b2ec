"""Whom a new item would be shown to: its place among what a sample of users would see without it.

Dimensions: U sampled users, D columns of the served vectors, K places of a user's list.

The item is placed by its text alone, as an item of a build that nobody has touched: factor B g, profile P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.core.blend import features, item_vectors
from pipelines.core.config import BlendConfig

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
NOT_IN_LIST = 0
"""In place of a rank: beyond the last place that was looked at."""
LEAST_USERS = 5
"""Fewer users than this are not spoken of together: one of them could be told from it."""


@dataclass(frozen=True)
class Interest:
    """What the users who would see the item have in common.

    Attributes:
        value: number of a value of a categorical column.
        users: of those reached, how many wanted an item with it.
        share: of those reached.
        typical_share: of all that were sampled.

    """

    value: int
    users: int
    share: float
    typical_share: float


def place_item(profile: FloatArray, item_map: FloatArray, settings: BlendConfig) -> FloatArray:
    """(D,) the vector that an item is served by which nobody has touched.

    Args:
        profile: (E',) of its text.
        item_map: (E' + 1, F) B, the map for cold items.
        settings: gamma, cold_scale.

    """
    factor = np.asarray(features(profile[None]) @ item_map, dtype=np.float32)
    vectors = item_vectors(factor, profile[None], np.zeros(1, dtype=np.int64), settings)
    return np.asarray(vectors[0])


def places(scores: FloatArray, lists: Sequence[FloatArray]) -> IntArray:
    """(U,) the rank from 1 that a score would have in each user's list, NOT_IN_LIST where it would not be in it.

    Args:
        scores: (U,) the item's with each user.
        lists: U times (K,) scores of what they would see, best first. An equal score goes before the new one. A list
            may be shorter than the others where a user has hardly anything left to see.

    """
    longest = max((len(best) for best in lists), default=0)
    ranks = np.array(
        [1 + np.searchsorted(-best, -score, side="right") for score, best in zip(scores, lists, strict=True)],
        dtype=np.int64,
    )
    return np.where(ranks <= longest, ranks, NOT_IN_LIST)


def reach(ranks: IntArray, n: int) -> float:
    """Share of the users in whose first n places the item would be."""
    return float(np.mean((ranks != NOT_IN_LIST) & (ranks <= n))) if len(ranks) else 0.0


def median_rank(ranks: IntArray) -> int | None:
    """The rank that half of the users see it at or above; None where that is beyond their lists."""
    if not len(ranks):
        return None
    ordered = np.sort(np.where(ranks == NOT_IN_LIST, np.iinfo(np.int64).max, ranks))
    middle = int(ordered[(len(ordered) - 1) // 2])
    return None if middle == np.iinfo(np.int64).max else middle


def interests(wants: BoolArray, reached: BoolArray, most: int) -> list[Interest]:
    """What those who are reached want more often than the others, the largest difference first.

    Args:
        wants: (U, V) whether a user wanted an item with each value.
        reached: (U,) whose list the item would be in.
        most: how many to tell.

    """
    n_reached = int(reached.sum())
    if n_reached < LEAST_USERS:
        return []
    counts = wants[reached].sum(axis=0)
    shares, typical = counts / n_reached, wants.mean(axis=0)
    order = np.argsort(typical - shares, kind="stable")
    return [
        Interest(v, int(counts[v]), float(shares[v]), float(typical[v]))
        for v in order.tolist()
        if counts[v] >= LEAST_USERS and shares[v] > typical[v]
    ][:most]
