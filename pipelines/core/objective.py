"""What counts as better: one number out of several metrics on several slices, or the one figure of a fine-tuning.

    objective = sum_s w_s mean_m log max(value_sm, 1e-4) / sum_s w_s

A logarithm, because slices differ tenfold in size: 5 % more on a hard slice counts as much as 5 % more on an easy one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pipelines.core.slices import SliceName

Figures = dict[str, dict[str, float]]
"""Slice to metric to mean over its users."""
VALIDATION = "validation"
"""Stands where a slice does for the examples that a fine-tuning is validated on."""

_LEAST = 1e-4
WORST = math.log(_LEAST)
"""The objective of a model that finds nothing; also told of settings that cannot be solved."""
WORST_FIGURE = -1e9
"""The same for a fine-tuning, whose figure may be any number, such as an error below zero."""


class Aim(Protocol):
    """What a study maximises, for people."""

    @property
    def shown(self) -> list[tuple[str, tuple[str, ...]]]:
        """Slices with the metrics that count."""

    def words(self) -> str:
        """What the objective is."""


@dataclass(frozen=True)
class Decides:
    """The figure of a fine-tuning that decides on its best checkpoint: larger is better, taken as it is."""

    metric: str

    @property
    def shown(self) -> list[tuple[str, tuple[str, ...]]]:
        """The one."""
        return [(VALIDATION, (self.metric,))]

    def words(self) -> str:
        """For people to read."""
        return f"{self.metric} of the best validation of a fine-tuning"


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

    def value(self, figures: Mapping[str, Mapping[str, float]]) -> float:
        """The objective of figures; higher is better, at most 0."""
        total = sum(
            weight * sum(math.log(max(figures[name][m], _LEAST)) for m in self.metrics) / len(self.metrics)
            for name, weight in self.weights.items()
        )
        return total / sum(self.weights.values())

    @property
    def shown(self) -> list[tuple[str, tuple[str, ...]]]:
        """All of it."""
        return [(name, self.metrics) for name in self.weights]

    def words(self) -> str:
        """For people to read."""
        slices = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        return f"mean logarithm of {' and '.join(self.metrics)} on validation; weights of slices: {slices}"
