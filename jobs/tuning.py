"""What `kindling tune` is asked for, and what it prints when it is done."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table

from pipelines.core.errors import ConfigError
from pipelines.core.study import DEFAULTS, Trial
from pipelines.tune import Tuned

_SHOWN = 10


def stage_of(stage: str, model: str | None) -> Literal["model", "finetune"]:
    """Whose settings are searched.

    Raises:
        ConfigError: no such stage, or a model where none is fitted.

    """
    if stage == "finetune":
        if model is not None:
            raise ConfigError(
                f"--stage finetune with --model {model}: the encoder is taught before any model is fitted. Leave one "
                "of them out."
            )
        return "finetune"
    if stage != "model":
        raise ConfigError(f"--stage {stage}; expected model or finetune.")
    return "model"


def print_tuning(tuned: Tuned) -> None:
    """The best trials beside the settings as they were, and where the rest is."""
    console = Console(markup=False, highlight=False)
    present = next(t for t in tuned.trials if t.number == DEFAULTS)
    ranked = sorted(
        (t for t in tuned.trials if t.state == "COMPLETE" and t is not present),
        key=lambda t: (-(t.objective or 0.0), t.number),
    )
    console.print(_table([*ranked[:_SHOWN], present], present, tuned.best))
    if tuned.best is not present:
        console.print(_changes(tuned.best, present))
    states = [t.state for t in tuned.trials]
    console.print(
        f"{len(states)} trials, {tuned.new} of them now: {states.count('COMPLETE')} complete, "
        f"{states.count('PRUNED')} stopped early, {states.count('ERROR')} failed",
        soft_wrap=True,
    )
    if tuned.passed_over:
        console.print(f"no users to measure, passed over: {', '.join(tuned.passed_over)}", soft_wrap=True)
    if tuned.missing:
        console.print(f"time is up with {tuned.missing} trials to go; run it again to go on", soft_wrap=True)
    if tuned.best is present:
        console.print(
            "nothing better than the settings as they are was found", style="yellow", soft_wrap=True
        )
    for path in tuned.files:
        console.print(f"written: {path}", soft_wrap=True)


def _table(trials: list[Trial], present: Trial, best: Trial) -> Table:
    table = Table(title="best trials on validation")
    table.add_column("trial", justify="right")
    table.add_column("objective", justify="right")
    shown = next((t.figures for t in trials if t.figures), {})
    columns = [(name, metric) for name, values in shown.items() for metric in list(values)[:1]]
    for name, metric in columns:
        table.add_column(f"{name} {metric}", justify="right")
    table.add_column("seconds", justify="right")
    for t in trials:
        cells = [_number(t.figures.get(name, {}).get(metric)) for name, metric in columns]
        label = "as it is" if t is present else str(t.number)
        style = "bold" if t is best else None
        table.add_row(label, _number(t.objective), *cells, f"{t.seconds:.1f}", style=style)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _changes(best: Trial, present: Trial) -> Table:
    table = Table(title=f"settings of trial {best.number}")
    for column, justify in (("setting", "left"), ("as it is", "right"), ("best", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, value in best.settings.items():
        before = present.settings.get(name)
        if value != before:
            table.add_row(name, "–" if before is None else str(before), str(value))
    return table
