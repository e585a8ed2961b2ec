"""A run as a picture: a bar for every stage from its start to its end, with the memory it took."""

from __future__ import annotations

from matplotlib.axes import Axes

from pipelines.core.report.svg import panel, plain_ticks
from pipelines.core.report.theme import LIGHT, MARK, SOFT
from pipelines.core.runs import RunRecord

_WIDTH, _ROW, _EDGES = 760, 26, 70


def timeline(record: RunRecord) -> str:
    """An SVG file of its own: seconds since the run began; reused stages are named without a bar."""

    def paint(axes: Axes) -> None:
        longest = max([_end(record, number) for number in range(len(record.stages))], default=1.0)
        for row, stage in enumerate(record.stages):
            if stage.started is None:
                axes.text(0, row, "\u00a0unchanged", va="center", color=SOFT)
                continue
            start = stage.started - record.started
            axes.barh(row, stage.seconds, left=start, color=MARK, height=0.6)
            memory = "" if stage.peak_mb is None else f", {stage.peak_mb:,.0f} MB"
            axes.text(start + stage.seconds, row, f"\u00a0{stage.seconds:,.1f} s{memory}", va="center")
        axes.set_yticks(range(len(record.stages)), [stage.stage for stage in record.stages])
        axes.set_ylim(max(len(record.stages), 1) - 0.5, -0.5)
        axes.set_xlim(0, longest * 1.3 or 1.0)
        axes.set_xlabel("time since the run began (s)")
        axes.grid(visible=False, axis="y")
        plain_ticks(axes, "x", 8)

    label = f"Stages of run {record.run_id}, {record.status}, over time"
    svg = panel(label, _WIDTH, _EDGES + _ROW * max(len(record.stages), 1), paint)
    for name, color in LIGHT.items():  # no page around it that would say what its colours are
        svg = svg.replace(f"var(--{name})", color)
    alone = f'xmlns="http://www.w3.org/2000/svg" style="background:{LIGHT["page"]};font-family:sans-serif"'
    return svg.replace("<svg ", f"<svg {alone} ", 1)


def _end(record: RunRecord, number: int) -> float:
    stage = record.stages[number]
    return 0.0 if stage.started is None else stage.started - record.started + stage.seconds
