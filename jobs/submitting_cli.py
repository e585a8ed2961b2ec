"""`kindling submit` and the commands of `kindling jobs`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.core.errors import InputError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

jobs_app = typer.Typer(no_args_is_help=True, help="What was submitted to a cluster.")

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="http://HOST:PORT of the cluster's dashboard; absent: RAY_API_SERVER_ADDRESS, or this machine's."
    ),
]
JobArgument = Annotated[str, typer.Argument(help="As `kindling jobs list` shows it.")]


def submit(
    ctx: typer.Context,
    command: Annotated[
        str, typer.Argument(help="build, finetune, tune, evaluate, rebuild or nightly; then its own options.")
    ],
    address: AddressOption = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Print what it prints and end with its exit status.")
    ] = False,
    job_id: Annotated[
        str | None,
        typer.Option("--id", help="A name of your own; given again it is the same job, unless that failed."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, or NAME to pass on what is set here; may be repeated."),
    ] = None,
) -> None:
    """Have a command run on a cluster: this program and the --config file travel, tables and --out are shared."""
    from jobs import submitting

    if command not in submitting.COMMANDS:
        raise InputError(
            f"'{command[:80]}' cannot be submitted; expected one of {', '.join(submitting.COMMANDS)}."
        )
    _check_arguments(command, ctx.args)
    submitting.check_paths(ctx.args)
    environment = environment_of(env or [])
    client = submitting.open_client(address)
    name, is_new = submitting.submit(client, command, ctx.args, job_id, environment)
    tell_or_follow(client, name, is_new=is_new, wait=wait)


def tell_or_follow(client: JobSubmissionClient, name: str, *, is_new: bool, wait: bool) -> None:
    """What became of a submission; then what the job prints, ending with its exit status, or how to see it."""
    from jobs import submitting

    submitting.console.print(f"{name} {'is submitted' if is_new else 'is there already, and is the same'}")
    if wait:
        raise typer.Exit(submitting.follow(client, name))
    submitting.console.print(f"kindling jobs logs {name} follows it, kindling jobs stop {name} stops it")


@jobs_app.command(name="list")
def list_jobs(address: AddressOption = None) -> None:
    """Print the jobs that the cluster knows, the newest first."""
    from jobs import submitting

    submitting.print_jobs(submitting.open_client(address))


@jobs_app.command()
def logs(job_id: JobArgument, address: AddressOption = None) -> None:
    """Print what a job prints until it ends; the exit status is its own."""
    from jobs import submitting

    raise typer.Exit(submitting.follow(submitting.open_client(address), job_id))


@jobs_app.command()
def stop(job_id: JobArgument, address: AddressOption = None) -> None:
    """Stop a job; what it had finished is used when it is submitted again."""
    from jobs import submitting

    stopped = submitting.stop(submitting.open_client(address), job_id)
    submitting.console.print(f"{job_id} {'is stopped' if stopped else 'had ended'}")


def _check_arguments(command: str, arguments: list[str]) -> None:
    """Read them as the command itself will, so that a mistake is told before anything travels."""
    from jobs.cli import app

    typer.main.get_command(app).commands[command].make_context(command, list(arguments))  # type: ignore[attr-defined]


def environment_of(given: list[str]) -> dict[str, str]:
    """Variables of a job from `NAME=VALUE`, or `NAME` of one that is set here.

    Raises:
        InputError: it is not.

    """
    found = {}
    for entry in given:
        name, is_said, value = entry.partition("=")
        if not is_said and name not in os.environ:
            raise InputError(f"--env {name}: it is not set here. Set it, or give --env {name}=VALUE.")
        found[name] = value if is_said else os.environ[name]
    return found
