"""`kindling runs`: what builds did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines.core.layout import Layout
from pipelines.core.runs import RunRecord, list_runs, read_run
from pipelines.core.storage import write_text

console = Console(highlight=False, soft_wrap=True, markup=False)
_SHOWN = 4


def print_runs(out: Path, *, as_json: bool) -> None:
    """One line a run."""
    found = list_runs(Layout(out.resolve()))
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=2, ensure_ascii=False))
        return
    table = Table("run", "started", "seconds", "status", "done again", "most memory", "job")
    for run in found:
        done = [stage.stage for stage in run.stages if not stage.reused]
        table.add_row(
            run.run_id,
            _date(run.started),
            _seconds(run),
            run.status,
            ", ".join(done),
            _most(run),
            run.job_id or "",
        )
    console.print(table)


def print_run(out: Path, run_id: str, svg: Path | None, *, as_json: bool) -> None:
    """A line a stage, and the timeline where it is asked for."""
    run = read_run(Layout(out.resolve()), run_id)
    if svg is not None:
        from pipelines.core.report.timeline import timeline

        write_text(svg, timeline(run))
    if as_json:
        print(json.dumps(asdict(run), indent=2, ensure_ascii=False))
        return
    console.print(
        f"{run.run_id}: {run.status}, began {_date(run.started)} on {run.host}, Kindling {run.program}"
    )
    console.print(f"data {run.data}{'' if run.job_id is None else f', job {run.job_id}'}")
    if run.error:
        console.print(run.error)
    table = Table("stage", "seconds", "peak MB", "rows in", "rows out")
    for stage in run.stages:
        seconds = "unchanged" if stage.reused else f"{stage.seconds:.1f}"
        memory = "" if stage.peak_mb is None else f"{stage.peak_mb:,.0f}"
        table.add_row(stage.stage, seconds, memory, _rows(stage.rows_in), _rows(stage.rows_out))
    console.print(table)
    if svg is not None:
        console.print(f"written: {svg}")


def _rows(counts: Mapping[str, int]) -> str:
    """The largest of them, the others counted."""
    largest = sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]
    shown = ", ".join(f"{name} {n:,}" for name, n in largest)
    return f"{shown} and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else shown


def _seconds(run: RunRecord) -> str:
    return "" if run.finished is None else f"{run.finished - run.started:.1f}"


def _most(run: RunRecord) -> str:
    found = [stage.peak_mb for stage in run.stages if stage.peak_mb is not None]
    return f"{max(found):,.0f} MB" if found else ""


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
