"""The table of contents of a build: which stages there are, what each reads, and when one is done.

A stage is done when its marker says so, and the marker is written last. It holds a fingerprint of the stage's
configuration and of what the stages before it wrote, so a run does only what changed, and a run that was
killed is finished by the next one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from ray.exceptions import RayError

from pipelines import embed, evaluate, factorize, ingest, publish, split
from pipelines.cluster import connect
from pipelines.core.config import Config
from pipelines.core.errors import ArtefactError, BusyError, ConfigError, KindlingError
from pipelines.core.layout import Layout
from pipelines.core.storage import digest_files, fresh_directory, read_json, write_json, write_text
from pipelines.progress import Progress


class Run(Protocol):
    """What every stage module offers as `run`."""

    def __call__(self, config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
        """Read the artefacts of earlier stages, write this one's, return counts for people to read."""


@dataclass(frozen=True)
class Stage:
    """One step of the flow.

    Attributes:
        name: also the name of its directory.
        run: does the work.
        reads: stages whose artefacts it reads.
        sections: configuration that changes its result.
        exclude: `section.field` names among them that do not.
        inputs: fingerprint of what it reads from outside the output directory.
        intact: whether what it wrote outside its own directory is still there.

    """

    name: str
    run: Run
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    exclude: frozenset[str] = frozenset()
    inputs: Callable[[str, Config], str] = field(default=lambda _data, _config: "")
    intact: Callable[[Layout], bool] = field(default=lambda _layout: True)


