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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from pipelines import attributes, embed, evaluate, factorize, finetune, ingest, profile, publish, split
from pipelines.cluster import connect
from pipelines.core.config import Config, EvaluateConfig, load_config, to_toml
from pipelines.core.errors import ArtefactError, BusyError, ConfigError
from pipelines.core.layout import Layout
from pipelines.core.markers import read_marker, write_marker
from pipelines.core.memory import PeakMemory
from pipelines.core.row_counts import rows_read, rows_written
from pipelines.core.runs import Recorder, StageRecord, recording
from pipelines.core.sections.finetuning import VECTOR_OBJECTIVES
from pipelines.core.storage import fresh_directory, read_json, write_json, write_text
from pipelines.plain_errors import plain_errors
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
        inputs: fingerprint of what it reads from outside the output directory; None when it reads nothing there.
        intact: whether what its marker does not vouch for is there too.

    """

    name: str
    run: Run
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    exclude: frozenset[str] = frozenset()
    inputs: Callable[[Config, Layout, str], str] | None = None
    intact: Callable[[Layout], bool] = field(default=lambda _layout: True)


_UNSEEN = frozenset({"publish.keep", "publish.keep_days", "publish.registry", "publish.allow_code"})
"""Settings that say where versions go, not what is in them."""
STAGES: tuple[Stage, ...] = (
    Stage("ingest", ingest.run, (), ("data", "privacy"), inputs=ingest.fingerprint),
    Stage("split", split.run, ("ingest",), ("split",), inputs=split.fingerprint),
    Stage("finetune", finetune.run, ("ingest", "split"), ("data", "encoder", "finetune"),
          finetune.UNSEEN, inputs=finetune.fingerprint),
    Stage("embed", embed.run, ("ingest", "split", "finetune"), ("encoder",), inputs=embed.fingerprint),
    Stage("attributes", attributes.run, ("ingest", "split", "embed"), ("attributes", "encoder"),
          frozenset({"attributes.feature_weight"})),
    Stage("profile", profile.run, ("ingest", "split", "embed", "attributes"),
          ("data", "lexical", "relations", "attributes", "publish"), _UNSEEN),
    Stage("factorize", factorize.run, ("ingest", "split", "profile"), ("factorize", "blend", "publish"),
          frozenset({"factorize.shards", "blend.gamma", "blend.query_items", "blend.text_fade", "blend.cold_scale"})
          | _UNSEEN, inputs=factorize.fingerprint),
    Stage("evaluate", evaluate.run, ("ingest", "split", "embed", "profile", "factorize"),
          ("factorize", "blend", "evaluate"),
          frozenset({"factorize.shards", "evaluate.users_per_task"}),
          intact=lambda layout: layout.per_user.is_file()),
    Stage("publish", publish.run,
          ("ingest", "split", "finetune", "embed", "attributes", "profile", "factorize", "evaluate"),
          ("data", "encoder", "lexical", "factorize", "blend", "publish", "serve", "rules"),
          _UNSEEN - {"publish.registry"},
          inputs=publish.fingerprint, intact=publish.intact),
)  # fmt: skip
_BEFORE_TUNED = ("ingest", "split", "finetune")
"""Stages that do not read the fine-tuned encoder."""
_FITTED = "factorize"
"""The last stage before figures can be measured."""


@dataclass(frozen=True)
class Outcome:
    """What became of one stage in a run."""

    stage: str
    seconds: float
    reused: bool
    summary: dict[str, object]
    started: float | None = None
    peak_mb: float | None = None


def build(
    config: Config,
    data: str,
    out: Path,
    *,
    from_stage: str | None = None,
    until_stage: str | None = None,
    goes_on: Callable[[str], bool] = lambda _stage: True,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run every stage whose inputs changed, up to `until_stage`; from `from_stage` on run regardless.

    Before each stage `goes_on` is asked with its name; the build ends where it says no.

    Raises:
        BusyError: another build is running in `out`.
        ConfigError: no such stage.
        ArtefactError: `from_stage` was given and an earlier stage is not done.
        KindlingError: whatever a stage has to say about its input.

    """
    layout = Layout(out)
    progress = progress or Progress(quiet=True)
    first, last = _stage_number(from_stage, 0), _stage_number(until_stage, len(STAGES) - 1)
    with exclusive(layout), recording(layout, data) as recorder:
        window = (first if from_stage else None, last)
        return _run_stages(config, data, layout, progress, window, goes_on, recorder)


