"""The search for settings: prepares what trials share, runs those that are missing, writes down what came out.

Reads: what the stages up to profile left, or up to split for a fine-tuning; of the held-out sets, validation alone.
Writes: `tune/MODEL/` or `tune/finetune/`: the study as it goes, then the table of trials, a report and `best.toml`.

What trials share is made once and stays in the object store or in files; a trial receives a reference.
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
from typing import Literal

from pipelines.cluster import connect, count_cpus, count_gpus
from pipelines.core.config import Config
from pipelines.core.errors import ConfigError
from pipelines.core.layout import Layout
from pipelines.core.objective import Aim
from pipelines.core.report import render_trials
from pipelines.core.search_defaults import OURS
from pipelines.core.search_space import Space, apply
from pipelines.core.short_toml import short_toml
from pipelines.core.storage import write_text
from pipelines.core.study import DEFAULTS, Journal, Trial, as_report, best_of, importance
from pipelines.flow import build, exclusive
from pipelines.plain_errors import plain_errors
from pipelines.progress import Progress
from pipelines.studies import FinetuneStudy, ModelStudy, Study
from pipelines.trials import run_present, run_trials

__all__ = ["Tuned", "tune"]

_ROUNDS = 3
"""Of asking for what is missing."""


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
    passed_over: list[str]
    new: int
    missing: int
    files: tuple[Path, ...]


def tune(
    config: Config, data: str, out: Path, *, stage: Literal["model", "finetune"] = "model", model: str = OURS,
    trials: int | None = None, command: str = "", progress: Progress | None = None,
) -> Tuned:  # fmt: skip
    """Search for better settings, or go on with the search that was begun.

    Args:
        config: the present settings; trial 0 is these.
        data: of the tables, as for a build.
        out: directory of the build; the stages that trials need are brought up to date.
        stage: whose settings: those of what is fitted, or of what the encoder is taught.
        model: of the first, `kindling` or a baseline.
        trials: in all, instead of `tune.trials`.
        command: what the user typed, for the head of `best.toml`.
        progress: for people.

    Raises:
        BusyError: a build or another study is running in `out`.
        ConfigError: the space or the model cannot be used, or no settings could be used.
        InputError: there is nothing to measure on.

    """
    layout, progress = Layout(out), progress or Progress(quiet=True)
    study: Study = (
        FinetuneStudy(config, layout, data) if stage == "finetune" else ModelStudy(config, layout, model)
    )
    space, asked = study.space, config.tune.trials if trials is None else trials
    with exclusive(layout):
        build(config, data, out, until_stage=study.until, progress=progress)
        journal = Journal(layout.study(space.model, _fingerprint(study)))
        before = len(journal.ended)
        if before < asked:
            connect(config.ray)
            with plain_errors(layout, f"tuning {space.model}"):
                _run(config, layout, study, journal, asked, progress)
            journal.close()
        told = sorted(journal.ended.values(), key=lambda t: t.number)
        best = best_of(told)
        if best is None:
            raise ConfigError(
                f"none of {len(told)} trials could be solved; the first said: {told[0].error} Change tune.search."
            )
        aim = study.aim(journal)
        remarks = _remarks(aim, told, best, space, command)
        _write(layout, space, aim, told, short_toml(apply(config, best.settings), remarks))
    passed_over = [name for name, n in (journal.users or {}).items() if not n]
    files = (layout.best_config(space.model), layout.trials(space.model), layout.tuning_report(space.model))
    return Tuned(told, best, aim.words(), passed_over, len(told) - before, max(asked - len(told), 0), files)


def _fingerprint(study: Study) -> str:
    told = json.dumps(study.depends_on(), sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _run(
    config: Config, layout: Layout, study: Study, journal: Journal, asked: int, progress: Progress
) -> None:
    job, rules = study.share(journal, progress)
    if DEFAULTS not in journal.ended:
        journal.end(run_present(rules, job))
        present = journal.ended[DEFAULTS]
        reached = present.error if present.objective is None else f"{present.objective:.4f}"
        progress.console.print(f"  trial 0, the settings as they are: {reached}", markup=False)
    scratch = layout.tune_scratch(study.space.model)
    started, limit = time.monotonic(), config.tune.timeout_minutes * 60 or float("inf")
    room = count_gpus() if rules.gpus else count_cpus()
    # a process that dies as its trial ends takes the end with it: Ray Tune is done, the trial is not
    for _ in range(_ROUNDS):
        missing = asked - len(journal.ended)
        if missing <= 0 or time.monotonic() - started >= limit:
            return
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        try:
            at_once = min(config.tune.max_concurrent or room, missing)
            run_trials(rules, job, journal, missing, at_once=at_once, scratch=scratch, progress=progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        journal.release()


def _write(layout: Layout, space: Space, aim: Aim, told: list[Trial], toml: str) -> None:
    model, shares = space.model, importance(space, told)
    lines = (json.dumps(asdict(t), ensure_ascii=False, allow_nan=False) for t in told)
    write_text(layout.trials(model), "".join(f"{line}\n" for line in lines))
    write_text(layout.tuning_report(model), render_trials(as_report(told, aim.words(), shares)))
    write_text(layout.best_config(model), toml)


def _remarks(aim: Aim, told: Iterable[Trial], best: Trial, space: Space, command: str) -> list[str]:
    """The head of `best.toml`: what is in it, why, and where it came from."""
    trials = {t.number: t for t in told}
    present = trials[DEFAULTS]
    lines = [
        f"Best of {len(trials)} trials of {space.model}, trial {best.number}; {datetime.now(UTC):%Y-%m-%d}. "
        "Only what differs from the defaults is here.",
        f"Objective: {aim.words()}.",
    ]
    lines += [f"  {name:<16}{_figures(t, aim)}" for name, t in (("settings before", present), ("best", best))]
    return [*lines, f"Made by: {command}"] if command else lines


def _figures(trial: Trial, aim: Aim) -> str:
    if trial.objective is None:
        return "could not be solved"
    figures = "; ".join(
        f"{name} " + " ".join(f"{m} {trial.figures[name][m]:.4f}" for m in metrics)
        for name, metrics in aim.shown
    )
    return f"{trial.objective:.4f} ({figures})"