STAGES: tuple[Stage, ...] = (
    Stage("ingest", ingest.run, (), ("data", "privacy"), inputs=ingest.fingerprint),
    Stage("split", split.run, ("ingest",), ("split",)),
    Stage("embed", embed.run, ("ingest",), ("encoder",), inputs=embed.fingerprint),
    Stage("factorize", factorize.run, ("ingest", "split", "embed"), ("factorize", "blend", "publish"),
          frozenset({"factorize.shards", "blend.gamma", "blend.query_items", "publish.keep"})),
    Stage("evaluate", evaluate.run, ("ingest", "split", "embed", "factorize"), ("factorize", "blend", "evaluate"),
          frozenset({"factorize.shards", "blend.query_items", "evaluate.users_per_task"})),
    Stage("publish", publish.run, ("ingest", "split", "embed", "factorize", "evaluate"),
          ("data", "encoder", "factorize", "blend", "publish", "serve"), frozenset({"publish.keep"}),
          intact=publish.intact),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one stage in a run."""

    stage: str
    seconds: float
    reused: bool
    summary: dict[str, object]


def build(
    config: Config,
    data: str,
    out: Path,
    *,
    from_stage: str | None = None,
    until_stage: str | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run every stage whose inputs changed, up to `until_stage`; from `from_stage` on run regardless.

    Raises:
        BusyError: another build is running in `out`.
        ConfigError: no such stage.
        ArtefactError: `from_stage` was given and an earlier stage is not done.
        KindlingError: whatever a stage has to say about its input.

    """
    layout = Layout(out)
    progress = progress or Progress(quiet=True)
    first, last = _stage_number(from_stage, 0), _stage_number(until_stage, len(STAGES) - 1)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(layout.lock, timeout=0):
            return _run_stages(config, data, layout, progress, (first if from_stage else None, last))
    except Timeout as e:
        raise BusyError(
            f"another build is running in {out} (it holds {layout.lock}). Wait for it, or give another --out."
        ) from e


def _run_stages(
    config: Config, data: str, layout: Layout, progress: Progress, window: tuple[int | None, int]
) -> list[Outcome]:
    forced_from, last = window
    for leftover in (layout.root / "stages").glob(".*.old"):  # of a run that was killed while it tidied up
        shutil.rmtree(leftover, ignore_errors=True)
    outcomes: list[Outcome] = []
    for number, stage in enumerate(STAGES[: last + 1]):
        fingerprint = _fingerprint(stage, config, layout, data)
        marker = _read_marker(layout, stage.name)
        forced = forced_from is not None and number >= forced_from
        done = marker is not None and marker["fingerprint"] == fingerprint and stage.intact(layout)
        if marker is not None and done and not forced:
            outcomes.append(Outcome(stage.name, float(marker["seconds"]), True, marker["summary"]))
            progress.reused(stage.name)
            write_json(layout.run_record, [vars(o) for o in outcomes])
            continue
        if forced_from is not None and number < forced_from:
            raise ArtefactError(
                f"--from-stage {STAGES[forced_from].name}: stage '{stage.name}' before it is not done for these "
                "settings and data. Leave --from-stage out; finished stages are reused anyway."
            )
        progress.begin(stage.name)
        connect(config.ray)
        layout.marker(stage.name).unlink(missing_ok=True)
        if stage.name != "publish":  # owns nothing but what it puts beside CURRENT
            fresh_directory(layout.stage(stage.name))
        started = time.monotonic()
        summary = _run(stage, config, layout, data, progress)
        seconds = round(time.monotonic() - started, 3)
        _write_marker(layout, stage.name, fingerprint, seconds, summary)
        outcomes.append(Outcome(stage.name, seconds, False, summary))
        progress.end(stage.name, seconds)
        write_json(layout.run_record, [vars(o) for o in outcomes])
    return outcomes


def _run(stage: Stage, config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
    """Run one stage; what went wrong in a task of Ray comes out as if it had been raised here.

    Raises:
        KindlingError: the error itself, or for one that nobody expected, where its story is written.

    """
    try:
        return stage.run(config, layout, data, progress)
    except KindlingError as e:
        # raised in a task it is one of ours and Ray's at once, and its text is Ray's
        raise _cause(e) or e from None
    except RayError as e:
        expected = _cause(e)
        if expected is not None:
            raise expected from None
        write_text(layout.error, "".join(traceback.format_exception(e)))
        reason = next((line for line in reversed(str(e).splitlines()) if line.strip()), type(e).__name__)
        raise KindlingError(
            f"stage '{stage.name}' failed: {reason.strip()} The whole story: {layout.error}"
        ) from e


def _cause(error: BaseException) -> KindlingError | None:
    """The error of ours at the bottom of Ray's wrappings, if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KindlingError) and not isinstance(seen, RayError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _stage_number(name: str | None, default: int) -> int:
    names = [s.name for s in STAGES]
    if name is None:
        return default
    if name not in names:
        raise ConfigError(f"no stage is called '{name}'; the stages are {', '.join(names)}.")
    return names.index(name)


def _fingerprint(stage: Stage, config: Config, layout: Layout, data: str) -> str:
    """Changes when the stage's settings, what it reads from outside, or what earlier stages wrote changes."""
    upstream = {name: read_json(layout.marker(name))["output"] for name in stage.reads}
    parts = (
        stage.name,
        config.fingerprint(*stage.sections, exclude=stage.exclude),
        stage.inputs(data, config),
        upstream,
    )
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


def _read_marker(layout: Layout, name: str) -> dict[str, Any] | None:
    """The marker, or None where there is none or it is not one (half a disk, another version)."""
    try:
        marker = read_json(layout.marker(name))
    except ArtefactError:
        return None
    return marker if _is_marker(marker) and _files_are_there(layout.stage(name), marker["files"]) else None


def _is_marker(marker: object) -> bool:
    expected = {"fingerprint", "seconds", "summary", "output", "files"}
    return isinstance(marker, dict) and expected <= marker.keys()


def _files_are_there(root: Path, files: dict[str, int]) -> bool:
    """Whether what a stage wrote still has the sizes it had; a part that somebody removed is made again."""
    return all(
        (root / name).is_file() and (root / name).stat().st_size == size for name, size in files.items()
    )


def _write_marker(
    layout: Layout, name: str, fingerprint: str, seconds: float, summary: dict[str, object]
) -> None:
    root = layout.stage(name)
    root.mkdir(parents=True, exist_ok=True)
    files = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith((".", "_DONE"))]
    marker = {
        "fingerprint": fingerprint,
        "files": {str(p.relative_to(root)): p.stat().st_size for p in files},
        "output": digest_files(files, root),
        "seconds": seconds,
        "summary": summary,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(layout.marker(name), marker)
