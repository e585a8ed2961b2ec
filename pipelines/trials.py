"""Trials on Ray Tune: what runs in a trial's process, and what the driver hears of it.

Optuna suggests, asynchronous successive halving (Li et al. 2018) stops, `core.study.Journal` remembers. Ray Tune's
own record of an experiment is of no use here: it is pickled, it lags behind, and it cannot be told to try more.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
import ray
from ray import tune as ray_tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from pipelines.core.config import TuneConfig
from pipelines.core.errors import ConfigError
from pipelines.core.search_space import Settings, Space
from pipelines.core.study import DEFAULTS, Journal, State, Trial, best_of
from pipelines.core.trial import Measured, Tell
from pipelines.progress import Bar, Progress

__all__ = ["Job", "Rules", "run_present", "run_trials"]

_PASS, _OBJECTIVE, _TOLD = "pass", "objective", "told"
_HALVING = 3
"""At each rung the best third goes on."""
_STARTUP = 10
"""Random settings before Optuna's picture of the space is trusted."""


class Job(Protocol):
    """How a trial runs, with all that trials share; both raise ConfigError for settings that cannot be used."""

    def present(self, tell: Tell) -> None:
        """Trial 0: the settings as they are."""

    def attempt(self, settings: Settings, tell: Tell) -> None:
        """A trial of these settings."""


@dataclass(frozen=True)
class Rules:
    """What holds for all trials of a study.

    Attributes:
        space: what varies.
        settings: of the search.
        passes: of a trial at most.
        worst: the objective of settings that cannot be used.
        gpus: of a trial, beside its CPU.
        repeats_present: whether a trial of the present settings may reach more than trial 0 did.

    """

    space: Space
    settings: TuneConfig
    passes: int
    worst: float
    gpus: int = 0
    repeats_present: bool = True

    def known(self, journal: Journal) -> list[Trial]:
        """Trials that ended and that the search is told of."""
        ended = journal.ended.values()
        return [t for t in ended if t.number != DEFAULTS or not self.repeats_present]


def run_present(rules: Rules, job: ray.ObjectRef) -> Trial:
    """Trial 0, which is never stopped early: what there is to beat."""
    trial: Trial = ray.get(_present.options(num_cpus=1, num_gpus=rules.gpus).remote(rules.space, [job]))
    return trial


@ray.remote
def _present(space: Space, held: list[ray.ObjectRef]) -> Trial:
    started, passes = time.monotonic(), list[Measured]()
    job: Job = ray.get(held[0])
    try:
        job.present(lambda _number, best, _finished: passes.append(best))
    except ConfigError as e:
        return Trial(DEFAULTS, "ERROR", None, {}, space.present, error=str(e))
    best, curve = passes[-1], [found.objective for found in passes]
    seconds = round(time.monotonic() - started, 2)
    settings = space.present | best.settings
    return Trial(DEFAULTS, "COMPLETE", best.objective, {}, settings, best.figures, curve, seconds)


def run_trials(
    rules: Rules, job: ray.ObjectRef, journal: Journal, n_trials: int, *, at_once: int, scratch: Path,
    progress: Progress,
) -> None:  # fmt: skip
    """Run `n_trials` more, or as many as there is time for; each goes to the journal as it ends.

    Args:
        rules: of the study.
        job: reference to a `Job`.
        journal: the study so far.
        n_trials: how many.
        at_once: trials at a time, each on one CPU, or on one and a GPU.
        scratch: for Ray Tune's files, on storage that all nodes see.
        progress: for people.

    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # a directory of logs per trial that nobody reads
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # prints tables even when told to be silent
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # warns of every missing log
    settings, stopped = rules.settings, _Stopped()
    resources = {"cpu": 1, **({"gpu": rules.gpus} if rules.gpus else {})}
    with progress.bar("trials", n_trials) as advance:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(ray_tune.with_parameters(_trial, rules=rules, held=[job]), resources),
            tune_config=ray_tune.TuneConfig(
                search_alg=_search(rules, journal),
                scheduler=_Halving(rules, journal, stopped),
                num_samples=n_trials,
                max_concurrent_trials=at_once,
                time_budget_s=settings.timeout_minutes * 60 or None,
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(
                name="trials",
                storage_path=str(scratch),
                callbacks=[_Recorder(rules.space, journal, stopped, progress, advance)],
                failure_config=ray_tune.FailureConfig(max_failures=1),  # a lost process, not lost settings
                verbose=0,
            ),
        )
        tuner.fit()


def _trial(proposed: dict[str, Any], rules: Rules, held: list[ray.ObjectRef]) -> None:
    """Runs in a process of its own; reports the best pass yet after each pass."""
    job: Job = ray.get(held[0])
    settings = rules.space.rounded(proposed)
    started = time.monotonic()

    def tell(number: int, best: Measured, finished: bool) -> None:
        told = {
            "settings": settings | best.settings, "figures": best.figures,
            "seconds": round(time.monotonic() - started, 2), "finished": finished, "error": "",
        }  # fmt: skip
        ray_tune.report({_PASS: number, _OBJECTIVE: best.objective, _TOLD: told, "done": finished})

    try:
        job.attempt(settings, tell)
    except ConfigError as e:
        seconds = round(time.monotonic() - started, 2)
        told = {"settings": settings, "figures": {}, "seconds": seconds, "finished": True, "error": str(e)}
        # the search learns to keep away; an exception would teach it nothing
        ray_tune.report({_PASS: 0, _OBJECTIVE: rules.worst, _TOLD: told, "done": True})


def _search(rules: Rules, journal: Journal) -> OptunaSearch:
    """Optuna, told of all trials that ended; interrupted ones, then the present settings, come first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start, first = rules.space.start(), list(journal.interrupted.values())
    if rules.repeats_present and start not in journal.started.values():
        first.append(start)
    sampler = optuna.samplers.TPESampler(
        # with the seed alone a resumed study would suggest what the first run did
        seed=(rules.settings.seed + len(journal.ended.keys() | journal.started.keys())) % 2**32,
        multivariate=True,
        constant_liar=True,
        n_startup_trials=_STARTUP,
    )
    search = OptunaSearch(
        {a.name: a.distribution() for a in rules.space.fitted}, metric=_OBJECTIVE, mode="max", sampler=sampler,
        points_to_evaluate=first or None,
    )  # fmt: skip
    for trial in rules.known(journal):
        objective = rules.worst if trial.objective is None else trial.objective
        search.add_evaluated_point(trial.proposed or start, objective)
    return search


