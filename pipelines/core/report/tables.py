"""The evaluation in tables: the verdict, what lies beyond accuracy, and everything."""

from __future__ import annotations

from html import escape

from pipelines.core.report.page import cell, columns, head, paragraph, row, table
from pipelines.core.report.theme import EMPHASISED
from pipelines.core.report.view import EvaluationView
from pipelines.core.report.wording import DASH, between, direction, number, signed, slice_title, tone, verdict

__all__ = ["beyond_accuracy", "full_table", "headline", "verdict_table"]

_BEYOND = ("coverage", "gini", "novelty", "diversity", "cold_share", "popularity_bias")


def _leading(view: EvaluationView) -> tuple[str, str]:
    return f"recall@{view.k}", f"ndcg@{view.k}"


def headline(view: EvaluationView, which: str) -> str:
    """On which slices the emphasised model is clear of the best baseline, a line for each verdict; HTML."""
    metric = _leading(view)[0]
    lines: dict[str, list[str]] = {}
    for s in view.measured(which):
        if (found := view.difference(which, s, metric)) is not None:
            seen = verdict(found.interval)
            start = f"<b class='{seen.css}'>{seen.sign} {seen.words}</b>"
            lines.setdefault(start, []).append(slice_title(s))
    if not lines:
        return ""
    items = "".join(
        f"<li>{start}: {escape(' · '.join(names))}</li>" for start, names in sorted(lines.items())
    )
    return (
        paragraph(f"{EMPHASISED} beside the best baseline, {metric}:", "lead")
        + f"<ul class='lines'>{items}</ul>"
    )


def verdict_table(view: EvaluationView, which: str) -> str:
    """Per slice: the figure with its interval, the best baseline, the paired difference, and what to make of it."""
    slices = view.measured(which)
    if not slices:
        return paragraph("Nobody could be measured: no user has anything held out.", "soft")
    rows = []
    for s in slices:
        users = view.users(which, s)
        for place, metric in enumerate(_leading(view)):
            first = (
                [head(slice_title(s), f"{users:,} users" if users is not None else "", rows=2)]
                if not place
                else []
            )
            rows.append(row([*first, *_verdict_cells(view, which, s, metric)], "next" if not place else ""))
    names = ("slice", "metric", "verdict", EMPHASISED, "best baseline", "difference")
    return table(columns(*names, words=("metric", "verdict")), rows, f"Verdict on {which}", "verdict")


def _verdict_cells(view: EvaluationView, which: str, s: str, metric: str) -> list[str]:
    own = view.value(which, EMPHASISED, s, metric)
    bounds = view.interval(which, EMPHASISED, s, metric)
    cells = [cell(number(own), between(bounds), "own")]
    found = view.difference(which, s, metric)
    if found is None:
        return [
            cell(metric, css="words"),
            cell("– not compared", css="words unknown"),
            *cells,
            cell("–"),
            cell("–"),
        ]
    seen = verdict(found.interval)
    return [
        cell(metric, css="words"),
        cell(f"{seen.sign} {seen.words}", css=f"words {seen.css}"),
        *cells,
        cell(number(view.value(which, found.baseline, s, metric)), found.baseline),
        cell(signed(found.value), between(found.interval, sign=True), seen.css),
    ]


def beyond_accuracy(view: EvaluationView, which: str, slice_name: str) -> str:
    """A row per model: how much of the catalogue is shown, how evenly, how new and how varied."""
    metrics = [f"{m}@{view.k}" for m in _BEYOND]
    shown = [m for m in metrics if any(view.value(which, n, slice_name, m) is not None for n in view.models)]
    if not shown:
        return paragraph("Nothing was measured beyond accuracy.", "soft")
    best = {m: _best(view, which, slice_name, m) for m in shown}
    rows = []
    for model in view.models:
        cells = [_value(view, which, model, slice_name, m, best[m]) for m in shown]
        rows.append(row([head(model), *cells], "own" if model == EMPHASISED else ""))
    units = {"novelty": " (bits)", "popularity_bias": " (−1 to 1)"}
    names = [m + units.get(m.split("@")[0], "") for m in shown]
    return table(columns("model", *names), rows, f"Beyond accuracy, {slice_title(slice_name)}")


def full_table(view: EvaluationView, which: str, slice_name: str) -> str:
    """A row per metric, a column per model; the best figure of a row underlined."""
    rows = []
    for metric in view.metrics(which, slice_name):
        best = _best(view, which, slice_name, metric)
        cells = [_value(view, which, model, slice_name, metric, best) for model in view.models]
        found = view.difference(which, slice_name, metric)
        apart = cell(DASH)
        if found is not None:
            seen = verdict(found.interval)
            apart = cell(
                f"{seen.sign} {signed(found.value, metric)}"
                if found.interval
                else signed(found.value, metric),
                f"{found.baseline} {between(found.interval, metric, sign=True)}",
                tone(seen, metric),
            )
        rows.append(row([head(metric), apart, *cells]))
    names = [head(m, css="own" if m == EMPHASISED else "", scope="col") for m in view.models]
    heads = [*columns("metric"), head("difference", "from the best baseline", scope="col"), *names]
    return table(heads, rows, f"All metrics, {which}, {slice_title(slice_name)}")


def _value(
    view: EvaluationView, which: str, model: str, slice_name: str, metric: str, best: float | None
) -> str:
    value = view.value(which, model, slice_name, metric)
    bounds = view.interval(which, model, slice_name, metric)
    css = "own" if model == EMPHASISED else ""
    return cell(number(value, metric), between(bounds, metric), css, mark=value is not None and value == best)


def _best(view: EvaluationView, which: str, slice_name: str, metric: str) -> float | None:
    """The best figure of all models; None where there is none, or where neither more nor less is better."""
    better = direction(metric)
    values = [v for m in view.models if (v := view.value(which, m, slice_name, metric)) is not None]
    if len(values) < 2 or not better:
        return None
    return max(values, key=lambda v: better * v)