def measure(
    out: Path, settings: EvaluateConfig | None = None, *, progress: Progress | None = None
) -> Outcome:  # fmt: skip
    """Run the evaluate stage of what was built in `out`, or find it done; nothing else there changes.

    The tables themselves are not looked at: they may be gone.

    Args:
        out: directory of the build.
        settings: the evaluate section in place of the build's; remembered once it is measured.
        progress: for people.

    Raises:
        BusyError: a build is running there.
        ArtefactError: nothing is built there, not as far as factorize, or with other settings than it remembers.

    """
    layout, progress = Layout(out), progress or Progress(quiet=True)
    _check_there(layout)  # before a lock is left in a directory that is not ours
    stage = STAGES[_stage_number("evaluate", 0)]
    with exclusive(layout):
        config, data = _remembered(layout)
        if settings is not None:
            config = config.model_copy(update={"evaluate": settings})
        fingerprint = _fingerprint(stage, config, layout, data)
        outcome = _finished(stage, fingerprint, layout)
        if outcome is None:
            outcome = _perform(stage, fingerprint, config, layout, data, progress)
        else:
            progress.reused(stage.name)
        write_json(layout.run_record, [vars(outcome)])
        _remember(layout, config, data)
    return outcome


def measured_with(out: Path) -> Config:
    """The settings of a build whose figures are there and up to date.

    Raises:
        ArtefactError: it has none, or they are of other factors.

    """
    layout = Layout(out)
    _check_there(layout)
    config, data = _remembered(layout)
    stage = STAGES[_stage_number("evaluate", 0)]
    if not _finished(stage, _fingerprint(stage, config, layout, data), layout):
        raise ArtefactError(
            f"the build in {out} has no figures that are up to date. Run `kindling evaluate --out {out}`."
        )
    return config


