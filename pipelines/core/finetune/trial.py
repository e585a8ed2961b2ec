"""Trials of a fine-tuning: each a training in one process, told about at every validation, kept where it can go on.

Nothing is nested here: a study trains many encoders side by side, one thread or one GPU each, and needs no second
framework inside a trial. Batches are those of a build with the same settings, whose figures are the same to rounding.

A pass is a validation; the one before any step is none. What a pass reached is the best so far, the encoder as it was
among them, for that is what a fine-tuning leaves.
"""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from pipelines.core.config import Config
from pipelines.core.errors import ArtefactError
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.checkpoint import Point, Standing, State
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.setup import prepare
from pipelines.core.objective import VALIDATION, WORST_FIGURE
from pipelines.core.search_space import Settings, apply
from pipelines.core.study import place_of
from pipelines.core.trial import Measured, Tell

_DIGITS = 6


@dataclass(frozen=True)
class FinetuneTrials:
    """How trials of one study train.

    Attributes:
        config: the present settings.
        files: examples, the same for all.
        journal: of the study; trials that run keep their states beside it.
        device: of each.

    """

    config: Config
    files: ExampleFiles
    journal: Path
    device: str

    def present(self, tell: Tell) -> None:
        """Trial 0: the settings as they are."""
        self.attempt({}, tell)

    def attempt(self, settings: Settings, tell: Tell) -> None:
        """Train with `settings`, from where an interrupted trial of the same ones was; its passes are told again.

        Raises:
            ConfigError: the settings do not go together.

        """
        config = apply(self.config, settings)
        kept = _Kept(place_of(self.journal, settings))
        with _one_thread():
            setup = prepare(config, self.files, self.device)
            watch = _Watch(kept, tell, setup.objective.metric, config.finetune.steps)
            state = kept.read()
            if state is not None:
                watch.repeat(state.standing)
            training = setup.training(config.finetune, self.files, watch)

            def rows_from(first: int) -> Iterator[pa.Table]:
                return (self.files.take(numbers) for numbers in training.order.steps(first))

            training.run(rows_from, state)


class _Watch:
    """Tells of every validation, after the state that it left is safe."""

    def __init__(self, kept: _Kept, tell: Tell, metric: str, steps: int) -> None:
        self._kept, self._tell, self._metric, self._steps = kept, tell, metric, steps

    def on_step(self, step: int, loss: float) -> None:
        """Nobody is told of steps."""

    def on_validation(self, point: Point, state: State | None) -> str | None:  # noqa: ARG002 - it is in the state
        """Keep the state, unless it was the last, and tell the best so far."""
        if state is None:  # of another worker
            return None
        standing = state.standing
        finished = standing.stopped is not None or standing.step >= self._steps
        number = len(standing.curve) - 1
        if number and not finished:
            self._kept.write(state)
        if number or finished:
            self._tell(number, self._measured(standing, standing.best), finished)
        return None

    def repeat(self, standing: Standing) -> None:
        """Tell of all passes before an interruption."""
        for number in range(1, len(standing.curve)):
            best = max(range(number + 1), key=lambda n: self._value(standing.curve[n]))
            self._tell(number, self._measured(standing, best), False)

    def _value(self, point: Point) -> float:
        value = point.figures[self._metric]
        return value if math.isfinite(value) else WORST_FIGURE

    def _measured(self, standing: Standing, best: int) -> Measured:
        point = standing.curve[best]
        # the one that decides comes first
        names = [self._metric, *(name for name in point.figures if name != self._metric)]
        figures = {n: round(point.figures[n], _DIGITS) for n in names if math.isfinite(point.figures[n])}
        return Measured(best, round(self._value(point), _DIGITS), {}, {VALIDATION: figures})


class _Kept:
    """The latest state of one trial on storage: whole or not there, in a folder named by the step it is of."""

    def __init__(self, place: Path) -> None:
        """`place` is how names of its folders begin."""
        self._place = place

    def read(self) -> State | None:
        """The latest state that can be read."""
        for folder in reversed(self._folders()):
            try:
                return checkpoint.load(folder)
            except ArtefactError:  # a disk that forgot; what it held is learnt again
                shutil.rmtree(folder, ignore_errors=True)
        return None

    def write(self, state: State) -> None:
        """Replace what there is."""
        earlier = self._folders()
        target = self._place.with_name(f"{self._place.name}.{state.standing.step:09d}")
        if target not in earlier:  # or the same settings are tried twice at a time, to the same state
            beside = self._place.with_name(f".{uuid.uuid4().hex}")
            beside.mkdir(parents=True)
            checkpoint.save(beside, state)
            beside.rename(target)
        for folder in earlier:
            if folder < target:
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return sorted(self._place.parent.glob(f"{self._place.name}.*"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Trials share a machine by CPUs, not by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
