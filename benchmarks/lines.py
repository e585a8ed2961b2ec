"""Lines through measured points: what a figure costs per item, user and interaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]
AXES = ("items", "users", "interactions")
_LEAST_POINTS = 3
"""On an axis, for an exponent: a constant and a slope go through any two points."""
_EXPONENTS = np.linspace(0.2, 3.0, 141)


@dataclass(frozen=True)
class Point:
    """Sizes of one build."""

    items: int
    users: int
    interactions: int
    factors: int = 128

    def __str__(self) -> str:
        """Sizes for a table."""
        return f"{self.items:,} | {self.users:,} | {self.interactions:,} | {self.factors}"

    @property
    def sizes(self) -> DoubleArray:
        """(3,) in the order of AXES."""
        return np.array([getattr(self, axis) for axis in AXES], dtype=np.float64)


@dataclass(frozen=True)
class Line:
    """constant + slopes . (items, users, interactions).

    Attributes:
        constant: at nothing.
        slopes: (3,) per item, user and interaction; 0 along an axis that was not varied, or did not matter.
        exponent: along `axis`; 1 where a line is right; NaN with too few points on it.
        axis: the one that costs most at the largest sizes measured.
        largest: value seen.

    """

    constant: float
    slopes: DoubleArray
    exponent: float
    axis: str
    largest: float

    def at(self, point: Point) -> float:
        """The value at a point."""
        return self.constant + float(self.slopes @ point.sizes)


def fit(points: Sequence[Point], values: Sequence[float]) -> Line:
    """Least squares; a negative term is left out and the rest fitted again."""
    x, y = np.array([p.sizes for p in points]), np.array(values, dtype=np.float64)
    scale = x.max(axis=0)
    used = [i for i in range(len(AXES)) if len(np.unique(x[:, i])) > 1]
    found = np.array([y.mean()])
    while used:
        design = np.column_stack([np.ones(len(y)), x[:, used] / scale[used]])
        found = np.linalg.lstsq(design, y, rcond=None)[0]
        if found[1:].min() >= 0:
            break
        used.pop(int(found[1:].argmin()))
        found = np.array([y.mean()])
    slopes = np.zeros(len(AXES))
    slopes[used] = found[1:] / scale[used]
    constant = max(float(found[0]), 0.0)
    axis = int((slopes * scale).argmax())
    exponent = _exponent(x, y, axis) if used else float("nan")
    return Line(constant, slopes, exponent, AXES[axis] if used else "–", float(y.max()))


def _exponent(x: DoubleArray, y: DoubleArray, axis: int) -> float:
    """The p of a + b size^p that is nearest to the points on an axis; a constant on top is not taken for a small p."""
    others = [i for i in range(len(AXES)) if i != axis]
    along = (x[:, others] == x[0, others]).all(axis=1)
    size, value = x[along, axis] / x[along, axis].max(), y[along]
    if len(np.unique(size)) < _LEAST_POINTS:
        return float("nan")

    def misfit(p: float) -> float:
        design = np.column_stack([np.ones(len(size)), size**p])
        return float(np.linalg.norm(design @ np.linalg.lstsq(design, value, rcond=None)[0] - value))

    return float(min(_EXPONENTS, key=misfit))
