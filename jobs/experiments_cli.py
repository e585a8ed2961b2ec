"""The commands of `kindling experiments`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption

experiments_app = typer.Typer(
    no_args_is_help=True, help="A/B tests on the users of the service: plan, start, report, stop."
)

NameArgument = Annotated[str, typer.Argument(help="As `kindling experiments list` shows it.")]


@experiments_app.command()
def plan(
    mean: Annotated[float, typer.Option(min=1e-9, help="Of the metric now; a share of users, or a mean.")],
    lift: Annotated[float, typer.Option(min=1e-6, help="To be found: 0.05 is 5 % more.")] = 0.05,
    users: Annotated[
        int | None, typer.Option(min=4, help="There are; then the least lift they can show is printed.")
    ] = None,
    deviation: Annotated[
        float | None, typer.Option(min=1e-9, help="Standard deviation among users; absent: of a share.")
    ] = None,
    share: Annotated[float, typer.Option(min=0.001, max=0.999, help="Of users with the variant.")] = 0.5,
) -> None:
    """Print how many users a lift needs, or which lift so many users can show."""
    from jobs.experiments import print_plan

    print_plan(mean, deviation, lift, users, share)


@experiments_app.command()
def start(
    definition: Annotated[Path, typer.Argument(help="TOML file; docs/experiments.md has one.")],
    out: OutOption,
    config: ConfigOption = None,
) -> None:
    """Begin an experiment; replicas take part in it within seconds."""
    from jobs.experiments import print_experiments, start_experiment

    print_experiments([start_experiment(definition, out, config)])


@experiments_app.command(name="list")
def list_experiments(out: OutOption, config: ConfigOption = None) -> None:
    """Print all experiments, the newest first."""
    from jobs.experiments import print_experiments
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        print_experiments(store.experiments.all())


@experiments_app.command()
def traffic(
    name: NameArgument,
    share: Annotated[float, typer.Argument(min=0.0001, max=1.0, help="Of all users.")],
    out: OutOption,
    config: ConfigOption = None,
) -> None:
    """Let an experiment have more or fewer users; who stays in it keeps their variant."""
    from jobs.experiments import print_experiments
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        print_experiments([store.experiments.set_traffic(name, share)])


@experiments_app.command()
def report(
    name: NameArgument,
    out: OutOption,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print what came of an experiment so far; look as often as you like."""
    from jobs.experiments import print_report
    from jobs.stores import store_of
    from serving.experiments.report import make_report

    with store_of(out, config) as (store, _):
        made = make_report(store.experiments, name, is_patient=True)
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        print_report(made)


@experiments_app.command()
def stop(
    name: NameArgument,
    out: OutOption,
    winner: Annotated[str | None, typer.Option(help="The variant that is to stay.")] = None,
    config: ConfigOption = None,
) -> None:
    """End an experiment: everybody has the control; or name the winner of one that was ended without."""
    from jobs.experiments import print_stopped
    from jobs.stores import store_of

    with store_of(out, config) as (store, _):
        print_stopped(store.experiments.stop(name, winner))
