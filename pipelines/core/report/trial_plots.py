"""How a study went: best so far, the objective against each setting, which settings mattered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.axes import Axes

from pipelines.core.report.page import figure, paragraph, plain, titled
from pipelines.core.report.study import Kind, Study, Trial
from pipelines.core.report.svg import key, panel, plain_ticks, wide_axis
from pipelines.core.report.theme import EMPHASIS, INK, MARK, PAGE, SOFT, Look
from pipelines.core.report.wording import finite, number

__all__ = ["against_settings", "best_so_far", "importance"]

_LOOKS: dict[Kind, Look] = {
    "tried": Look(MARK, "o", ""),
    "stopped early": Look(SOFT, "v", ""),
    "defaults": Look(INK, "D", ""),
    "best": Look(EMPHASIS.color, "*", ""),
}
_HOLLOW = ("stopped early", "defaults")


def _legend(study: Study) -> list[tuple[str, str]]:
    kinds = {t.kind for t in study.trials if t.objective is not None}
    return [(key(s, line=False, hollow=n in _HOLLOW), n) for n, s in _LOOKS.items() if n in kinds]


def _points(axes: Axes, placed: Sequence[tuple[float, Trial]]) -> None:
    for order, (kind, style) in enumerate(_LOOKS.items()):
        chosen = [(x, t.objective) for x, t in placed if t.kind == kind and t.objective is not None]
        if chosen:
            axes.plot(
                [x for x, _ in chosen], [y for _, y in chosen], style.marker, color=style.color, zorder=3 + order,
                markersize=11 if kind == "best" else 5, markerfacecolor=PAGE if kind in _HOLLOW else style.color,
            )  # fmt: skip


def best_so_far(study: Study) -> str:
    """The running maximum over completed trials, with every trial as a point."""
    done = [
        (t.number, t.objective) for t in study.trials if t.state == "COMPLETE" and t.objective is not None
    ]
    best = list(accumulate((y for _, y in done), max))

    def paint(axes: Axes) -> None:
        axes.step([x for x, _ in done], best, where="post", color=EMPHASIS.color, linewidth=2)
        _points(axes, [(float(t.number), t) for t in study.trials])
        axes.set_xlabel("trial (number)")
        axes.set_ylabel("objective (no unit)")
        plain_ticks(axes, "x", 8)
        plain_ticks(axes, "y")

    panels = []
    if done:
        said = f"over {len(study.trials)} trials, from {number(best[0])} to {number(best[-1])}"
        panels = [panel(f"Best objective so far {said}", 430, 270, paint)]
    line = (key(Look(EMPHASIS.color, "None", "-")), "best so far")
    return figure(
        "Best objective so far, trial after trial",
        panels,
        "The line is the best completed trial up to there; each point is a trial.",
        [line, *_legend(study)],
        width=430,
    )


def against_settings(study: Study) -> str:
    """A panel per setting; a logarithmic axis where a setting spans decades, names where it is no number."""
    known = [t for t in study.trials if t.objective is not None]
    panels = [
        titled(name, _setting_panel([t for t in known if name in t.settings], name))
        for name in study.settings
        if any(name in t.settings for t in known)
    ]
    return figure(
        "The objective against each setting",
        panels,
        "One point per trial; other settings vary along. A setting that spans decades has a logarithmic axis.",
        _legend(study),
    )


def _setting_panel(trials: Sequence[Trial], name: str) -> str:
    values = [finite(t.settings[name]) for t in trials]
    words = sorted({plain(t.settings[name]) for t in trials}) if None in values else []
    places = (
        [float(words.index(plain(t.settings[name]))) for t in trials] if words else [v or 0.0 for v in values]
    )

    def paint(axes: Axes) -> None:
        _points(axes, list(zip(places, trials, strict=True)))
        unit = ""
        if words:
            axes.set_xticks(range(len(words)), words)
            axes.set_xlim(-0.5, len(words) - 0.5)
        elif wide_axis(axes, "x", places):
            unit = " (logarithmic)"
        axes.set_xlabel(name + unit)
        axes.set_ylabel("objective (no unit)")
        plain_ticks(axes, "y")

    return panel(f"Objective against {name}, {len(trials)} trials", 370, 250, paint)


def importance(study: Study) -> str:
    """Bars, the most important setting on top."""
    ordered = sorted(study.importance.items(), key=lambda p: (-p[1], p[0]))
    if not ordered:
        return paragraph("The importance of settings was not computed.", "soft")

    def paint(axes: Axes) -> None:
        axes.barh(range(len(ordered)), [share for _, share in ordered], color=MARK, height=0.65)
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("importance (share)")
        plain_ticks(axes, "x")

    said = ", ".join(f"{name} {share:.2f}" for name, share in ordered)
    drawn = panel(f"Importance of settings: {said}", 430, 66 + 25 * len(ordered), paint)
    return figure("How much each setting moves the objective", [drawn], width=430)
