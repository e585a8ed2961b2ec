"""A tuning study, read from a plain dict: trials in the order of merit, and what kind each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipelines.core.report.wording import finite

__all__ = ["Kind", "Study", "Trial"]

Kind = Literal["best", "defaults", "tried", "stopped early"]
_STATES = ("COMPLETE", "PRUNED", "ERROR")


@dataclass(frozen=True)
class Trial:
    """One set of settings that was tried; what was not measured is None or empty."""

    number: int
    state: str
    objective: float | None
    settings: dict[str, Any]
    slices: dict[str, dict[str, Any]]
    seconds: float | None
    iterations: int | None
    kind: Kind

    @property
    def merit(self) -> tuple[int, float, int]:
        """Sorts completed trials first, best first; one that was stopped has not had its full chance."""
        place = _STATES.index(self.state) if self.state in _STATES else len(_STATES)
        return place, float("inf") if self.objective is None else -self.objective, self.number


@dataclass(frozen=True)
class Study:
    """All trials of a study in which a higher objective is better, in the order they ran."""

    objective: str
    trials: tuple[Trial, ...]
    importance: dict[str, float]

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Study:
        """From the dict `render_trials` takes."""
        found = sorted(raw.get("trials") or [], key=lambda t: int(t["number"]))
        marked: dict[Any, Kind] = {raw.get("defaults"): "defaults", raw.get("best"): "best"}
        trials = tuple(
            Trial(
                int(t["number"]), str(t.get("state", "")), finite(t.get("objective")), dict(t.get("settings") or {}),
                dict(t.get("slices") or {}), finite(t.get("seconds")), t.get("iterations"),
                marked.get(t["number"], "tried" if t.get("state") == "COMPLETE" else "stopped early"),
            )
            for t in found
        )  # fmt: skip
        shares = {name: finite(share) for name, share in (raw.get("importance") or {}).items()}
        return cls(str(raw.get("objective", "")), trials, {n: v for n, v in shares.items() if v is not None})

    def of(self, number: object) -> Trial | None:
        """The trial with that number."""
        return next((t for t in self.trials if t.number == number and number is not None), None)

    @property
    def settings(self) -> list[str]:
        """Names of all settings that were varied."""
        return list(dict.fromkeys(name for t in self.trials for name in t.settings))
