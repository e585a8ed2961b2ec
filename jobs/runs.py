"""`kindling runs`: what builds did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from pipelines.core.layout import Layout
from pipelines.core.runs import RunRecord, list_runs, read_run
from pipelines.core.storage import write_text

console = Console(highlight=False, soft_wrap=True, markup=False)


def print_runs(out: Path, *, as_json: bool) -> None:
    """One line a run."""
    found = list_runs(Layout(out.resolve()))
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=2, ensure_ascii=False))
        return
    whole = partial(Column, no_wrap=True)  # a name that is cut cannot be copied
    table = Table(whole("run"), whole("began, UTC"), "s", "status", "stages", "peak MB", "job")
    for run in found:
        n_done = sum(not stage.reused for stage in run.stages)
        table.add_row(
            run.run_id, _date(run.started, "%m-%d %H:%M"), _seconds(run), run.status,
            f"{n_done} of {len(run.stages)}", _most(run), run.job_id or "",
        )  # fmt: skip
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
    """The largest of them, the others counted; `--json` has all."""
    if not counts:
        return ""
    name, n = max(counts.items(), key=lambda item: item[1])
    shown = f"{n:,} {name.rsplit('/', 1)[-1].removesuffix('.parquet')}"
    return f"{shown}, {len(counts) - 1} more" if len(counts) > 1 else shown


def _seconds(run: RunRecord) -> str:
    return "" if run.finished is None else f"{run.finished - run.started:.1f}"


def _most(run: RunRecord) -> str:
    found = [stage.peak_mb for stage in run.stages if stage.peak_mb is not None]
    return f"{max(found):,.0f}" if found else ""


def _date(seconds: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
