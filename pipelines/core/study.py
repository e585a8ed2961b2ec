"""A study on storage: every trial when it started and when it ended, one JSON line each, appended as it happens.

That file is the whole state. A study that was killed goes on from it: trials that ended are told to the search again,
those that had only started are tried again under their number, and both count among the trials that were asked for.
A trial that takes long keeps its state beside the file, see `place_of`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna

from pipelines.core.objective import Figures
from pipelines.core.search_space import Settings, Space
from pipelines.core.storage import write_text

State = Literal["COMPLETE", "PRUNED", "ERROR"]
DEFAULTS = 0
"""Number of the trial that is the configuration as it is."""
_LEAST_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class Trial:
    """One trial that ended.

    Attributes:
        number: 0 for the configuration as it is, then in the order of starting.
        state: COMPLETE, PRUNED (stopped early, worse than others) or ERROR.
        objective: of the best pass; None for an error.
        proposed: what the search suggested, as it was tried; empty for number 0.
        settings: all that varies, with what the trial found by itself.
        figures: slice to metric to value, of the best pass.
        curve: the best objective yet after each pass.
        seconds: from the start of the fit.
        error: what went wrong, or empty.

    """

    number: int
    state: State
    objective: float | None
    proposed: Settings
    settings: Settings
    figures: Figures = field(default_factory=dict)
    curve: list[float] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""


class Journal:
    """The file of one study; one process writes it.

    Attributes:
        ended: trials by number.
        started: what was proposed, by number; those that ended among them.
        users: of each slice of the objective, or None before they were counted; of a fine-tuning its examples.

    """

    def __init__(self, path: Path) -> None:
        """Read what is there. A last line that was cut short by a kill never happened."""
        self.path = path
        self.ended: dict[int, Trial] = {}
        self.started: dict[int, Settings] = {}
        self.users: dict[str, int] | None = None
        self._running: set[int] = set()  # numbers this process gave out
        whole = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                break
            whole.append(line)
            if event["event"] == "opened":
                self.users = event["users"]
            elif event["event"] == "started":
                self.started[int(event["number"])] = event["proposed"]
            else:
                trial = Trial(**event["trial"])
                self.ended[trial.number] = trial
        write_text(path, "".join(f"{line}\n" for line in whole))
        for leftover in folder_of(path).glob(".*"):  # of trials that were killed while they wrote
            shutil.rmtree(leftover, ignore_errors=True)

    @property
    def interrupted(self) -> dict[int, Settings]:
        """Trials that started and did not end, by number."""
        return {n: s for n, s in self.started.items() if n not in self.ended}

    def open(self, users: dict[str, int]) -> None:
        """Note how many users each slice of the objective has."""
        if self.users is None:
            self.users = users
            self._append({"event": "opened", "users": users})

    def start(self, proposed: Settings) -> int:
        """Note that a trial starts; its number, which is the old one if it was interrupted before."""
        numbers = [n for n, s in self.interrupted.items() if s == proposed and n not in self._running]
        number = numbers[0] if numbers else max([DEFAULTS, *self.started, *self.ended]) + 1
        if not numbers:
            self.started[number] = proposed
            self._append({"event": "started", "number": number, "proposed": proposed})
        self._running.add(number)
        return number

    def release(self) -> None:
        """Note that nothing runs any more: what started and did not end may be started again."""
        self._running.clear()

    def end(self, trial: Trial) -> None:
        """Note that a trial ended; it needs no state any more."""
        self.ended[trial.number] = trial
        self._append({"event": "ended", "trial": asdict(trial)})
        place = place_of(self.path, trial.proposed)
        for state in place.parent.glob(f"{place.name}.*"):
            shutil.rmtree(state, ignore_errors=True)

    def close(self) -> None:
        """Remove what trials shared and kept beside the file, unless some were interrupted."""
        if not self.interrupted:
            shutil.rmtree(folder_of(self.path), ignore_errors=True)

    def _append(self, event: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
            handle.flush()
            os.fsync(handle.fileno())


def folder_of(journal: Path) -> Path:
    """What trials of a study share, and what those that run keep; of no use when all have ended."""
    return journal.with_suffix("")


def place_of(journal: Path, proposed: Settings) -> Path:
    """How the names of folders begin in which a trial keeps its state, until it ends."""
    key = hashlib.blake2b(json.dumps(proposed, sort_keys=True).encode(), digest_size=8).hexdigest()
    return folder_of(journal) / key


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The completed trial with the highest objective, the earliest of equals."""
    complete = [t for t in trials if t.state == "COMPLETE" and t.objective is not None]
    return max(complete, key=lambda t: (t.objective or 0.0, -t.number), default=None)


def importance(space: Space, trials: Iterable[Trial]) -> dict[str, float] | None:
    """Share of each fitted axis in reaching the best tenth (PED-ANOVA, Watanabe 2023); None of too few trials."""
    complete = [
        t for t in trials if t.state == "COMPLETE" and t.proposed.keys() == {a.name for a in space.fitted}
    ]
    if len(complete) < _LEAST_FOR_IMPORTANCE or len(space.fitted) < 2:
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    distributions = {a.name: a.distribution() for a in space.fitted}
    for t in complete:
        study.add_trial(
            optuna.trial.create_trial(params=t.proposed, distributions=distributions, value=t.objective)
        )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", UserWarning
        )  # that the best are no fewer than all: nothing to tell apart
        try:
            found = optuna.importance.get_param_importances(study)
        except (UserWarning, ValueError, RuntimeError):
            return None
    return {name: round(float(share), 4) for name, share in found.items()}


def as_report(trials: Iterable[Trial], objective: str, shares: dict[str, float] | None) -> dict[str, Any]:
    """The study as `report.render_trials` takes it."""
    told = sorted(trials, key=lambda t: t.number)
    best = best_of(told)
    return {
        "objective": objective,
        "trials": [
            {
                "number": t.number, "state": t.state, "objective": t.objective, "settings": t.settings,
                "slices": t.figures, "seconds": t.seconds, "iterations": len(t.curve) or None, "error": t.error,
            }
            for t in told
        ],
        "best": None if best is None else best.number,
        "defaults": DEFAULTS,
        "importance": shares,
    }  # fmt: skip
