"""What the commands print when they are done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.evaluation import print_evaluation, print_report
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from pipelines.flow import Outcome
from serving.recommender import Recommender
from serving.requests import Recommended

_SHOWN_PARTS = 4


def print_build(outcomes: Sequence[Outcome], out: Path) -> None:
    """A line per stage, the figures of every model where they were measured, and what was published."""
    console = Console(markup=False)
    stages = Table(title="stages")
    for column, justify in (("stage", "left"), ("seconds", "right"), ("result", "left")):
        stages.add_column(column, justify=justify)  # type: ignore[arg-type]
    for outcome in outcomes:
        seconds = "unchanged" if outcome.reused else f"{outcome.seconds:.1f}"
        stages.add_row(
            outcome.stage, seconds, ", ".join(f"{k} {_short(v)}" for k, v in outcome.summary.items())
        )
    console.print(stages)
    layout = Layout(out)
    if any(outcome.stage == "evaluate" for outcome in outcomes):
        print_evaluation(read_json(layout.evaluation))
    if outcomes[-1].stage == "publish":
        version = outcomes[-1].summary["version"]
        console.print(
            f"published {version} in {out}; figures in {layout.metrics}", highlight=False, soft_wrap=True
        )
        print_report(layout.evaluation_report)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} {_short(v)}" for k, v in value.items()) + "}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def print_list(model: Recommender, answer: Sequence[Recommended]) -> None:
    """A list as a table and, where asked for, the largest shares of each score below it."""
    console = Console(highlight=False, markup=False)
    table = Table(title=f"version {model.version}")
    for column in ("#", "item", "title", "score", "source"):
        table.add_column(column, justify="right" if column in ("#", "score") else "left", overflow="fold")
    for item in answer:
        title = escape(model.title(item.item_id)[:60])
        table.add_row(str(item.rank), escape(item.item_id), title, f"{item.score:.4f}", item.source)
    console.print(table)
    for item in answer:
        if item.parts is not None:
            largest = sorted(item.parts.items(), key=lambda part: -abs(part[1]))[:_SHOWN_PARTS]
            console.print(
                f"{item.rank}. {model.title(item.item_id)[:60]}: {item.score:.4f} =", soft_wrap=True
            )
            for name, share in largest:
                console.print(f"     {share:+.4f}  {_part_name(model, name)}", soft_wrap=True)
            rest = item.score - sum(share for _, share in largest)
            if len(item.parts) > len(largest):
                console.print(f"     {rest:+.4f}  {len(item.parts) - len(largest)} more", soft_wrap=True)


def _part_name(model: Recommender, name: str) -> str:
    """`item i7` as the title of i7; words and the like as they are."""
    kind, _, item_id = name.partition(" ")
    return f"{item_id} {model.title(item_id)[:60]}" if kind == "item" else name
