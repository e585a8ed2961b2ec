"""Where the texts lie: the embeddings in two dimensions, a small map per category."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from pipelines.core.report.page import figure, titled
from pipelines.core.report.svg import key, panel
from pipelines.core.report.theme import MARK, SOFT, Look
from pipelines.core.report.wording import finite

__all__ = ["embedding_map"]

_CATEGORIES = 8
_BACKGROUND = 700
"""Grey dots behind each panel at most: enough for the outline, few enough for the size of the page."""


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    category: str
    cold: bool


def embedding_map(points: dict[str, Any]) -> str:
    """Text embeddings in two dimensions: cold items, then each of the most frequent categories, over all in grey."""
    known = [
        _Point(x, y, str(category), bool(cold))
        for x, y, category, cold in zip(
            points["x"], points["y"], points["category"], points["cold"], strict=True
        )
        if finite(x) is not None and finite(y) is not None
    ]
    counts = Counter(p.category for p in known if p.category)
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[:_CATEGORIES]
    cold = [p for p in known if p.cold]
    panels = (
        [titled("cold items", _map_panel(known, cold, "cold items"), f"{len(cold):,} of {len(known):,}")]
        if known
        else []
    )
    panels += [
        titled(c, _map_panel(known, chosen, c), f"{len(chosen):,}")
        for c in frequent
        if (chosen := [p for p in known if p.category == c])
    ]
    rest = len(known) - sum(counts[c] for c in frequent)
    return figure(
        "Items with like texts lie together: the text embeddings on a map, category by category",
        panels,
        f"The {len(frequent)} most frequent categories, then {rest:,} items of others, which are in grey only. "
        "Near each other means alike; directions and distances across the map mean little.",
        [
            (key(Look(MARK, "o", ""), line=False), "named above the panel"),
            (key(Look(SOFT, "o", ""), line=False), "other items"),
        ],
        width=215,
    )


def _map_panel(everything: Sequence[_Point], chosen: Sequence[_Point], name: str) -> str:
    picked = {id(p) for p in chosen}
    others = [p for p in everything if id(p) not in picked]
    stride = max(1, math.ceil(len(others) / _BACKGROUND))

    def paint(axes: Axes) -> None:
        xs, ys = [p.x for p in everything], [p.y for p in everything]
        _dots(axes, others[::stride], SOFT, 1.7, 0.3)
        _dots(axes, chosen, MARK, 2.3, 0.8)
        axes.set_xlim(*_padded(xs))
        axes.set_ylim(*_padded(ys))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("first axis (no unit)")
        axes.set_ylabel("second axis (no unit)")

    return panel(f"Map of text embeddings, {len(chosen)} items marked: {name}", 215, 195, paint)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    edge = 0.04 * (high - low) or 1.0
    return low - edge, high + edge


def _dots(axes: Axes, points: Sequence[_Point], color: str, size: float, alpha: float) -> None:
    """Round-capped strokes of no length: one path for all dots is a tenth of the bytes of a marker each."""
    if not points:
        return
    corners = [(p.x, p.y) for p in points for _ in range(2)]
    path = Path(corners, [Path.MOVETO, Path.LINETO] * len(points))
    path.should_simplify = False  # simplifying drops what has no length
    axes.add_patch(
        PathPatch(path, fill=False, edgecolor=color, linewidth=size, capstyle="round", alpha=alpha)
    )
