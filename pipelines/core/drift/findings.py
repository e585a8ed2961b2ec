"""What was found when two builds were compared, each with its bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipelines.core.config import DriftConfig
from pipelines.core.drift.measures import Distance

Unit = Literal["count", "share", "number"]
Group = Literal["catalogue", "texts", "events", "scores"]
Sides = tuple[float | None, float | None]
"""Before and after."""


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    Attributes:
        name: also of its bound in `[drift]`.
        group: what it is about.
        before: of the version in service; None: there is nothing to measure.
        after: of the build.
        unit: of both.
        measure: what `value` is.
        value: how far apart; None: the two cannot be compared.
        bound: 0: none.
        is_beyond: whether it is farther than its bound, and than chance explains.
        says: a sentence for people.

    """

    name: str
    group: Group
    before: float | None
    after: float | None
    unit: Unit
    measure: str
    value: float | None
    bound: float
    is_beyond: bool
    says: str


@dataclass
class Comparison:
    """All findings, and pictures of what they are about.

    Attributes:
        bounds: the settings.
        findings: in the order in which they are told.
        histograms: by what they show, see `measures.histogram`.

    """

    bounds: DriftConfig
    findings: list[Finding] = field(default_factory=list)
    histograms: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def beyond(self) -> list[str]:
        """Names of what is too far."""
        return [f.name for f in self.findings if f.is_beyond]

    def group(self, group: Group) -> Findings:
        """To add findings of one group."""
        return Findings(self, group)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "beyond": self.beyond,
            "findings": [asdict(f) for f in self.findings],
            "histograms": self.histograms,
        }


@dataclass(frozen=True)
class Findings:
    """Adds findings of one group to a comparison."""

    comparison: Comparison
    about: Group

    def add(
        self, name: str, unit: Unit, measure: str, sides: Sides, distance: float | Distance | None, says: str
    ) -> None:
        """One finding more; its bound is the setting of its name."""
        bound = float(getattr(self.comparison.bounds, name))
        far = (
            distance if isinstance(distance, Distance) or distance is None else Distance(float(distance), 0.0)
        )
        is_beyond = far is not None and bound > 0 and far.value > max(bound, far.chance)
        before, after = (None if v is None else float(v) for v in sides)
        value = None if far is None else far.value
        self.comparison.findings.append(
            Finding(name, self.about, before, after, unit, measure, value, bound, is_beyond, says)
        )

    def rise(self, name: str, sides: Sides, of: str, *, either_way: bool = False) -> None:
        """A share that should not grow, or not change at all; `of` says what it is a share of, as a predicate."""
        before, after = sides
        measure = "change" if either_way else "rise"
        if before is None or after is None:
            says = f"Nothing to compare: one of the builds has nothing that could be so ({of})."
            self.add(name, "share", measure, sides, None, says)
            return
        change = abs(after - before) if either_way else max(after - before, 0.0)
        self.add(name, "share", measure, sides, change, f"{percent(after)} {of}; before: {percent(before)}.")


def percent(share: float) -> str:
    """As people write it: no digits that say nothing."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value in (0.0, 100.0) else f"{value:.2g} %"
