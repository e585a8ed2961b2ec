"""`kindling submit` and `kindling jobs`: commands that run on a cluster, through Ray's jobs API.

What travels is this very program and the configuration, by name and nothing else; tables and results are on storage
that every node sees.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient, JobType
from rich.console import Console
from rich.table import Column, Table

import jobs
from pipelines.cluster import ClusterError
from pipelines.core.config import load_config
from pipelines.core.errors import InputError

COMMANDS = ("build", "finetune", "tune", "evaluate", "rebuild", "nightly")
STOPPED = 130
_PACKAGES = ("jobs", "pipelines", "serving")
_NOT_SENT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
_CONFIG = "config.toml"
_SHARED = ("--data", "--out", "--against", "--report", "--write")
"""Options that name what lies on shared storage."""
_YOUNG_SECONDS = 60.0
"""In which a cluster that has just been started may have no agent yet."""
_POLL_SECONDS = 0.5
console = Console(highlight=False, soft_wrap=True, markup=False)


def open_client(address: str | None) -> JobSubmissionClient:
    """The jobs API of a cluster.

    Args:
        address: http://host:port of its dashboard; None: RAY_API_SERVER_ADDRESS, or http://127.0.0.1:8265.

    Raises:
        ClusterError: nobody answers there, or it wants a token.

    """
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as e:
        raise ClusterError(
            f"the cluster at {address or 'RAY_API_SERVER_ADDRESS'} wants a token: set RAY_AUTH_MODE=token, and its "
            "token in RAY_AUTH_TOKEN, in the file of RAY_AUTH_TOKEN_PATH or in ~/.ray/auth_token."
        ) from e
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise ClusterError(
            f"{e} Give the address of the dashboard as --address http://HOST:8265, and see that it can be reached."
        ) from e


def submit(
    client: JobSubmissionClient,
    command: str,
    arguments: Sequence[str],
    submission_id: str | None,
    environment: Mapping[str, str],
) -> tuple[str, bool]:
    """Have a command run on the cluster.

    Args:
        client: of the cluster.
        command: one of `COMMANDS`.
        arguments: of that command, see `check_paths`.
        submission_id: a name for it; the same one again is the same job, unless it failed or was stopped. None: one is
            made.
        environment: variables of the job.

    Returns:
        The job's id, and whether it was submitted now.

    Raises:
        ConfigError: the configuration is none.
        ClusterError: the cluster does not take it.

    """
    name = submission_id or f"kindling-{command}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    if submission_id is not None and not _is_free(client, submission_id):
        return name, False
    with tempfile.TemporaryDirectory(prefix="kindling-submit-") as temporary:
        sent = pack(Path(temporary) / "work", arguments)
        runtime = {
            "working_dir": str(Path(temporary) / "work"),
            "env_vars": {**environment, "KINDLING_JOB_ID": name},
        }
        entrypoint = shlex.join(["python", "-m", "jobs", command, *sent])
        deadline = time.monotonic() + _YOUNG_SECONDS
        while True:
            try:
                client.submit_job(entrypoint=entrypoint, submission_id=name, runtime_env=runtime)
            except RuntimeError as e:
                if "already exists" in str(e):  # somebody else was as quick
                    return name, False
                if "No available agent" not in str(e) or time.monotonic() > deadline:
                    raise ClusterError(f"the cluster did not take the job: {e}") from e
                time.sleep(2 * _POLL_SECONDS)
            else:
                return name, True


def _is_free(client: JobSubmissionClient, submission_id: str) -> bool:
    """Whether a job may have this id; one that failed or was stopped gives it up."""
    try:
        status = client.get_job_info(submission_id).status
    except RuntimeError:
        return True
    if status in (JobStatus.FAILED, JobStatus.STOPPED):
        client.delete_job(submission_id)
        return True
    return False


def check_paths(arguments: Sequence[str]) -> None:
    """See that what is named can be found by other machines.

    Raises:
        InputError: a relative path.

    """
    for option, value in _values(arguments):
        if option in _SHARED and "://" not in value and not Path(value).is_absolute():
            raise InputError(
                f"{option} {value}: a job runs elsewhere, and keeps nothing of its working directory. Give an absolute "
                "path that every node sees, or s3://."
            )


def pack(folder: Path, arguments: Sequence[str]) -> list[str]:
    """Put into `folder` what travels; the arguments as they are to be there.

    Raises:
        ConfigError: the configuration is none.

    """
    root = Path(jobs.__file__).parent.parent
    for package in _PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=_NOT_SENT)
    config = next((value for option, value in _values(arguments) if option == "--config"), None)
    if config is None:
        return list(arguments)
    load_config(Path(config))  # a mistake is told here and now
    shutil.copyfile(config, folder / _CONFIG)
    kept, skips = list[str](), False
    for argument in arguments:
        if skips or argument.startswith("--config="):
            skips = False
        elif argument == "--config":
            skips = True
        else:
            kept.append(argument)
    return [*kept, "--config", _CONFIG]


def _values(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Options with their values, written with a blank or with `=`."""
    found = [
        tuple(argument.split("=", 1))
        for argument in arguments
        if argument.startswith("--") and "=" in argument
    ]
    found += [(a, b) for a, b in pairwise(arguments) if a.startswith("--") and "=" not in a]
    return [(option, value) for option, value in found]


