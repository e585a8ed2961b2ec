"""Which items get the list places, by their popularity in training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from pipelines.core.report.page import figure, titled
from pipelines.core.report.svg import key, panel, plain_ticks
from pipelines.core.report.theme import INK, SOFT, Look
from pipelines.core.report.view import Series
from pipelines.core.report.wording import finite

__all__ = ["exposure"]

Shares = Sequence[float | None]
"""A share, 0 to 1, per bucket of popularity."""


def exposure(labels: Sequence[str], models: Sequence[tuple[Series, Shares, Shares]]) -> str:
    """Bars of the share of list places, marks of the share of likes; a panel per model.

    Args:
        labels: of the B buckets, least popular first.
        models: (the model, B shares of list places, B shares of held-out likes or none).

    """
    every = [finite(v) or 0.0 for _, places, likes in models for v in (*places, *likes)]
    most = 100 * max(every, default=0.0) or 1.0
    return figure(
        "Who gets the list places: items by popularity, cold items apart",
        [titled(model.name, _panel(labels, model, places, likes, most)) for model, places, likes in models],
        "A model that places items where the likes are has its bars end at the marks. One scale for all panels; the "
        "figures at the right are the bars'.",
        [
            (key(Look(SOFT, "s", ""), bar=True), "share of list places"),
            (key(Look(INK, "d", ""), line=False), "share of held-out likes"),
        ],
    )


def _panel(labels: Sequence[str], model: Series, places: Shares, likes: Shares, most: float) -> str:
    bars = [100 * (finite(v) or 0.0) for v in places]
    marks = [(i, 100 * v) for i, raw in enumerate(likes) if (v := finite(raw)) is not None]

    def paint(axes: Axes) -> None:
        axes.barh(range(len(bars)), bars, color=model.look.color, height=0.72)
        axes.plot([v for _, v in marks], [i for i, _ in marks], "d", color=INK, markersize=5, clip_on=False)
        for i, value in enumerate(bars):
            digits = 0 if value >= 9.95 else 1
            axes.text(most * 1.2, i, f"{value:.{digits}f}", va="center", ha="right", fontsize=8, color=SOFT)
        axes.set_yticks(range(len(labels)), list(labels))
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.set_xlim(0, most * 1.21)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of list places, of likes (%)")
        plain_ticks(axes, "x", 4)

    said = ", ".join(f"{label} {value:.1f} %" for label, value in zip(labels, bars, strict=False))
    label = f"Share of list places of {model.name} by popularity: {said}"
    return panel(label, 370, 70 + 19 * len(labels), paint)
