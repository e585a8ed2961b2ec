"""What each run did, stage by stage: a file of its own for every run, kept beside what it made."""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import psutil

from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, write_json

log = logging.getLogger(__name__)
RUN_SCHEMA = 1
_MOST_RUNS = 200
_JOB = "KINDLING_JOB_ID"
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
Status = Literal["running", "done", "failed", "stopped", "killed"]


@dataclass
class StageRecord:
    """One stage of a run.

    Attributes:
        stage: its name.
        reused: whether an earlier run had done it.
        started: seconds since 1970; null where it was reused.
        seconds: it took; of the run that did it.
        peak_mb: most memory of the program and the processes it started on its machine, without what they share, in
            10^6 bytes; null where it was reused.
        rows_in: of each table or matrix that it read.
        rows_out: of each that it left.
        summary: what it said of itself.

    """

    stage: str
    reused: bool
    started: float | None
    seconds: float
    peak_mb: float | None
    rows_in: dict[str, int]
    rows_out: dict[str, int]
    summary: dict[str, object]


@dataclass
class RunRecord:
    """One run.

    Attributes:
        run_id: sorts by time.
        job_id: of the Ray job it belongs to, or what KINDLING_JOB_ID says; null: neither.
        program: version of Kindling.
        host: it ran on.
        pid: there.
        data: the tables.
        started: seconds since 1970.
        finished: the same; null: it has not.
        status: `killed` is never written, but found out.
        error: why it failed.
        stages: those that are done.
        schema_version: of this file.

    """

    run_id: str
    job_id: str | None
    program: str
    host: str
    pid: int
    data: str
    started: float
    finished: float | None = None
    status: Status = "running"
    error: str | None = None
    stages: list[StageRecord] = field(default_factory=list)
    schema_version: int = RUN_SCHEMA


_RUNNING: ContextVar[RunRecord | None] = ContextVar("kindling_run", default=None)


def running_ids() -> dict[str, str]:
    """`run_id` and `job_id` of the run in progress, for manifests and logs; empty outside one."""
    run = _RUNNING.get()
    if run is None:
        return {}
    return {"run_id": run.run_id, **({"job_id": run.job_id} if run.job_id else {})}


def program_version() -> str:
    """Of Kindling, as installed."""
    try:
        return version("kindling")
    except PackageNotFoundError:
        return "unknown"


class Recorder:
    """Writes the record of a run, again with every stage, so that a killed one has told what it did."""

    def __init__(self, layout: Layout, record: RunRecord) -> None:
        """Write that it runs."""
        self._path = layout.run(record.run_id)
        self.record = record
        self.write()

    def add(self, stage: StageRecord) -> None:
        """One stage more."""
        self.record.stages.append(stage)
        self.write()

    def write(self) -> None:
        """As it is now."""
        write_json(self._path, asdict(self.record))


@contextmanager
def recording(layout: Layout, data: str) -> Iterator[Recorder]:
    """Record a run from its beginning to whatever end it has; to be held with the lock of the build."""
    now = datetime.now(UTC)
    run_id = f"r{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    record = RunRecord(
        run_id,
        _job_id(os.environ),
        program_version(),
        socket.gethostname(),
        os.getpid(),
        data,
        now.timestamp(),
    )
    recorder = Recorder(layout, record)
    _forget_old(layout)
    token = _RUNNING.set(record)
    try:
        log.info("run begins, data %s", data)
        yield recorder
        record.status = "done"
    except KeyboardInterrupt:
        record.status = "stopped"
        raise
    except BaseException as e:
        record.status, record.error = "failed", f"{type(e).__name__}: {e}"
        raise
    finally:
        log.info("run is %s%s", record.status, f": {record.error}" if record.error else "")
        _RUNNING.reset(token)
        record.finished = datetime.now(UTC).timestamp()
        recorder.write()


def _job_id(environment: Mapping[str, str]) -> str | None:
    if environment.get(_JOB):
        return environment[_JOB]
    try:
        found = json.loads(environment.get(_RAY_JOB, "{}"))["metadata"]["job_submission_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)


def _forget_old(layout: Layout) -> None:
    for path in sorted(layout.runs.glob("r*.json"), reverse=True)[_MOST_RUNS:]:
        path.unlink(missing_ok=True)


def list_runs(layout: Layout) -> list[RunRecord]:
    """All that are kept, the newest first; files that are none are passed over."""
    found = []
    for path in sorted(layout.runs.glob("r*.json"), reverse=True):
        try:
            found.append(_read(read_json(path), str(path)))
        except ArtefactError:
            continue
    return found


def read_run(layout: Layout, run_id: str) -> RunRecord:
    """One run, by its id or `last`.

    Raises:
        InputError: there is none such.
        ArtefactError: its file cannot be read, or a newer program wrote it.

    """
    known = [path.stem for path in sorted(layout.runs.glob("r*.json"), reverse=True)]
    chosen = known[0] if run_id == "last" and known else run_id
    if chosen not in known:
        raise InputError(
            f"run {run_id[:80]!r} is not in {layout.runs}; there are {', '.join(known[:10]) or 'none'}."
        )
    path = layout.run(chosen)
    return _read(read_json(path), str(path))


def _read(found: Any, where: str) -> RunRecord:  # noqa: ANN401 - JSON
    if isinstance(found, dict) and found.get("schema_version", 0) > RUN_SCHEMA:
        raise ArtefactError(
            f"{where} has schema version {found['schema_version']}, this program knows {RUN_SCHEMA}: a newer Kindling "
            "wrote it. Install that."
        )
    try:
        stages = [StageRecord(**stage) for stage in found["stages"]]
        record = RunRecord(**{**found, "stages": stages})
    except (TypeError, KeyError) as e:
        raise ArtefactError(f"{where} is no record of a run: {e}. Delete it.") from e
    if (
        record.status == "running"
        and record.host == socket.gethostname()
        and not psutil.pid_exists(record.pid)
    ):
        record.status = "killed"
    return record
