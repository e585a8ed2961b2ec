"""What counts as better: one number out of several metrics on several slices.

    objective = sum_s w_s mean_m log max(value_sm, 1e-4) / sum_s w_s

A logarithm, because slices differ tenfold in size: 5 % more on a hard slice counts as much as 5 % more on an easy one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.core.slices import SliceName

Figures = dict[SliceName, dict[str, float]]
"""Slice to metric to mean over its users."""

_LEAST = 1e-4
WORST = math.log(_LEAST)
"""The objective of a model that finds nothing; also told of settings that cannot be solved."""


@dataclass(frozen=True)
class Objective:
    """Weights of slices, and the metrics that are averaged in each.

    Attributes:
        weights: above zero, of slices that have users.
        metrics: such as "recall@20".

    """

    weights: dict[SliceName, float]
    metrics: tuple[str, ...]

    @property
    def ks(self) -> list[int]:
        """List lengths that have to be ranked."""
        return sorted({int(m.partition("@")[2]) for m in self.metrics})

    def value(self, figures: Mapping[SliceName, Mapping[str, float]]) -> float:
        """The objective of figures; higher is better, at most 0."""
        total = sum(
            weight * sum(math.log(max(figures[name][m], _LEAST)) for m in self.metrics) / len(self.metrics)
            for name, weight in self.weights.items()
        )
        return total / sum(self.weights.values())

    def words(self) -> str:
        """For people to read."""
        slices = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        return f"mean logarithm of {' and '.join(self.metrics)} on validation; weights of slices: {slices}"
