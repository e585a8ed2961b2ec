"""From the results of every model to figures, their intervals, and differences from the best baseline.

All models of a slice are measured on the same users; they are resampled together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.core import metrics
from pipelines.core.intervals import (
    Jackknife,
    bootstrap_means,
    exposure_jackknife,
    percentile_interval,
)  # fmt: skip
from pipelines.core.measure import BEYOND_ACCURACY, SliceResult
from pipelines.core.slices import Slice

OURS = "kindling"
_DIGITS = 6
_EXPOSURE = {"coverage": metrics.coverage, "gini": metrics.gini}


@dataclass(frozen=True)
class SliceSummary:
    """Figures of all models on one slice, ready for JSON.

    Attributes:
        figures: model to metric to value, None where nobody could be measured.
        intervals: model to metric to [low, high]; empty without resamples.
        differences: metric to `baseline` (the best one on it), `difference` (ours less its) and `interval`; rank
            metrics only, and only beside some baseline.

    """

    figures: dict[str, dict[str, float | None]]
    intervals: dict[str, dict[str, list[float]]]
    differences: dict[str, dict[str, object]]


def summarize(
    models: Sequence[str], results: Mapping[str, SliceResult], part: Slice, ks: Sequence[int], k: int,
    resamples: int, seed: int,
) -> SliceSummary:  # fmt: skip
    """Summarize one slice.

    Args:
        models: names of all models.
        results: of every model, on the users of `part`; empty when there are none.
        part: the slice.
        ks: list lengths of the rank metrics.
        k: list length of everything else.
        resamples: of users behind each interval; 0 leaves intervals out.
        seed: of the resamples.

    """
    n_items = part.relevant.shape[1]
    if not results:
        return SliceSummary(
            {m: dict.fromkeys(metric_names(ks, k)) for m in models}, {m: {} for m in models}, {}
        )
    names = list(next(iter(results.values())).values)
    columns = [(model, name) for model in results for name in names]
    values = np.stack([results[model].values[name] for model, name in columns], axis=1)
    means = dict(zip(columns, values.mean(axis=0), strict=True))
    sampled = bootstrap_means(values, resamples, seed) if resamples else None
    resampled = {} if sampled is None else {c: sampled[:, i] for i, c in enumerate(columns)}
    figures: dict[str, dict[str, float | None]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for model, result in results.items():
        exposures: dict[str, Jackknife] = {
            f"{name}@{k}": exposure_jackknife(result.listed[:, :k], n_items, part.candidates, statistic, seed)
            for name, statistic in _EXPOSURE.items()
        }
        figures[model] = {
            **{n: _round(means[model, n]) for n in names},
            **{n: _round(e.value) for n, e in exposures.items()},
        }
        bounds = {n: percentile_interval(resampled[model, n]) for n in names if resampled}
        bounds |= {n: e.interval() for n, e in exposures.items() if resampled}
        intervals[model] = {n: [_round(low), _round(high)] for n, (low, high) in bounds.items()}
    return SliceSummary(figures, intervals, _differences(list(results), names, means, resampled))


def metric_names(ks: Sequence[int], k: int) -> list[str]:
    """Every metric of a slice, in the order of the tables."""
    ranked = [f"{name}@{length}" for length in ks for name in metrics.RANK_METRICS]
    return ranked + [f"{name}@{k}" for name in (*BEYOND_ACCURACY, *_EXPOSURE)]


def _differences(
    models: list[str], names: list[str], means: Mapping[tuple[str, str], float],
    resampled: Mapping[tuple[str, str], np.ndarray],
) -> dict[str, dict[str, object]]:  # fmt: skip
    baselines = [m for m in models if m != OURS]
    if OURS not in models or not baselines:
        return {}
    found: dict[str, dict[str, object]] = {}
    for name in names:
        if name.split("@")[0] not in metrics.RANK_METRICS:
            continue
        best = max(baselines, key=lambda m: means[m, name])
        entry: dict[str, object] = {
            "baseline": best,
            "difference": _round(means[OURS, name] - means[best, name]),
        }
        if resampled:
            bounds = percentile_interval(resampled[OURS, name] - resampled[best, name])
            entry["interval"] = [_round(b) for b in bounds]
        found[name] = entry
    return found


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
