"""The search for settings: prepares what trials share, runs those that are missing, writes down what came out.

Reads: what the stages up to profile left; of the held-out sets, validation alone.
Writes: `tune/MODEL/`: the study as it goes, then the table of trials, a report and `best.toml`.

Training, slices and what their users tell are loaded by one task and stay in the object store; a trial receives a
reference.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import ray

from pipelines.cluster import connect, count_cpus
from pipelines.core.baselines import unavailable
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.config import Config
from pipelines.core.errors import ConfigError, InputError
from pipelines.core.layout import Layout
from pipelines.core.material import Material, load_material
from pipelines.core.objective import Objective
from pipelines.core.report import render_trials
from pipelines.core.search_defaults import OURS
from pipelines.core.search_space import Space, apply, make_space
from pipelines.core.short_toml import short_toml
from pipelines.core.slices import SLICES, SliceName
from pipelines.core.storage import read_json, write_text
from pipelines.core.study import DEFAULTS, Journal, Trial, as_report, best_of, importance
from pipelines.core.trial import measure_present
from pipelines.flow import build, exclusive, plain_errors
from pipelines.progress import Progress
from pipelines.trials import Job, run_trials

__all__ = ["Tuned", "tune"]

_ROUNDS = 3
"""Of asking for what is missing."""

_COUNTS_WORDS = "bm25"
_READS = ("ingest", "split", "profile")


@dataclass(frozen=True)
class Tuned:
    """A study and what came of it.

    Attributes:
        trials: that ended, by number.
        best: the best of them.
        objective: in words.
        passed_over: slices of the objective that have no users to measure.
        new: trials that this run ended.
        missing: trials that there was no time for.
        files: what was written.

    """

    trials: list[Trial]
    best: Trial
    objective: str
    passed_over: list[SliceName]
    new: int
    missing: int
    files: tuple[Path, ...]


def tune(
    config: Config, data: str, out: Path, *, model: str = OURS, trials: int | None = None, command: str = "",
    progress: Progress | None = None,
) -> Tuned:  # fmt: skip
    """Search for better settings of `model`, or go on with the search that was begun.

    Args:
        config: the present settings; trial 0 is these.
        data: of the tables, as for a build.
        out: directory of the build; its stages up to profile are brought up to date.
        model: `kindling` or a baseline.
        trials: in all, instead of `tune.trials`.
        command: what the user typed, for the head of `best.toml`.
        progress: for people.

    Raises:
        BusyError: a build or another study is running in `out`.
        ConfigError: the space or the model cannot be used, or no settings could be solved.
        InputError: no slice has users to measure.

    """
    space, layout, progress = make_space(config, model), Layout(out), progress or Progress(quiet=True)
    reason = unavailable(model)
    if reason is not None:
        raise ConfigError(f"the model '{model}' is {reason}.")
    asked = config.tune.trials if trials is None else trials
    with exclusive(layout):
        build(config, data, out, until_stage="profile", progress=progress)
        journal = Journal(layout.study(model, _fingerprint(config, layout, space)))
        before = len(journal.ended)
        if before < asked:
            connect(config.ray)
            with plain_errors(layout, f"tuning {model}"):
                _run(config, layout, space, journal, asked, progress)
        told = sorted(journal.ended.values(), key=lambda t: t.number)
        objective = _objective(config, journal)
        best = best_of(told)
        if best is None:
            raise ConfigError(
                f"none of {len(told)} trials could be solved; the first said: {told[0].error} Change tune.search."
            )
        remarks = _remarks(objective, told, best, space, command)
        _write(layout, space, objective, told, short_toml(apply(config, best.settings), remarks))
    passed_over = [name for name, n in (journal.users or {}).items() if not n]
    files = (layout.best_config(model), layout.trials(model), layout.tuning_report(model))
    return Tuned(
        told, best, objective.words(), passed_over, len(told) - before, max(asked - len(told), 0), files
    )


def _fingerprint(config: Config, layout: Layout, space: Space) -> str:
    """Changes with whatever could give a trial another objective; not with how many are asked for, or when."""
    settings = config.tune
    parts = (
        repr(space),
        config.fingerprint("factorize", "blend", exclude=frozenset({"factorize.shards"}))
        if space.model == OURS
        else (baseline_settings(config).model_dump(), config.factorize.seed),
        settings.model_dump(
            include={"objective", "metrics", "passes", "grace", "patience", "max_users", "seed"}
        ),
        {name: read_json(layout.marker(name))["output"] for name in _READS},
    )
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _run(
    config: Config, layout: Layout, space: Space, journal: Journal, asked: int, progress: Progress
) -> None:
    material, counted = _load.remote(layout, config, space.model)
    journal.open(ray.get(counted))
    job = Job(config, space, _objective(config, journal))
    if DEFAULTS not in journal.ended:
        journal.end(ray.get(_present.remote(job, [material])))
        present = journal.ended[DEFAULTS]
        reached = present.error if present.objective is None else f"{present.objective:.4f}"
        progress.console.print(f"  trial 0, the settings as they are: {reached}", markup=False)
    scratch = layout.tune_scratch(space.model)
    started, limit = time.monotonic(), config.tune.timeout_minutes * 60 or float("inf")
    # a process that dies as its trial ends takes the end with it: Ray Tune is done, the trial is not
    for _ in range(_ROUNDS):
        missing = asked - len(journal.ended)
        if missing <= 0 or time.monotonic() - started >= limit:
            return
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        try:
            at_once = min(config.tune.max_concurrent or count_cpus(), missing)
            run_trials(job, material, journal, missing, at_once=at_once, scratch=scratch, progress=progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        journal.release()


@ray.remote(num_returns=2)
def _load(layout: Layout, config: Config, model: str) -> tuple[Material, dict[str, int]]:
    """What trials share, and the users of each slice of the objective."""
    wanted = [s for s in SLICES if s in config.tune.objective]
    material = load_material(layout, wanted, config.tune.max_users, with_texts=model == _COUNTS_WORDS)
    return material, {
        s: len(material.questions[s][0].users) if s in material.questions else 0 for s in wanted
    }


@ray.remote
def _present(job: Job, held: list[ray.ObjectRef]) -> Trial:
    """Trial 0, which is never stopped early: what there is to beat."""
    started, present = time.monotonic(), job.space.present
    try:
        found = measure_present(job.space.model, ray.get(held[0]), job.config, job.objective)
    except ConfigError as e:
        return Trial(DEFAULTS, "ERROR", None, {}, present, error=str(e))
    seconds = round(time.monotonic() - started, 2)
    return Trial(
        DEFAULTS,
        "COMPLETE",
        found.objective,
        {},
        present | found.settings,
        found.figures,
        [found.objective],
        seconds,
    )


def _objective(config: Config, journal: Journal) -> Objective:
    """The objective over the slices that have users.

    Raises:
        InputError: none has.

    """
    weights: dict[SliceName, float] = {
        name: config.tune.objective[name] for name, n in (journal.users or {}).items() if n
    }
    if not weights:
        raise InputError(
            f"none of the slices {', '.join(config.tune.objective)} of tune.objective has users to measure on "
            "validation. Give more interactions, hold out a larger share (split.validation, split.cold_items), or "
            "name other slices."
        )
    return Objective(weights, config.tune.metrics)


def _write(layout: Layout, space: Space, objective: Objective, told: list[Trial], toml: str) -> None:
    model, shares = space.model, importance(space, told)
    lines = (json.dumps(asdict(t), ensure_ascii=False, allow_nan=False) for t in told)
    write_text(layout.trials(model), "".join(f"{line}\n" for line in lines))
    write_text(layout.tuning_report(model), render_trials(as_report(told, objective.words(), shares)))
    write_text(layout.best_config(model), toml)


def _remarks(
    objective: Objective, told: Iterable[Trial], best: Trial, space: Space, command: str
) -> list[str]:
    """The head of `best.toml`: what is in it, why, and where it came from."""
    trials = {t.number: t for t in told}
    present = trials[DEFAULTS]
    lines = [
        f"Best of {len(trials)} trials of {space.model}, trial {best.number}; {datetime.now(UTC):%Y-%m-%d}. "
        "Only what differs from the defaults is here.",
        f"Objective: {objective.words()}.",
    ]
    lines += [
        f"  {name:<16}{_figures(t, objective)}" for name, t in (("settings before", present), ("best", best))
    ]
    return [*lines, f"Made by: {command}"] if command else lines


def _figures(trial: Trial, objective: Objective) -> str:
    if trial.objective is None:
        return "could not be solved"
    figures = "; ".join(
        f"{name} " + " ".join(f"{m} {trial.figures[name][m]:.4f}" for m in objective.metrics)
        for name in objective.weights
    )
    return f"{trial.objective:.4f} ({figures})"