def _check_there(layout: Layout) -> None:
    if not (layout.root / "stages").is_dir():
        raise ArtefactError(
            f"nothing is built in {layout.root}. Give the --out of a build, or run `kindling build`."
        )


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Keep other processes from building or tuning there; within one process it may be held twice.

    Raises:
        BusyError: another process has it.

    """
    layout.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layout.lock, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as e:
        raise BusyError(
            f"another build is running in {layout.root} (it holds {layout.lock}). Wait for it, or give another --out."
        ) from e
    try:
        yield
    finally:
        lock.release()


def _run_stages(
    config: Config,
    data: str,
    layout: Layout,
    progress: Progress,
    window: tuple[int | None, int],
    goes_on: Callable[[str], bool],
    recorder: Recorder,
) -> list[Outcome]:
    forced_from, last = window
    for leftover in (layout.root / "stages").glob(".*.old"):  # of a run that was killed while it tidied up
        shutil.rmtree(leftover, ignore_errors=True)
    outcomes: list[Outcome] = []
    for number, stage in enumerate(STAGES[: last + 1]):
        if not goes_on(stage.name):
            break
        if stage.name == _FITTED:  # not earlier: a tuning, or tables that cannot be read, must not change it
            _remember(layout, config, data)
        seen = _as_seen_by(stage, config, layout)
        fingerprint = _fingerprint(stage, seen, layout, data)
        forced = forced_from is not None and number >= forced_from
        outcome = None if forced else _finished(stage, fingerprint, layout)
        if outcome is not None:
            progress.reused(stage.name)
        elif forced_from is not None and number < forced_from:
            raise ArtefactError(
                f"--from-stage {STAGES[forced_from].name}: stage '{stage.name}' before it is not done for these "
                "settings and data. Leave --from-stage out; finished stages are reused anyway."
            )
        else:
            outcome = _perform(stage, fingerprint, seen, layout, data, progress)
        outcomes.append(outcome)
        write_json(layout.run_record, [vars(o) for o in outcomes])
        recorder.add(_as_record(stage, outcome, layout))
    return outcomes


def _as_record(stage: Stage, outcome: Outcome, layout: Layout) -> StageRecord:
    read, written = rows_read(layout, stage.reads), rows_written(layout, stage.name)
    return StageRecord(**vars(outcome), rows_in=read, rows_out=written)


def _as_seen_by(stage: Stage, config: Config, layout: Layout) -> Config:
    """The settings of a stage: after finetune, its encoder is in the place of the one it was made from.

    Only where it was taught to make vectors: what other objectives leave is a model of its own.
    """
    if config.finetune.objective not in VECTOR_OBJECTIVES or stage.name in _BEFORE_TUNED:
        return config
    tuned = config.encoder.model_copy(update={"model": str(layout.tuned_encoder)})
    return config.model_copy(update={"encoder": tuned})


def as_published(config: Config, layout: Layout) -> Config:
    """The settings that a version has which is published from here: the encoder is the fine-tuned one."""
    return _as_seen_by(STAGES[-1], config, layout)


def _finished(stage: Stage, fingerprint: str, layout: Layout) -> Outcome | None:
    """What an earlier run left of a stage, if it is of use."""
    marker = read_marker(layout, stage.name)
    if marker is None or marker["fingerprint"] != fingerprint or not stage.intact(layout):
        return None
    return Outcome(stage.name, float(marker["seconds"]), True, marker["summary"])


def _perform(
    stage: Stage, fingerprint: str, config: Config, layout: Layout, data: str, progress: Progress
) -> Outcome:
    """Run a stage between the removal of its old marker and the writing of its new one."""
    progress.begin(stage.name)
    connect(config.ray)
    layout.marker(stage.name).unlink(missing_ok=True)
    if stage.name != "publish":  # owns nothing but what it puts beside CURRENT
        fresh_directory(layout.stage(stage.name))
    began, started = time.time(), time.monotonic()
    with PeakMemory() as memory:
        summary = _run(stage, config, layout, data, progress)
    seconds = round(time.monotonic() - started, 3)
    write_marker(layout, stage.name, fingerprint, seconds, summary)
    progress.end(stage.name, seconds)
    return Outcome(stage.name, seconds, False, summary, began, memory.megabytes)


def _remember(layout: Layout, config: Config, data: str) -> None:
    write_text(layout.config, to_toml(config))
    write_json(layout.source, {"data": data})


def _remembered(layout: Layout) -> tuple[Config, str]:
    """Settings and source of a build whose factors are there.

    Raises:
        ArtefactError: something is missing, or was made with other settings.

    """
    again = f"Run `kindling build --out {layout.root}` to its end."
    fitted = STAGES[: _stage_number(_FITTED, 0) + 1]
    for stage in fitted:
        if read_marker(layout, stage.name) is None:
            raise ArtefactError(f"the build in {layout.root} has no finished stage '{stage.name}'. {again}")
    if not layout.config.is_file():
        raise ArtefactError(f"{layout.config} is not there, which says how the build was made. {again}")
    try:
        config, data = load_config(layout.config), str(read_json(layout.source)["data"])
    except (ConfigError, KeyError, TypeError) as e:
        raise ArtefactError(f"how {layout.root} was built cannot be told: {e} {again}") from e
    for stage in fitted:
        # what comes from outside cannot be asked any more; what it became is in the fingerprints further on
        seen = _as_seen_by(stage, config, layout)
        is_told_here = stage.inputs is None or stage.name == _FITTED  # by the note of a rebuild, which stays
        if is_told_here and not _finished(stage, _fingerprint(stage, seen, layout, data), layout):
            raise ArtefactError(
                f"stage '{stage.name}' in {layout.root} was made with other settings or inputs than the last build "
                f"there asks for, which was not finished. {again}"
            )
    return config, data


def _run(stage: Stage, config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
    """Run one stage; what went wrong in a task of Ray comes out as if it had been raised here.

    Raises:
        KindlingError: the error itself, or for one that nobody expected, where its story is written.

    """
    with plain_errors(layout, f"stage '{stage.name}'"):
        return stage.run(config, layout, data, progress)


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
        stage.inputs(config, layout, data) if stage.inputs else "",
        upstream,
    )
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()
