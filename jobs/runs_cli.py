"""The commands of `kindling runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import OutOption

runs_app = typer.Typer(no_args_is_help=True, help="What builds did: time, memory and rows of every stage.")

JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@runs_app.command(name="list")
def list_them(out: OutOption, as_json: JsonOption = False) -> None:
    """Print the last runs, the newest first."""
    from jobs.runs import print_runs

    print_runs(out, as_json=as_json)


@runs_app.command()
def show(
    out: OutOption,
    run_id: Annotated[
        str, typer.Argument(help="As `kindling runs list` shows it; the last one by default.")
    ] = "last",
    svg: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw its timeline into this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what one run did, stage by stage; with --svg as a picture, too."""
    from jobs.runs import print_run

    print_run(out, run_id, svg, as_json=as_json)
