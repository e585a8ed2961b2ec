"""What a list may try: how far from the best an item may be, and how much of its scores a list may lose.

Dimensions: c candidates, n places, m lists.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.core.config import ExploreConfig

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def best_by(means: DoubleArray, n: int) -> IntArray:
    """(n,) the best candidates, best first."""
    return np.argsort(-means, kind="stable")[:n]


def near_best(means: DoubleArray, settings: ExploreConfig) -> BoolArray:
    """(c,) within the margin of the best."""
    top = float(means.max())
    return np.asarray(means >= top - settings.margin * abs(top))


def may_be_listed(
    means: DoubleArray, best: IntArray, is_cold: BoolArray, settings: ExploreConfig
) -> BoolArray:
    """(c,) near enough to the best, and of the cold ones the best few; what is listed anyway may stay."""
    may = near_best(means, settings)
    cold = np.flatnonzero(is_cold)
    may[cold[np.argsort(-means[cold], kind="stable")[settings.cold_candidates :]]] = False
    may[best] = True
    return may


def discounts(n: int) -> DoubleArray:
    """(n,) how much of a place is looked at, as DCG has it."""
    return np.asarray(1.0 / np.log2(2.0 + np.arange(n)))


def loss(means: DoubleArray, lists: IntArray, best: IntArray) -> DoubleArray:
    """(m,) what lists (m, n) score less than the best one, discounted by place."""
    return np.asarray((means[best] - means[lists]) @ discounts(len(best)))


def most_loss(means: DoubleArray, best: IntArray, settings: ExploreConfig) -> float:
    """What a list may lose; what rounding makes of no loss is none."""
    return (settings.max_loss + 1e-9) * float(np.abs(means[best]) @ discounts(len(best)))


def affordable(
    pool: IntArray, means: DoubleArray, base: IntArray, left: float, settings: ExploreConfig
) -> tuple[IntArray, int]:
    """Of the pool what one place may cost, and how many places may be drawn whatever they then show."""
    if not len(pool) or len(base) <= settings.protected:
        return pool[:0], 0
    dearest = float(means[base[settings.protected :]].max())
    share = float(discounts(len(base))[settings.protected])
    pool = pool[share * (dearest - means[pool]) <= left]
    if not len(pool):
        return pool, 0
    shortfall = share * (dearest - float(means[pool].min()))
    return pool, len(base) if shortfall <= 0 else int(min(left / shortfall, len(base)))
