"""How far two samples are apart: measures with known scales, and what chance alone makes of them.

The population stability index is the symmetric Kullback-Leibler divergence over the deciles of the first sample; credit
scoring, where it comes from, takes 0.1 for a little and 0.25 for a large shift (Siddiqi, Credit Risk Scorecards, 2006).
Samples of the same source give chi-squared times 1/n + 1/m (Yurdakul and Naranjo 2020): few rows alone look like drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, ks_2samp

FloatArray = npt.NDArray[np.floating]
_PARTS = 10
_UNLIKELY = 0.999
"""What chance stays below so often is chance's."""
_HALF_A_ROW = 0.5
"""Added to every bin, so that an empty one is a large divergence and not an infinite one."""
_BARS = 32
_TAIL = 0.995
"""Values above this quantile share a histogram's last bar: one text as long as a book must not flatten all others."""


@dataclass(frozen=True)
class Distance:
    """How far apart, and what chance makes of two samples of the same source in one of a thousand cases."""

    value: float
    chance: float


def stability_index(before: FloatArray, after: FloatArray) -> Distance:
    """Population stability index over the deciles of `before`, with a bin below and one above all of its values.

    Args:
        before: (n,) values, at least one.
        after: (m,) values, at least one.

    """
    inner = np.quantile(before, np.arange(1, _PARTS) / _PARTS)
    least = np.nextafter(before.min(), -np.inf)
    edges = np.unique(np.concatenate([[least], inner, [before.max()]]))
    p, q = (_shares(np.searchsorted(edges, values), len(edges) + 1) for values in (before, after))
    return Distance(float((q - p) @ np.log(q / p)), _chance(len(edges) + 1, len(before), len(after)))


def divergence(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> Distance:
    """Jensen-Shannon divergence in bits, 0 for the same shares to 1 for nothing in common (Lin 1991).

    Chance as Grosse et al. (2002) have it: chi-squared over 8 ln 2, times 1/n + 1/m.

    Args:
        before: (I,) counts per item, not all of them zero.
        after: (I,) counts of the same items.

    """
    n_seen = int(((before > 0) | (after > 0)).sum())
    chance = _chance(n_seen, int(before.sum()), int(after.sum())) / (8 * np.log(2))
    return Distance(float(jensenshannon(before, after, base=2)) ** 2, float(chance))


def largest_gap(before: FloatArray, after: FloatArray) -> float:
    """Kolmogorov-Smirnov: the largest difference between the shares of values below any one value, 0 to 1."""
    return float(ks_2samp(before, after, method="asymp").statistic)


def histogram(before: FloatArray, after: FloatArray) -> dict[str, list[float]]:
    """Shares of both samples in bars of one width: `edges` (b + 1), `before` (b,), `after` (b,).

    What lies beyond the last edge is in the last bar, and below the first in the first.
    """
    both = np.concatenate([before, after]).astype(np.float64)
    low, high = np.quantile(both, [1 - _TAIL, _TAIL]) if (both < 0).any() else (0.0, np.quantile(both, _TAIL))
    if not high > low:
        high = low + 1.0
    is_whole = bool(np.all(both == np.round(both))) and high - low < _BARS
    edges = np.arange(low, high + 2) if is_whole else np.linspace(low, high, _BARS + 1)
    inside = (np.clip(values, edges[0], edges[-1]) for values in (before, after))
    counts = [np.histogram(values, edges)[0] / max(len(values), 1) for values in inside]
    return {"edges": edges.tolist(), "before": counts[0].tolist(), "after": counts[1].tolist()}


def _shares(bins: npt.NDArray[np.int64], n_bins: int) -> npt.NDArray[np.float64]:
    counts = np.bincount(bins, minlength=n_bins) + _HALF_A_ROW
    return np.asarray(counts / counts.sum())


def _chance(n_bins: int, n: int, m: int) -> float:
    return float(chi2.ppf(_UNLIKELY, max(n_bins - 1, 1)) * (1 / max(n, 1) + 1 / max(m, 1)))
