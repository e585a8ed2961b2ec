"""How good the lists are: every model on every slice, and what a few revealed interactions add."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from pipelines.core.report.page import figure, titled
from pipelines.core.report.svg import key, panel, plain_ticks
from pipelines.core.report.theme import INK, LINE, PAGE, Look
from pipelines.core.report.view import Series
from pipelines.core.report.wording import number, revealed, slice_title

__all__ = ["few_shot", "slice_dots"]


def slice_dots(
    series: Sequence[Series], slices: Sequence[tuple[str, int | None]], metrics: tuple[str, str], level: str,
    whose: str = "every model",
) -> str:  # fmt: skip
    """Dots with whiskers: a panel per slice, a row per model, two metrics.

    Args:
        series: the models, first on top.
        slices: (slice, users) in reading order; slices without any figure are left out.
        metrics: drawn filled and hollow.
        level: of the intervals, in words.
        whose: figures they are, for the title.

    """
    shown = [
        (s, n) for s, n in slices if any(m.value(s, metric) is not None for m in series for metric in metrics)
    ]
    first, second = metrics
    return figure(
        f"{first} and {second} of {whose}, slice by slice",
        [
            titled(slice_title(s), _slice_panel(series, s, metrics), f"{n:,} users" if n is not None else "")
            for s, n in shown
        ],
        f"Whiskers are {level} bootstrap intervals over users. Each panel has its own scale, from zero.",
        [
            (key(Look(INK, "o", ""), line=False), f"{first} (share)"),
            (key(Look(INK, "D", ""), line=False, hollow=True), f"{second} (0 to 1)"),
        ],
    )


def _slice_panel(series: Sequence[Series], slice_name: str, metrics: tuple[str, str]) -> str:
    def paint(axes: Axes) -> None:
        for place, model in enumerate(series):
            for metric, marker, shift in zip(metrics, "oD", (-0.17, 0.17), strict=True):
                value, bounds = model.value(slice_name, metric), model.interval(slice_name, metric)
                color, y = model.look.color, place + shift
                if value is None:
                    continue
                if bounds:
                    axes.hlines(y, *bounds, color=color, linewidth=2.4 if model.emphasised else 1.4)
                face = color if marker == "o" else PAGE
                axes.plot(
                    [value], [y], marker, color=color, markerfacecolor=face,
                    markersize=5.5 if marker == "o" else 4.6, clip_on=False, zorder=3,
                )  # fmt: skip
        axes.set_yticks(range(len(series)), [model.name for model in series])
        _emphasise_ticks(axes, series)
        axes.set_ylim(len(series) - 0.4, -0.6)
        axes.set_xlim(left=0, right=max(axes.get_xlim()[1], 1e-3))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{metrics[0]} (share), {metrics[1]} (0 to 1)")
        plain_ticks(axes, "x")

    return panel(_said(series, slice_name, metrics), 370, 74 + 25 * len(series), paint)


def _said(series: Sequence[Series], slice_name: str, metrics: tuple[str, str]) -> str:
    figures = "; ".join(
        f"{m.name} {' and '.join(number(m.value(slice_name, metric)) for metric in metrics)}" for m in series
    )
    return f"Dot plot of {metrics[0]} and {metrics[1]} on {slice_title(slice_name)}: {figures}"


def few_shot(series: Sequence[Series], slices: Sequence[str], metrics: Sequence[str], level: str) -> str:
    """Curves over what is known of a new user: words, a query, then 1, 3, 5, 10 interactions.

    Args:
        series: the models, or two builds of one.
        slices: all there are; those of new users are picked out.
        metrics: a panel each.
        level: of the intervals, in words.

    """
    words = [s for s in ("text_only", "query_only") if s in slices]
    counted = sorted((s for s in slices if revealed(s) is not None), key=lambda s: revealed(s) or 0)
    steps = [
        s for s in (*words, *counted)
        if any(m.value(s, metric) is not None for m in series for metric in metrics)
    ]  # fmt: skip
    panels = [titled(metric, _few_shot_panel(series, steps, metric)) for metric in metrics] if steps else []
    return figure(
        "What a few interactions of a new user add",
        panels,
        f"Users held out whole, what is not revealed is to be found. Bands and whiskers are {level} intervals.",
        [(key(m.look), m.name) for m in series],
        width=430,
    )


def _few_shot_panel(series: Sequence[Series], steps: Sequence[str], metric: str) -> str:
    def paint(axes: Axes) -> None:
        for order, model in enumerate(series):
            shift = 0.0 if model.emphasised else 0.34 * (order / max(len(series) - 1, 1) - 0.5)
            _few_shot_line(axes, model, steps, metric, shift)
        labels = {"text_only": "0\nown words", "query_only": "0\nquery"}
        axes.set_xticks(range(len(steps)), [labels.get(s, str(revealed(s))) for s in steps])
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("interactions revealed (count)")
        axes.set_ylabel(f"{metric} ({'share' if metric.startswith('recall') else '0 to 1'})")
        plain_ticks(axes, "y")

    said = "; ".join(f"{m.name} {_steps_said(m, steps, metric)}" for m in series)
    return panel(f"Few-shot curve of {metric}: {said}", 410, 290, paint)


def _steps_said(model: Series, steps: Sequence[str], metric: str) -> str:
    names = {s: slice_title(s).removeprefix("new users, ") for s in steps}
    return ", ".join(f"{name} {number(model.value(s, metric))}" for s, name in names.items())


def _few_shot_line(axes: Axes, model: Series, steps: Sequence[str], metric: str, shift: float) -> None:
    points = [(i, s, v) for i, s in enumerate(steps) if (v := model.value(s, metric)) is not None]
    line = [(i, v) for i, s, v in points if revealed(s) is not None]
    color, over = model.look.color, 5 if model.emphasised else 2
    width = 2.4 if model.emphasised else 1.3
    for (
        i,
        s,
        _,
    ) in points:  # own words and a query are other knowledge, not less of the same: dots, not a line
        if (bounds := model.interval(s, metric)) and not (model.emphasised and revealed(s) is not None):
            axes.vlines(i + shift, *bounds, color=color, linewidth=width * 0.6, alpha=0.7, zorder=over)
    band = [(i, b) for i, s, _ in points if revealed(s) is not None and (b := model.interval(s, metric))]
    if model.emphasised and band:
        places, bounds_of_band = zip(*band, strict=True)
        lows, highs = zip(*bounds_of_band, strict=True)
        axes.fill_between(places, lows, highs, color=color, alpha=0.18, linewidth=0, zorder=1)
    if line:
        xs, ys = zip(*line, strict=True)
        axes.plot(
            [x + shift for x in xs], ys, color=color, linestyle=model.look.dash, linewidth=width, zorder=over
        )
    axes.plot(
        [i + shift for i, _, _ in points], [v for _, _, v in points], model.look.marker, color=color,
        markeredgecolor=LINE, markeredgewidth=0.4, markersize=6 if model.emphasised else 4.5, zorder=over + 1,
    )  # fmt: skip


def _emphasise_ticks(axes: Axes, series: Sequence[Series]) -> None:
    for label, model in zip(axes.get_yticklabels(), series, strict=True):
        label.set_color(model.look.color if model.emphasised else INK)
        label.set_fontweight("bold" if model.emphasised else "normal")