@dataclass
class _Stopped:
    """Ids of trials that were stopped for being worse than others."""

    ids: set[str] = field(default_factory=set)


class _Halving(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Ray's ASHA, which remembers whom it stopped and starts from what the journal has seen."""

    def __init__(self, rules: Rules, journal: Journal, stopped: _Stopped) -> None:
        super().__init__(
            time_attr=_PASS, metric=_OBJECTIVE, mode="max", grace_period=min(rules.settings.grace, rules.passes),
            max_t=rules.passes, reduction_factor=_HALVING, stop_last_trials=False,
        )  # fmt: skip
        self._told_of = stopped
        for trial in rules.known(journal):
            past = SimpleNamespace(trial_id=f"past-{trial.number}")
            self.on_trial_add(None, past)
            for number, objective in enumerate(trial.curve, start=1):
                self.on_trial_result(None, past, {_PASS: number, _OBJECTIVE: objective})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ANN401 - Ray's
        """STOP or CONTINUE."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == self.STOP:
            self._told_of.ids.add(trial.trial_id)
        return decision


class _Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Writes the journal and tells people."""

    def __init__(
        self, space: Space, journal: Journal, stopped: _Stopped, progress: Progress, advance: Bar
    ) -> None:
        self._space, self._journal, self._stopped = space, journal, stopped
        self._progress, self._advance = progress, advance
        self._numbers: dict[str, int] = {}
        self._curves: dict[str, dict[int, float]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles its callbacks, and this one is tied to files and a terminal."""
        return {}

    def on_trial_start(self, *, trial: Any, **info: Any) -> None:  # noqa: ARG002, ANN401 - Ray's
        """A trial has a process; once more after that process was lost."""
        if trial.trial_id not in self._numbers:
            self._numbers[trial.trial_id] = self._journal.start(self._space.rounded(trial.config))
        self._curves[trial.trial_id] = {}

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **info: Any) -> None:  # noqa: ARG002, ANN401
        """A pass was measured."""
        if result[_PASS]:
            self._curves[trial.trial_id][result[_PASS]] = result[_OBJECTIVE]

    def on_trial_complete(self, *, trial: Any, **info: Any) -> None:  # noqa: ARG002, ANN401 - Ray's
        """A trial ended or was stopped; one that only time has stopped is left to a later run."""
        told = trial.last_result.get(_TOLD)
        if told is None or not (told["finished"] or trial.trial_id in self._stopped.ids):
            return
        state: State = "ERROR" if told["error"] else "COMPLETE" if told["finished"] else "PRUNED"
        objective = None if told["error"] else float(trial.last_result[_OBJECTIVE])
        self._end(trial, state, objective, told)

    def on_trial_error(self, *, trial: Any, **info: Any) -> None:  # noqa: ARG002, ANN401 - Ray's
        """A trial failed in a way that nobody expected."""
        if trial.trial_id in self._numbers:
            reason = str(trial.get_error() or trial.get_pickled_error() or "its process was lost")
            told = {
                "settings": self._space.rounded(trial.config),
                "figures": {},
                "seconds": 0.0,
                "error": reason,
            }
            self._end(trial, "ERROR", None, told)

    def _end(self, trial: Any, state: State, objective: float | None, told: dict[str, Any]) -> None:  # noqa: ANN401
        before = best_of(self._journal.ended.values())
        curve = self._curves[trial.trial_id]
        ended = Trial(
            self._numbers[trial.trial_id], state, objective, self._space.rounded(trial.config), told["settings"],
            told["figures"], [curve[n] for n in sorted(curve)], told["seconds"], told["error"],
        )  # fmt: skip
        self._journal.end(ended)
        self._advance()
        self._say(ended, before)

    def _say(self, trial: Trial, before: Trial | None) -> None:
        say = self._progress.console.print
        if trial.objective is None:
            say(
                f"  trial {trial.number}: {trial.error.strip().splitlines()[-1]}",
                markup=False,
                style="yellow",
            )
            return
        passes = f"{len(trial.curve)} passes" + (", stopped early" if trial.state == "PRUNED" else "")
        reached = before.objective if before is not None and before.objective is not None else float("-inf")
        better = trial.state == "COMPLETE" and trial.objective > reached
        best = "the best yet" if better else f"best {reached:.4f}"
        say(
            f"  trial {trial.number}: {trial.objective:.4f} ({best}; {passes})",
            markup=False,
            style="bold" if better else "",
        )
