"""How sure a figure is, and how sure that one model's is larger: resampling of users, the same for all models.

Dimensions: n users, C columns (a metric of a model each), B resamples, G groups, m candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.95
_AT_ONCE = 64
_GROUPS = 20


def bootstrap_means(values: DoubleArray, resamples: int, seed: int) -> DoubleArray:
    """(B, C) means of resampled users (Efron 1979); row b is the same resample for every column.

    Differences of columns are therefore paired: they do not contain how hard the drawn users are.

    Args:
        values: (n, C), n >= 1.
        resamples: B.
        seed: same seed and n, same resamples.

    """
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means[start : start + size] = weights @ values / n
    return means


def percentile_interval(means: DoubleArray, level: float = LEVEL) -> tuple[float, float]:
    """Bounds of the middle 95 %, or another share, of (B,) resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Jackknife:
    """A figure of all users together, with what it is without each group of users.

    Attributes:
        value: over all users.
        without: (G,) leaving one group out.

    """

    value: float
    without: DoubleArray

    def interval(self) -> tuple[float, float]:
        """95 % bounds from the delete-a-group variance (Shao and Tu 1995, section 5.2)."""
        return jackknife_interval(self.value, self.without)


def exposure_jackknife(
    listed: IntArray, n_items: int, candidates: IntArray, statistic: Callable[[DoubleArray], float], seed: int
) -> Jackknife:
    """A statistic of how often items are listed, such as coverage, and its value without each group of users.

    Resampling with repeats would not do: fewer different users cover fewer items, whatever the model.

    Args:
        listed: (n, k) item rows, -1 for an empty place.
        n_items: I.
        candidates: (m,) items that could have been listed.
        statistic: of the (m,) exposures.
        seed: of the groups; the same for all models, so that differences are paired.

    """
    n = len(listed)
    n_groups = min(_GROUPS, n)
    group = np.random.default_rng(seed).permutation(n) % max(n_groups, 1)
    counts = np.zeros((n_groups, n_items))
    row, place = np.nonzero(listed >= 0)
    np.add.at(counts, (group[row], listed[row, place]), 1.0)
    counts = counts[:, candidates]
    total = counts.sum(axis=0)
    without = np.array([statistic(total - c) for c in counts])
    return Jackknife(statistic(total), without)


def jackknife_interval(value: float, without: DoubleArray, level: float = LEVEL) -> tuple[float, float]:
    """95 % bounds, or of another level, of a value (or of a paired difference) from its values without each group."""
    n_groups = len(without)
    if n_groups < 2:
        return value, value
    spread = np.sqrt((n_groups - 1) / n_groups * ((without - without.mean()) ** 2).sum())
    reach = NormalDist().inv_cdf((1 + level) / 2) * spread
    return float(value - reach), float(value + reach)
