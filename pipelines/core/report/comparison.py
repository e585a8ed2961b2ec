"""The page that sets two builds side by side: b minus a."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from pipelines.core.report.accuracy_plots import few_shot, slice_dots
from pipelines.core.report.calibration_plot import calibration
from pipelines.core.report.evaluation import definitions, plot_of
from pipelines.core.report.exposure_plot import exposure
from pipelines.core.report.page import cell, columns, facts, folded, head, page, paragraph, plain, row, table
from pipelines.core.report.paired import counted, difference_dots, paired_slices, paired_table
from pipelines.core.report.theme import CONTRAST, EMPHASIS, EMPHASISED
from pipelines.core.report.view import EvaluationView
from pipelines.core.report.wording import ordered_slices, slice_title

__all__ = ["render_comparison"]


def render_comparison(comparison: dict[str, Any]) -> str:
    """HTML of two builds side by side.

    Args:
        comparison: `builds` (two: name, version, split), `config_differences` (setting -> [a, b]), `paired` with
            `why_unpaired`, `users`, per held-out set slice -> metric -> a, b, difference (b - a), interval; `models`,
            the two evaluations, from which the plots are drawn.

    """
    names = _names(comparison)
    view = EvaluationView(comparison)
    pair = [EvaluationView(e) for e in comparison.get("models") or []]
    which = view.held_out[0] if view.held_out else "test"
    k = view.k if comparison.get("k") or not pair else pair[0].k
    metrics = (f"recall@{k}", f"ndcg@{k}")
    slices = paired_slices(view, which)
    body = [
        f"<h1>Two builds: {escape(names[0])} and {escape(names[1])}</h1>",
        _builds(comparison, names),
        _unpaired(comparison),
        f"<h2>Verdict on {which}</h2>",
        paired_table(view, which, names, slices, metrics),
        paragraph(
            f"A difference is {names[1]} minus {names[0]}, clear when its interval leaves out zero.", "soft"
        ),
        "<h2>Settings that differ</h2>",
        _settings(comparison.get("config_differences") or {}, names),
        "<h2>Plots</h2>",
        difference_dots(view, which, names, slices, metrics),
        *_side_by_side(pair, names, which, metrics),
        "<h2>All figures</h2>",
        *(_details(view, w, names) for w in view.held_out),
        "<h2>What the words mean</h2>" + definitions(pair[0]) if pair else "",
    ]
    return page(f"Kindling: {names[0]} and {names[1]}", body)


def _names(comparison: dict[str, Any]) -> tuple[str, str]:
    builds = comparison.get("builds") or []
    found = [str(b.get("name") or letter) for b, letter in zip([*builds, {}, {}], "ab", strict=False)]
    if found[0] == found[1]:
        return f"{found[0]} (a)", f"{found[1]} (b)"
    return found[0], found[1]


def _builds(comparison: dict[str, Any], names: tuple[str, str]) -> str:
    first, more = [], []
    for letter, name, build in zip("ab", names, comparison.get("builds") or [], strict=False):
        split = build.get("split") or {}
        about = {n: v for n, v in build.items() if n != "name" and not isinstance(v, dict)}
        simple = {f"split {n}": v for n, v in split.items() if not isinstance(v, dict)}
        first.append((f"{letter}, {name}", plain(about | simple)))
        more += [(f"{letter}, {n}", plain(v)) for n, v in split.items() if isinstance(v, dict)]
    return facts(first) + (folded("Counts of the splits", facts(more)) if more else "")


def _unpaired(comparison: dict[str, Any]) -> str:
    if comparison.get("paired", True):
        return ""
    why = comparison.get("why_unpaired") or "the builds measured different users"
    return paragraph(
        f"Not paired: {why}. Differences below may come from the users as well as from the builds.", "notice"
    )


def _settings(differences: dict[str, Any], names: tuple[str, str]) -> str:
    rows = [
        row([head(name), *(cell(plain(v), css="words wide") for v in [*values, None, None][:2])])
        for name, values in differences.items()
    ]
    if not rows:
        return paragraph("None: both were built with the same settings.", "soft")
    return table(columns("setting", *names, words=names), rows, "Settings that differ")


def _side_by_side(
    pair: Sequence[EvaluationView], names: tuple[str, str], which: str, metrics: tuple[str, str]
) -> list[str]:
    if len(pair) != 2:
        return [
            paragraph("The evaluations themselves are not at hand, so nothing is drawn from them.", "soft")
        ]
    both = [
        view.one(which, EMPHASISED, name, style, style is EMPHASIS)
        for view, name, style in zip(pair, names, (CONTRAST, EMPHASIS), strict=True)
    ]
    slices = ordered_slices([s for view in pair for s in view.measured(which)])
    parts = [
        slice_dots(
            both, [(s, pair[1].users(which, s)) for s in slices], metrics, pair[0].level, "both builds"
        ),
        few_shot(both, slices, metrics, pair[0].level),
        calibration([(n, plot_of(v, "calibration")) for n, v in zip(names, pair, strict=True)]),
    ]
    drawn = [
        (model, places, shares.get("relevant") or [], shares["labels"])
        for model, view in zip(both, pair, strict=True)
        if (shares := plot_of(view, "exposure")) and (places := shares["models"].get(EMPHASISED))
    ]
    if drawn:
        parts.append(exposure(drawn[0][3], [bars[:3] for bars in drawn]))
    return parts


def _details(view: EvaluationView, which: str, names: tuple[str, str]) -> str:
    folds = [
        folded(slice_title(s), paired_table(view, which, names, [s]), counted(view, which, s))
        for s in paired_slices(view, which)
    ]
    return f"<h3>{which.capitalize()}</h3>{''.join(folds)}"
