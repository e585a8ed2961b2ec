"""What a fine-tuning tells the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.core.layout import Layout


def print_finetuning(report: dict[str, Any], layout: Layout) -> None:
    """Figures of validation before and after, and where the encoder lies."""
    table = Table(
        "validation", "before", "after", title=f"{report['objective']}: best after step {report['best_step']}"
    )
    for name, before in report["before"].items():
        marked = f"{name} *" if name == report["metric"] else name
        table.add_row(marked, _figure(before), _figure(report["after"].get(name)))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    ended = report["stopped"] or "its last step"
    console.print(
        f"{report['steps']} steps at {report['examples_per_second']:.0f} examples/s, ended by {ended}. * decides.",
        markup=False,
    )
    console.print(f"encoder: {layout.tuned_encoder}", markup=False)


def _figure(value: float | None) -> str:
    """None: a figure that is not a number, or could not be measured."""
    return "-" if value is None else f"{value:.4f}"
