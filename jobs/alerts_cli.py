"""The commands of `kindling alerts`."""

from __future__ import annotations

import typer

from jobs.options import ConfigOption, OutOption

alerts_app = typer.Typer(
    no_args_is_help=True, help="Who is told of failed rebuilds and old models ([alerts])."
)


@alerts_app.command()
def check(out: OutOption, config: ConfigOption = None) -> None:
    """Exit with 1, and tell people, if the model in service is older than alerts.stale_hours; for cron."""
    from jobs.alerts import check_stale

    if not check_stale(out, config):
        raise typer.Exit(1)


@alerts_app.command(name="test")
def send_one(out: OutOption, config: ConfigOption = None) -> None:
    """Send a trial alert and say what became of it."""
    from jobs.alerts import send_trial

    if not send_trial(out, config):
        raise typer.Exit(1)
