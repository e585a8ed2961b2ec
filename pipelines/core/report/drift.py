"""The page on what is otherwise in a rebuild than in the version in service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipelines.core.report.page import (
    cell,
    columns,
    facts,
    figure,
    glossary,
    head,
    page,
    paragraph,
    row,
    table,
    titled,
)
from pipelines.core.report.svg import key, panel, plain_ticks
from pipelines.core.report.theme import CONTRAST, EMPHASIS
from pipelines.core.report.wording import DASH

__all__ = ["render_drift"]

_TITLES = {
    "catalogue": "Catalogue",
    "texts": "Texts",
    "events": "Users and events",
    "scores": "Scores and lists",
}
_MEASURES = {
    "share, rise, change": "parts of a whole between 0 and 1: what is gone or new, or by how much a share has grown",
    "stability index": "population stability index over ten parts of equal size: 0.1 is a little, 0.25 is much",
    "Jensen-Shannon, bits": "how differently interactions fall on items: 0 exactly alike, 1 nothing in common",
    "Kolmogorov-Smirnov": "largest difference between the shares of scores below any one value, 0 to 1",
    "1 - cosine": "angle between vectors of texts: 0 the same direction, 1 at right angles",
}  # fmt: skip


def render_drift(report: Mapping[str, Any]) -> str:
    """HTML of a drift report.

    Args:
        report: `incumbent` (a version, or null), `created_at`, `run_id`, `looked_at`, and `beyond`, `findings`,
            `histograms` as `drift.findings.Comparison.document` has them.

    """
    incumbent = report.get("incumbent")
    title = f"Drift: this build and {incumbent}" if incumbent else "Drift: the first build"
    told = [(name, str(report.get(key_) or "")) for name, key_ in (("made", "created_at"), ("run", "run_id"))]
    looked = [(name, f"{n:,}") for name, n in (report.get("looked_at") or {}).items()]
    body = [f"<h1>{escape(title)}</h1>", facts([*told, *looked]), *_verdict(report)]
    if incumbent:
        body += [_pictures(report["histograms"]), *_tables(report["findings"])]
        body += ["<h2>What the measures mean</h2>", glossary(_MEASURES.items())]
    return page(f"Kindling: {title}", body)


def _verdict(report: Mapping[str, Any]) -> list[str]:
    findings: Sequence[Mapping[str, Any]] = report["findings"]
    if not report.get("incumbent"):
        return [paragraph("No version is in service: this build has nothing to drift from.", "lead")]
    beyond = [f for f in findings if f["is_beyond"]]
    compared = sum(f["value"] is not None for f in findings)
    if not beyond:
        return [
            paragraph(
                f"Nothing lies beyond its bound: {compared} things were compared with the version in service.",
                "lead",
            )
        ]
    items = "".join(
        f"<li><b class='behind'>▲ {escape(f['name'])}</b>: {escape(f['says'])}</li>" for f in beyond
    )
    count = "One thing lies" if len(beyond) == 1 else f"{len(beyond)} things lie"
    return [
        paragraph(
            f"{count} farther from the version in service than allowed; {compared} were compared:",
            "lead",
        ),
        f"<ul class='lines'>{items}</ul>",
        paragraph(
            "If the shop has indeed changed so, raise the bound in [drift]; if not, look at the tables.",
            "soft",
        ),
    ]


def _tables(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = []
    for group, title in _TITLES.items():
        rows = [_row(f) for f in findings if f["group"] == group]
        if rows:
            names = ("", "before", "now", "measure", "apart", "bound", "in words")
            made = table(columns(*names, words=("measure", "in words")), rows, title)
            parts += [f"<h2>{escape(title)}</h2>", made]
    return parts


def _row(finding: Mapping[str, Any]) -> str:
    css = "behind" if finding["is_beyond"] else ""
    sign = "▲ " if finding["is_beyond"] else ""
    value, bound = finding["value"], finding["bound"]
    return row(
        [
            head(sign + finding["name"], css=css),
            cell(_number(finding["before"], finding["unit"])),
            cell(_number(finding["after"], finding["unit"])),
            cell(finding["measure"], css="words"),
            cell(DASH if value is None else f"{value:.3f}", css=css),
            cell(f"{bound:g}" if bound else "none"),
            cell(finding["says"], css="words wide"),
        ]
    )


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return DASH
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if unit == "count" or value >= 100 else f"{value:.3g}"


def _pictures(histograms: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    return figure(
        "Before and now",
        [titled(name.capitalize(), _histogram(name, bars)) for name, bars in histograms.items()],
        "Shares of the values in bars of one width; the few beyond the last bar are in it.",
        [(key(CONTRAST, bar=True), "version in service"), (key(EMPHASIS, line=True), "this build")],
    )


def _histogram(name: str, bars: Mapping[str, Sequence[float]]) -> str:
    edges, before, after = (np.asarray(bars[side]) for side in ("edges", "before", "after"))

    def paint(axes: Axes) -> None:
        axes.stairs(100 * before, edges, fill=True, color=CONTRAST.color)
        axes.stairs(100 * after, edges, color=EMPHASIS.color, linewidth=1.8)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 105 * max(before.max(), after.max(), 1e-9))
        axes.set_ylabel("share (%)")
        plain_ticks(axes, "x")
        plain_ticks(axes, "y", 4)

    middle = [float((edges[:-1] + edges[1:]) / 2 @ side) for side in (before, after)]
    return panel(f"{name}: mean about {middle[0]:.3g} before, {middle[1]:.3g} now", 350, 220, paint)
