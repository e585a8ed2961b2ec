"""The page of one build's evaluation."""

from __future__ import annotations

from typing import Any

from pipelines.core.report.accuracy_plots import few_shot, slice_dots
from pipelines.core.report.calibration_plot import calibration
from pipelines.core.report.exposure_plot import exposure
from pipelines.core.report.map_plot import embedding_map
from pipelines.core.report.page import facts, folded, glossary, page, paragraph, plain
from pipelines.core.report.tables import beyond_accuracy, full_table, headline, verdict_table
from pipelines.core.report.theme import EMPHASISED
from pipelines.core.report.view import EvaluationView
from pipelines.core.report.wording import METRICS, slice_meaning, slice_title

__all__ = ["definitions", "plot_of", "render_report"]


def render_report(evaluation: dict[str, Any]) -> str:
    """HTML of an evaluation: verdict first, then plots, then every figure.

    Args:
        evaluation: as `kindling evaluate` writes it (docs/metrics.md); models, slices, metrics, intervals and plots
            may be missing or null and are then left out or shown as `–`. A `build` dict of plain values, if there is
            one, heads the page.

    """
    view = EvaluationView(evaluation)
    which = view.held_out[0] if view.held_out else "test"
    body = [
        "<h1>What this build reaches</h1>",
        headline(view, which),
        _facts(view),
        f"<h2 id='verdict'>Verdict on {which}</h2>",
        verdict_table(view, which),
        paragraph(
            f"Means over users who have something to be found; brackets are {view.level} bootstrap intervals over "
            f"users. A difference is {EMPHASISED} minus the baseline that is best on that metric, over the same "
            "users; it is clear when its interval leaves out zero.",
            "soft",
        ),
        _absent(view),
        "<h2>Plots</h2>",
        *_plots(view, which),
        "<h2>All figures</h2>",
        *(_details(view, w) for w in view.held_out),
        "<h2>What the words mean</h2>",
        definitions(view),
    ]
    return page("Kindling: evaluation", body)


def _facts(view: EvaluationView) -> str:
    split, bootstrap = view.get("split") or {}, view.get("bootstrap") or {}
    simple = {n: v for n, v in split.items() if not isinstance(v, dict) and n != "kind"}
    nested = {n: v for n, v in split.items() if isinstance(v, dict)}
    resamples = bootstrap.get("resamples")
    first = [
        *((str(n), plain(v)) for n, v in (view.get("build") or {}).items()),
        ("split", str(split.get("kind", ""))),
        *((n.replace("_", " "), plain(v)) for n, v in simple.items()),
        (
            "bootstrap",
            f"{resamples:,} resamples, seed {bootstrap.get('seed', 0)}, {view.level}" if resamples else "",
        ),
        ("models", ", ".join(view.models)),
    ]
    more = [(n.replace("_", " "), plain(v)) for n, v in nested.items()]
    for what in ("users", "candidates"):
        counts = view.get(what) or {}
        more += [
            (f"{what}, {which}", _counts(counts[which]))
            for which in ("test", "validation")
            if counts.get(which)
        ]
    return facts(first) + (folded("Counts of the split, users and candidates", facts(more)) if more else "")


def _counts(by_slice: dict[str, Any]) -> str:
    return " · ".join(f"{slice_title(s)} {plain(n)}" for s, n in by_slice.items())


def _absent(view: EvaluationView) -> str:
    missing = view.get("absent") or {}
    if not missing:
        return ""
    listed = "; ".join(f"{name} ({reason})" for name, reason in missing.items())
    return paragraph(f"Baselines that did not take part: {listed}.", "soft")


def _plots(view: EvaluationView, which: str) -> list[str]:
    slices, series, metrics = view.measured(which), view.series(which), (f"recall@{view.k}", f"ndcg@{view.k}")
    parts = [slice_dots(series, [(s, view.users(which, s)) for s in slices], metrics, view.level)]
    parts.append(few_shot(series, slices, metrics, view.level))
    bins, shares, points = plot_of(view, "calibration"), plot_of(view, "exposure"), plot_of(view, "map")
    missing = "was not computed for this build."
    parts.append(calibration([("", bins)]) if bins else paragraph(f"Calibration {missing}", "soft"))
    if shares:
        likes = shares.get("relevant") or []
        drawn = [(m, places, likes) for m in series if (places := shares["models"].get(m.name))]
        parts.append(exposure(shares["labels"], drawn))
    else:
        parts.append(paragraph(f"Exposure by popularity {missing}", "soft"))
    if slices:
        chosen = "all" if "all" in slices else slices[0]
        parts.append(f"<h3>Beyond accuracy, on {slice_title(chosen)} of {which}</h3>")
        parts.append(beyond_accuracy(view, which, chosen))
    parts.append(embedding_map(points) if points else paragraph(f"The map of embeddings {missing}", "soft"))
    return parts


def plot_of(view: EvaluationView, name: str) -> dict[str, Any] | None:
    """The data of a plot, or None where it was not computed."""
    found = view.get("plots", name)
    return found if isinstance(found, dict) and found else None


def _details(view: EvaluationView, which: str) -> str:
    parts = [f"<h3>{which.capitalize()}</h3>"]
    if which == "validation":
        parts.append(paragraph("Settings are chosen by these; they flatter.", "soft"))
    measured = view.measured(which)
    if measured and which != view.held_out[0]:  # the first one's heads the page
        parts.append(folded("Verdict", verdict_table(view, which)))
    for s in measured:
        users = view.users(which, s)
        small = f"{users:,} users" if users is not None else ""
        parts.append(folded(slice_title(s), full_table(view, which, s), small))
    nobody = [slice_title(s) for s in view.slices(which) if s not in measured]
    if nobody:
        parts.append(paragraph(f"Nobody to measure: {', '.join(nobody)}.", "soft"))
    return "".join(parts)


def definitions(view: EvaluationView) -> str:
    """The glossary of the slices and metrics that occur."""
    slices = list(dict.fromkeys(s for w in view.held_out for s in view.slices(w)))
    occurring = {m.split("@")[0] for w in view.held_out for s in view.slices(w) for m in view.metrics(w, s)}
    metrics = [(f"{m}@k", meaning) for m, meaning in METRICS.items() if m in occurring]
    return (
        f"<h3>Slices</h3>{glossary((slice_title(s), slice_meaning(s)) for s in slices)}"
        f"<h3>Metrics</h3>{glossary(metrics)}"
    )
