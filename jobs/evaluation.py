"""What is printed of an evaluation and of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.compare import Compared
from pipelines.core.report.wording import DASH, between, number, signed
from pipelines.core.slices import SLICES

_SETTINGS_SHOWN = 12
_ROOMY = 6
"""Models up to which four digits fit."""


def console() -> Console:
    """Numbers and paths as they are, uncoloured and unbroken."""
    return Console(markup=False, highlight=False)


def print_evaluation(evaluation: Mapping[str, Any]) -> None:
    """A row per test slice, a column per model, the best of a row in bold; what is not in the table, below it."""
    out = console()
    metric, users = f"recall@{evaluation['k']}", evaluation["users"]["test"]
    out.print(figures_table(evaluation, metric))
    empty = [s for s in SLICES if not users[s]]
    if empty:
        out.print(f"no users to measure: {', '.join(empty)}", soft_wrap=True)
    for name, why in evaluation["absent"].items():
        out.print(f"baseline left out: {name}, {why}", soft_wrap=True)


def figures_table(evaluation: Mapping[str, Any], metric: str) -> Table:
    """One metric of every model on the test slices that have users."""
    table = _table(f"{metric} on the test slices")
    for name in evaluation["models"]:
        table.add_column(name, justify="right", overflow="fold")
    for s in SLICES:
        users, row = (
            evaluation["users"]["test"][s],
            [evaluation["test"][m][s][metric] for m in evaluation["models"]],
        )
        known = [v for v in row if v is not None]
        if users and known:
            cells = [Text(_shown(v, len(row)), "bold" if v == max(known) else "") for v in row]
            table.add_row(s, str(users), *cells)
    return table


def _shown(value: float | None, n_models: int) -> str:
    """A cell; with many models a digit less, so that eighty characters are enough."""
    return DASH if value is None else f"{value:.{4 if n_models <= _ROOMY else 3}f}"


def print_report(report: Path) -> None:
    """Where the page is."""
    console().print(f"report: {report}", soft_wrap=True)


def print_comparison(compared: Compared) -> None:
    """A table per metric on the test slices, then what makes the builds different."""
    found, out = compared.comparison, console()
    (a, b), k = (build["name"] for build in found["builds"]), found["k"]
    slices = [s for s in SLICES if s in found["test"]]
    for metric in (f"recall@{k}", f"ndcg@{k}") if slices else ():
        out.print(_differences(found, metric, slices, a, b))
    if slices:
        out.print(
            f"difference: {b} less {a}, with its 95 % interval; ahead or behind where that leaves out zero, else "
            "unclear",
            soft_wrap=True,
        )
    if not found["paired"]:
        out.print(f"not paired: {found['why_unpaired']}.", style="yellow", soft_wrap=True)
    for name, (of_a, of_b) in found["candidates_differ"].items():
        out.print(f"candidates of {name}: {of_a} and {of_b}", style="yellow", soft_wrap=True)
    _print_settings(out, found["config_differences"], a, b)
    out.print(f"written: {compared.file}", soft_wrap=True)
    print_report(compared.report)


def _differences(found: Mapping[str, Any], metric: str, slices: Sequence[str], a: str, b: str) -> Table:
    table = _table(f"{metric} on the test slices")
    for name in (a, b, "difference", "interval"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("")
    for s in slices:
        figure = found["test"][s][metric]
        table.add_row(
            s, str(found["users"]["test"][s]), number(figure["a"], metric), number(figure["b"], metric),
            signed(figure["difference"], metric), between(figure["interval"], metric, sign=True) or DASH,
            _word(figure["interval"]),
        )  # fmt: skip
    return table


def _word(interval: Sequence[float] | None) -> Text:
    if interval is None:
        return Text("no interval")
    if interval[0] > 0:
        return Text("ahead", "green")
    return Text("behind", "red") if interval[1] < 0 else Text("unclear")


def _print_settings(out: Console, differences: Mapping[str, Sequence[Any]], a: str, b: str) -> None:
    if not differences:
        out.print("both were built with the same settings")
        return
    out.print(f"settings that differ, {a} → {b}:", soft_wrap=True)
    for name, values in list(differences.items())[:_SETTINGS_SHOWN]:
        first, second = ("not set" if v is None else v for v in values)
        out.print(f"  {name}: {first} → {second}", soft_wrap=True)
    if len(differences) > _SETTINGS_SHOWN:
        out.print(f"  and {len(differences) - _SETTINGS_SHOWN} more, all in the report")


def _table(title: str) -> Table:
    """Slices and their users; lean enough for a model per column in eighty characters."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("slice", no_wrap=True)
    table.add_column("users", justify="right", no_wrap=True)
    return table
