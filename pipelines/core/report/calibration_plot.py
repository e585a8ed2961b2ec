"""What a score is worth: how often items are relevant at each score, cold ones beside known ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipelines.core.report.page import figure, titled
from pipelines.core.report.svg import key, panel, plain_ticks, wide_axis
from pipelines.core.report.theme import CONTRAST, EMPHASIS, Look
from pipelines.core.report.wording import finite

__all__ = ["calibration"]

Bin = tuple[float, float, float | None]
"""(mean score, share of relevant, number of pairs or None)."""

_GROUPS = {
    "cold": ("cold items", Look(EMPHASIS.color, "o", "-")),
    "warm": ("known items", Look(CONTRAST.color, "s", "--")),
}
_SPAN = 30
"""From this ratio of the largest rate to the smallest on, the axis is logarithmic above its first decade."""
_Z = 1.96


def calibration(builds: Sequence[tuple[str, dict[str, Any] | None]]) -> str:
    """A panel for each named build; a build that is alone shows how many pairs have each score, too.

    Args:
        builds: (name, or "" for the only one; the data of the plot, `cold` and `warm` with score, rate and n).

    """
    panels = []
    for name, data in builds:
        groups = {g: bins for g in _GROUPS if (bins := _bins((data or {}).get(g)))}
        if groups:
            rates = _panel(groups, _paint_rates, "relevant items (share of the bin)", name)
            panels.append(titled(name or "How often items were relevant", rates))
        if groups and not name and all(n for bins in groups.values() for _, _, n in bins):
            panels.append(
                titled(
                    "How many have the score", _panel(groups, _paint_counts, "pairs in the bin (count)", name)
                )
            )
    return figure(
        "Share of items that were relevant at each score, cold items beside known ones",
        panels,
        "Where the lines lie on each other, a score means the same for both, and neither kind is favoured in a mixed "
        "list. Whiskers are 95 % intervals of a share (Wilson).",
        [(key(style), name) for name, style in _GROUPS.values()],
        width=400,
    )


def _bins(group: object) -> list[Bin]:
    """The bins that have a score and a rate."""
    if not isinstance(group, dict):
        return []
    scores, rates = group.get("score") or [], group.get("rate") or []
    counts = group.get("n") or [None] * len(scores)
    rows = zip(scores, rates, counts, strict=True)
    return [(s, r, finite(n)) for s, r, n in rows if finite(s) is not None and finite(r) is not None]


def wilson(rate: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share of n (Wilson, 1927); within 0 and 1 also where the share is neither."""
    centre = (rate + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z / (1 + _Z * _Z / n) * math.sqrt(rate * (1 - rate) / n + _Z * _Z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _panel(
    groups: dict[str, list[Bin]],
    paint_group: Callable[[Axes, Sequence[Bin], Look], None],
    unit: str,
    name: str,
) -> str:
    def paint(axes: Axes) -> None:
        for group, bins in groups.items():
            paint_group(axes, bins, _GROUPS[group][1])
        every = [b for bins in groups.values() for b in bins]
        wide_axis(axes, "x", [score for score, _, _ in every])
        if paint_group is _paint_counts:
            wide_axis(axes, "y", [n or 0.0 for _, _, n in every])
        else:
            _rate_axis(axes, [rate for _, rate, _ in every if rate > 0])
        axes.set_xlabel("mean score of the bin (no unit)")
        axes.set_ylabel(unit)

    said = "; ".join(
        f"{_GROUPS[group][0]} from {bins[0][1]:.3g} at {bins[0][0]:.3g} to {bins[-1][1]:.3g} at {bins[-1][0]:.3g}"
        for group, bins in groups.items()
    )
    whose = f"Calibration of {name}" if name else "Calibration"
    return panel(f"{whose}, {unit} by score; share of relevant: {said}", 410, 290, paint)


def _paint_rates(axes: Axes, bins: Sequence[Bin], style: Look) -> None:
    for score, rate, n in bins:
        if n and 0 <= rate <= 1:
            axes.vlines(score, *wilson(rate, n), color=style.color, linewidth=1, alpha=0.6)
    _line(axes, [s for s, _, _ in bins], [r for _, r, _ in bins], style)


def _paint_counts(axes: Axes, bins: Sequence[Bin], style: Look) -> None:
    _line(axes, [s for s, _, _ in bins], [n or 0.0 for _, _, n in bins], style)


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float], style: Look) -> None:
    axes.plot(
        xs, ys, color=style.color, linestyle=style.dash, marker=style.marker, markersize=4.5, clip_on=False
    )


def _rate_axis(axes: Axes, positive: Sequence[float]) -> None:
    if positive and max(positive) > _SPAN * min(positive):
        decade = 10.0 ** math.floor(math.log10(min(positive)))
        axes.set_yscale("symlog", linthresh=decade, linscale=0.5)  # zero stays on the plot
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        plain_ticks(axes, "y")
    axes.set_ylim(bottom=0)
