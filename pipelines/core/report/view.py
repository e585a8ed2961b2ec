"""Reading an evaluation, a plain dict from JSON, where any model, slice or metric may be missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.core.report.theme import EMPHASISED, Look, looks
from pipelines.core.report.wording import finite, ordered_slices

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a plot: its name, look and figures by slice and metric."""

    name: str
    look: Look
    value: Callable[[str, str], float | None]
    interval: Callable[[str, str], Bounds | None]
    emphasised: bool


@dataclass(frozen=True)
class Difference:
    """The emphasised model minus the best baseline on one metric, over the same users."""

    baseline: str
    value: float | None
    interval: Bounds | None


def bounds_of(pair: object) -> Bounds | None:
    """`[low, high]` as numbers; None for anything else."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    low, high = finite(pair[0]), finite(pair[1])
    return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class EvaluationView:
    """Typed access to an evaluation; what is absent is None, never an error.

    Attributes:
        raw: the evaluation as `kindling evaluate` writes it, see docs/metrics.md.

    """

    raw: dict[str, Any]

    def get(self, *path: str) -> Any:  # noqa: ANN401 - JSON
        """The value under nested keys, or None."""
        value: Any = self.raw
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    @property
    def k(self) -> int:
        """The list length that leads the page."""
        return int(self.get("k") or 20)

    @property
    def level(self) -> str:
        """The intervals' level in words."""
        return f"{100 * float(self.get('bootstrap', 'level') or 0.95):g} %"

    @property
    def models(self) -> list[str]:
        """Names, in the order given."""
        listed = self.get("models") or [m for which in self.held_out for m in self.raw[which]]
        return list(dict.fromkeys(listed))

    @property
    def held_out(self) -> list[str]:
        """The sets that were measured, test first."""
        return [which for which in ("test", "validation") if self.get(which)]

    def slices(self, which: str) -> list[str]:
        """Slices any model was measured on or users were counted in, in reading order."""
        names = [s for model in (self.get(which) or {}).values() for s in model]
        return ordered_slices([*names, *(self.get("users", which) or {})])

    def measured(self, which: str) -> list[str]:
        """The slices on which some model has some figure."""
        return [
            s for s in self.slices(which)
            if any(finite(v) is not None for m in self.models for v in (self.get(which, m, s) or {}).values())
        ]  # fmt: skip

    def metrics(self, which: str, slice_name: str) -> list[str]:
        """Names of all metrics of a slice, in the order given."""
        return list(dict.fromkeys(m for n in self.models for m in self.get(which, n, slice_name) or {}))

    def value(self, which: str, model: str, slice_name: str, metric: str) -> float | None:
        """A mean."""
        return finite(self.get(which, model, slice_name, metric))

    def interval(self, which: str, model: str, slice_name: str, metric: str) -> Bounds | None:
        """Its bootstrap interval."""
        return bounds_of(self.get("intervals", which, model, slice_name, metric))

    def users(self, which: str, slice_name: str) -> int | None:
        """How many users a mean is over."""
        count = finite(self.get("users", which, slice_name))
        return None if count is None else int(count)

    def difference(self, which: str, slice_name: str, metric: str) -> Difference | None:
        """The paired difference from the best baseline."""
        found = self.get("differences", which, slice_name, metric)
        if not isinstance(found, dict):
            return None
        value, bounds = finite(found.get("difference")), bounds_of(found.get("interval"))
        return Difference(str(found.get("baseline", "")), value, bounds)

    def series(self, which: str) -> list[Series]:
        """All models as lines of a plot."""
        styles = looks(self.models)
        return [self.one(which, name, name, styles[name], name == EMPHASISED) for name in self.models]

    def one(self, which: str, model: str, name: str, look: Look, emphasised: bool) -> Series:
        """One model as a line of a plot, under a name and a look of the caller's."""
        return Series(
            name, look,
            lambda s, m: self.value(which, model, s, m),
            lambda s, m: self.interval(which, model, s, m),
            emphasised,
        )  # fmt: skip