def follow(client: JobSubmissionClient, job_id: str) -> int:
    """Print what a job prints until it ends; the exit status of its command, `STOPPED` for one that was stopped.

    Raises:
        InputError: there is no such job.

    """
    printed = _Printed()
    while not (info := details(client, job_id)).status.is_terminal():
        with suppress(RuntimeError, aiohttp.ClientError):  # the connection broke; the job may go on
            asyncio.run(printed.go_on(client, job_id))
        time.sleep(_POLL_SECONDS)
    printed.show(client.get_job_logs(job_id), 0)
    if info.status == JobStatus.STOPPED:
        return STOPPED
    if info.status == JobStatus.FAILED and not info.driver_exit_code:
        Console(stderr=True, markup=False, soft_wrap=True).print(
            info.message or "the job failed", style="red"
        )
        return 1
    return info.driver_exit_code or 0


class _Printed:
    """How much of a log is on the screen, so that nothing is twice there when the connection has to be made again."""

    def __init__(self) -> None:
        self._n = 0

    async def go_on(self, client: JobSubmissionClient, job_id: str) -> None:
        """Print what is new, as it comes, until the connection ends."""
        n_seen = 0
        async for text in client.tail_job_logs(job_id):
            self.show(text, n_seen)
            n_seen += len(text)

    def show(self, text: str, start: int) -> None:
        """Print what is new of the characters of a log from `start` on."""
        sys.stdout.write(text[max(0, self._n - start) :])
        sys.stdout.flush()
        self._n = max(self._n, start + len(text))


def details(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """What the cluster knows of a job.

    Raises:
        InputError: there is no such job.

    """
    try:
        return client.get_job_info(job_id)
    except RuntimeError as e:
        raise InputError(f"there is no job '{job_id[:80]}' there. `kindling jobs list` shows them.") from e


def print_jobs(client: JobSubmissionClient) -> None:
    """The jobs that were submitted, the newest first."""
    found = [job for job in client.list_jobs() if job.type == JobType.SUBMISSION]
    table = Table(Column("job", no_wrap=True), "status", "began, UTC", "ended", "command")
    for job in sorted(found, key=lambda job: job.start_time or 0, reverse=True):
        command = job.entrypoint.removeprefix("python -m jobs ")
        table.add_row(job.submission_id, job.status, _date(job.start_time), _date(job.end_time), command)
    console.print(table)


def stop(client: JobSubmissionClient, job_id: str) -> bool:
    """Have a job stop as by Ctrl-C, and wait until it has; whether it was running.

    Raises:
        InputError: there is no such job.

    """
    details(client, job_id)
    was_running = bool(client.stop_job(job_id))
    while not details(client, job_id).status.is_terminal():
        time.sleep(_POLL_SECONDS)
    return was_running


def _date(ms: int | None) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%m-%d %H:%M}" if ms else ""
