"""Two builds, slice by slice: what each reaches and how far they are apart, as a table and as dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from pipelines.core.report.page import cell, columns, figure, head, paragraph, row, table, titled
from pipelines.core.report.svg import key, panel, plain_ticks
from pipelines.core.report.theme import AHEAD, BEHIND, INK, PAGE, SOFT, Look
from pipelines.core.report.view import Bounds, EvaluationView, bounds_of
from pipelines.core.report.wording import (
    Verdict,
    between,
    finite,
    number,
    ordered_slices,
    signed,
    slice_title,
    tone,
    verdict,
)

__all__ = ["Paired", "counted", "difference_dots", "paired_slices", "paired_table"]

_COLORS = {"ahead": AHEAD, "behind": BEHIND, "unclear": SOFT, "unknown": SOFT}


@dataclass(frozen=True)
class Paired:
    """One metric of two builds on one slice; the interval is the difference's."""

    a: float | None
    b: float | None
    difference: float | None
    interval: Bounds | None

    @classmethod
    def read(cls, found: dict[str, Any]) -> Paired:
        """From `a`, `b`, `difference`, `interval`."""
        return cls(
            finite(found.get("a")), finite(found.get("b")), finite(found.get("difference")),
            bounds_of(found.get("interval")),
        )  # fmt: skip


def paired_slices(view: EvaluationView, which: str) -> list[str]:
    """The slices on which either build has a figure."""
    found = view.get(which) or {}

    def measured(figures: dict[str, Any]) -> bool:
        pairs = [Paired.read(f or {}) for f in figures.values()]
        return any(p.a is not None or p.b is not None for p in pairs)

    return [s for s in ordered_slices(list(found)) if measured(found[s] or {})]


def counted(view: EvaluationView, which: str, slice_name: str) -> str:
    """How many users, in words; empty where it is not known."""
    users = view.users(which, slice_name)
    return f"{users:,} users" if users is not None else ""


def paired_table(
    view: EvaluationView,
    which: str,
    names: tuple[str, str],
    slices: Sequence[str],
    metrics: Sequence[str] = (),
) -> str:
    """A row per slice and metric.

    Args:
        view: of the comparison.
        which: held-out set.
        names: of the two builds.
        slices: to be shown; the slice's column is left out where there is one only.
        metrics: to be shown; all there are unless some are named.

    """
    single, rows = len(slices) == 1 and not metrics, []
    for s in slices:
        listed = list(metrics or view.get(which, s) or {})
        for place, metric in enumerate(listed):
            first = (
                [] if single or place else [head(slice_title(s), counted(view, which, s), rows=len(listed))]
            )
            name = head(metric) if single else cell(metric, css="words")
            figures = _cells(Paired.read(view.get(which, s, metric) or {}), metric, names)
            rows.append(
                row([*first, name, *figures], "next" if not single and place < len(listed) - 1 else "")
            )
    if not rows:
        return paragraph("The two builds have no slice in common.", "soft")
    titles = ([] if single else ["slice"]) + ["metric", "verdict", *names, "difference"]
    label = f"Comparison on {which}" + (f", {slice_title(slices[0])}" if single else "")
    return table(columns(*titles, words=("metric", "verdict")), rows, label, "" if single else "verdict")


def _verdict(pair: Paired, names: tuple[str, str]) -> Verdict:
    return verdict(pair.interval, f"{names[1]} clearly higher", f"{names[0]} clearly higher")


def _cells(pair: Paired, metric: str, names: tuple[str, str]) -> list[str]:
    seen = _verdict(pair, names)
    css = tone(seen, metric)
    return [
        cell(f"{seen.sign} {seen.words}", css=f"words {css}"),
        cell(number(pair.a, metric)),
        cell(number(pair.b, metric)),
        cell(signed(pair.difference, metric), between(pair.interval, metric, sign=True), css),
    ]


def difference_dots(
    view: EvaluationView, which: str, names: tuple[str, str], slices: Sequence[str], metrics: Sequence[str]
) -> str:
    """A panel per metric, a row per slice, the difference with its interval about zero."""
    panels = []
    for metric in metrics:
        pairs = {s: Paired.read(view.get(which, s, metric) or {}) for s in slices}
        known = {s: p for s, p in pairs.items() if p.difference is not None}
        if known:
            panels.append(titled(metric, _panel(known, metric, names)))
    return figure(
        f"How far {names[1]} is from {names[0]}, slice by slice",
        panels,
        f"Right of zero: {names[1]} is higher. Filled: the interval leaves out zero.",
        [
            (key(Look(AHEAD, "o", ""), line=False), f"{names[1]} clearly higher"),
            (key(Look(BEHIND, "o", ""), line=False), f"{names[0]} clearly higher"),
            (key(Look(SOFT, "o", ""), line=False, hollow=True), "no clear difference, or no interval"),
        ],
        width=400,
    )


def _panel(known: dict[str, Paired], metric: str, names: tuple[str, str]) -> str:
    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.9)
        for place, pair in enumerate(known.values()):
            css = _verdict(pair, names).css
            color = _COLORS[css]
            if pair.interval:
                axes.hlines(place, *pair.interval, color=color, linewidth=1.8)
            face = color if css in ("ahead", "behind") else PAGE
            axes.plot([pair.difference or 0.0], [place], "o", color=color, markerfacecolor=face, markersize=6)
        axes.set_yticks(range(len(known)), [slice_title(s) for s in known])
        axes.set_ylim(len(known) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"difference in {metric}, b − a (absolute)")
        plain_ticks(axes, "x")

    said = "; ".join(
        f"{slice_title(s)} {signed(p.difference)} {between(p.interval, sign=True)}".strip()
        for s, p in known.items()
    )
    label = f"Differences in {metric}, {names[1]} minus {names[0]}: {said}"
    return panel(label, 410, 72 + 23 * len(known), paint)
