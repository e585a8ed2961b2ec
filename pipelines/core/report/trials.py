"""The page of a tuning study: what was tried, what it reached, what mattered."""

from __future__ import annotations

from typing import Any

from pipelines.core.report.page import cell, columns, facts, head, page, paragraph, plain, row, table
from pipelines.core.report.study import Study, Trial
from pipelines.core.report.trial_plots import against_settings, best_so_far, importance
from pipelines.core.report.wording import DASH, finite, number, signed, slice_title

__all__ = ["render_trials"]


def render_trials(study: dict[str, Any]) -> str:
    """HTML of a study in which a higher objective is better.

    Args:
        study: `objective` in words; `trials`, each with number, state (COMPLETE, PRUNED, ERROR), objective or None,
            settings, slices (slice -> metric -> value), seconds, iterations; the numbers of the `best` trial and of
            the `defaults`; `importance` (setting -> share) or None.

    """
    read = Study.read(study)
    best, defaults = read.of(study.get("best")), read.of(study.get("defaults"))
    body = [
        "<h1>What tuning found</h1>",
        _facts(read, best, defaults),
        "<h2>Best settings</h2>",
        _best_settings(read, best, defaults),
        "<h2>Plots</h2>",
        best_so_far(read),
        against_settings(read),
        importance(read),
        "<h2>Trials, best first</h2>",
        _table(read),
    ]
    return page("Kindling: tuning", body)


def _facts(study: Study, best: Trial | None, defaults: Trial | None) -> str:
    states = [t.state for t in study.trials]
    counts = " · ".join(f"{s.lower()} {states.count(s)}" for s in dict.fromkeys(sorted(states)))
    reached = best.objective if best else None
    before = defaults.objective if defaults else None
    gain = reached - before if reached is not None and before is not None else None
    seconds = sum(t.seconds or 0.0 for t in study.trials)
    return facts(
        [
            ("objective, higher is better", study.objective),
            ("trials", f"{len(states)} ({counts})" if states else "none"),
            ("best", f"{number(reached)} in trial {best.number}" if best else "none"),
            ("defaults", number(before)),
            ("gain over defaults", signed(gain)),
            ("time in trials", f"{seconds:,.0f} s" if seconds else ""),
        ]
    )


def _best_settings(study: Study, best: Trial | None, defaults: Trial | None) -> str:
    if best is None:
        return paragraph("No trial was completed.", "soft")
    before = defaults.settings if defaults else {}
    rows = [
        row([head(n), cell(_setting(best.settings.get(n)), css="own"), cell(_setting(before.get(n)))])
        for n in study.settings
    ]
    return table(columns("setting", "best", "defaults"), rows, "Best settings")


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def _table(study: Study) -> str:
    if not study.trials:
        return paragraph("No trial was run.", "soft")
    figures = list(dict.fromkeys((s, m) for t in study.trials for s, by in t.slices.items() for m in by))
    rows = []
    for t in sorted(study.trials, key=lambda t: t.merit):
        cells = [
            head(str(t.number), t.kind if t.kind in ("best", "defaults") else ""),
            cell(number(t.objective)),
            cell(t.state.lower(), css="words"),
            *(cell(number(finite(t.slices.get(s, {}).get(m)), m)) for s, m in figures),
            *(cell(_setting(t.settings.get(s))) for s in study.settings),
            cell(_setting(t.iterations)),
            cell(DASH if t.seconds is None else f"{t.seconds:.1f}"),
        ]
        rows.append(row(cells, "own" if t.kind == "best" else ""))
    heads = [*columns("trial", "objective", "state", words=("state",))]
    heads += [head(m, slice_title(s), scope="col") for s, m in figures]
    heads += columns(*study.settings, "iterations", "seconds")
    return table(heads, rows, "Trials, best first")
