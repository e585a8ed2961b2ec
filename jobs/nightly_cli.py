"""The commands `kindling nightly`, `kindling schedule` and `kindling nights`."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption
from jobs.stopping import terminate_cleanly
from jobs.submitting_cli import environment_of, tell_or_follow
from pipelines.core.config import load_config

nights_app = typer.Typer(no_args_is_help=True, help="What became of each night.")

DataOption = Annotated[str, typer.Option("--data", help="Folder, s3:// or gs:// address of the tables.")]


def nightly(
    data: DataOption,
    out: OutOption,
    night: Annotated[
        datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="The night; absent: today, where this runs."),
    ] = None,
    config: ConfigOption = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also if that night was refused or has failed.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="http://HOST:PORT of a cluster's dashboard, to run there; absent: here."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --address: print what it prints, end with its exit status.")
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="With --address: NAME=VALUE, or NAME to pass on what is set here; may be repeated."
        ),
    ] = None,
) -> None:
    """Rebuild for a date, once: called again it says what became of it, while it runs it says who is at it."""
    from jobs.nightly import run_nightly

    wanted = night.date() if night else date.today()  # noqa: DTZ011 - of whoever's night it is
    if address is not None:
        _submit(wanted, data, out, config, retry, address, wait, env or [])
        return
    settings = load_config(config)
    with terminate_cleanly():
        status = run_nightly(settings, data, out.resolve(), wanted, retry=retry)
    raise typer.Exit(status)


def _submit(
    wanted: date,
    data: str,
    out: Path,
    config: Path | None,
    retry: bool,
    address: str,
    wait: bool,
    env: list[str],
) -> None:
    from jobs import submitting
    from jobs.nightly import night_id

    arguments = ["--date", wanted.isoformat(), "--data", data, "--out", str(out)]
    arguments += ["--config", str(config)] if config else []
    arguments += ["--retry"] if retry else []
    submitting.check_paths(arguments)
    environment = environment_of(env)
    client = submitting.open_client(address)
    name, is_new = submitting.submit(client, "nightly", arguments, night_id(wanted, str(out)), environment)
    tell_or_follow(client, name, is_new=is_new, wait=wait)


@nights_app.callback()
def _nights() -> None:
    """A group, though it has one command."""


@nights_app.command(name="list")
def list_them(
    out: OutOption, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """Print what became of each night, the newest first."""
    from jobs.nightly import print_nights

    print_nights(out, as_json=as_json)


def schedule(
    data: DataOption,
    out: OutOption,
    cron: Annotated[str, typer.Option(help='When: minute, hour, day, month, weekday, as "0 3 * * *".')],
    timezone: Annotated[
        str | None, typer.Option(help="Of these times, as Europe/Berlin; absent: this machine's.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Run the nights from here until stopped: for a machine that has no cron, or sleeps."""
    from jobs.night_child import NightChild, WallClock, last_begun, teller
    from jobs.scheduling import check_cron, run_schedule, zone_of
    from pipelines.core.layout import Layout

    say, zone, place = teller(load_config(config).logs), zone_of(timezone), out.resolve()
    check_cron(cron)
    with WallClock() as clock:
        child = NightChild(data, place, config, clock)
        run_schedule(cron, child.run, clock, zone=zone, since=last_begun(Layout(place), zone), say=say)
    say("stopped")
