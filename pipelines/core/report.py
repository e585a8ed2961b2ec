"""The figures of a build as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import Any

from pipelines.core.measure import SLICES

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667; --line: #d8dce5; --bar: #e0762f; --other: #9aa7bd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f0; --soft: #9aa3b5; --line: #39404f; --bar: #f0924d; --other: #5f6f8c; }
  body { background: #14171d; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } p { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(-n + 2), td:nth-child(-n + 2) { text-align: left; }
.track { display: inline-block; width: 7rem; height: .6rem; vertical-align: middle; }
.fill { display: block; height: 100%; background: var(--other); border-radius: 2px; }
.kindling .fill { background: var(--bar); } .kindling td:first-child { font-weight: 600; }
small { color: var(--soft); font-weight: 400; }
"""

_EXPLAINED = {
    "cold": "items held out whole: never seen in training, known by their text alone; the candidates are all of them",
    "warm": "held-out pairs of items that training knows; the candidates are all of those",
    "all": "both together; every item of the catalogue competes",
}


def render_report(evaluation: dict[str, Any]) -> str:
    """HTML of the evaluation's figures, test slices first."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Kindling: evaluation</title><style>{_STYLE}</style></head><body><h1>Evaluation</h1>",
        "<p>Mean over users who have something to be found, with 95 % bootstrap intervals over users.</p>",
    ]
    for which in ("test", "validation"):
        parts.append(f"<h2>{which.capitalize()}</h2>")
        for slice_name in SLICES:
            parts.append(_slice_table(evaluation, which, slice_name))
    return "".join([*parts, "</body></html>\n"])


def _slice_table(evaluation: dict[str, Any], which: str, slice_name: str) -> str:
    models = evaluation[which]
    n_users = evaluation["users"][which][slice_name]
    columns = list(next(iter(models.values()))[slice_name])
    shown = [c for c in columns if c.endswith(("@10", "@20"))] or columns
    leading = "recall@20" if "recall@20" in shown else shown[0]
    best = max((m[slice_name][leading] or 0.0 for m in models.values()), default=0.0) or 1.0
    head = "".join(f"<th>{escape(c)}</th>" for c in shown)
    rows = []
    for name, figures in models.items():
        bounds = evaluation["intervals"][which][name][slice_name]
        cells = "".join(f"<td>{_cell(figures[slice_name][c], bounds.get(c))}</td>" for c in shown)
        width = 100 * (figures[slice_name][leading] or 0.0) / best
        bar = f"<span class='track'><span class='fill' style='width:{width:.0f}%'></span></span>"
        rows.append(f"<tr class='{escape(name)}'><td>{escape(name)}</td><td>{bar}</td>{cells}</tr>")
    return (
        f"<h3>{slice_name} <small>{n_users} users: {_EXPLAINED[slice_name]}</small></h3>"
        f"<div class='scroll'><table><tr><th>model</th><th>{escape(leading)}</th>{head}</tr>"
        f"{''.join(rows)}</table></div>"
    )


def _cell(value: float | None, bounds: list[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" + (f"<br><small>{bounds[0]:.4f}–{bounds[1]:.4f}</small>" if bounds else "")
