"""The commands of `kindling policies`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption

policies_app = typer.Typer(no_args_is_help=True, help="What lists have earned, and what others would have.")


@policies_app.callback()
def _policies() -> None:
    """A group, though it has one command."""


@policies_app.command(name="evaluate")
def evaluate_policies(
    out: OutOption,
    event: Annotated[
        list[str] | None, typer.Option(help="Kind that counts as a success; may be repeated. Absent: any.")
    ] = None,
    version: Annotated[
        list[str] | None, typer.Option(help="Published version to estimate too; may be repeated.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Of the last days alone.", min=0)] = None,
    clip: Annotated[
        float | None, typer.Option(help="Weights above it count as it: less noise, some bias.", min=1)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Compare policies and versions by the lists that the service has logged and the events that name them."""
    from jobs.policies import judge, print_judged

    since = 0.0 if days is None else time.time() - days * 86400
    print_judged(judge(out, config, event or (), version or (), since, clip))
