"""One worker of Ray Train: the loop of `core.finetune` between Ray Data, which feeds it, and who watches."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray import train
from ray.train import Checkpoint
from ray.train.torch import get_device

from pipelines.core.config import Config
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.checkpoint import Point, State
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.order import Order
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.setup import prepare
from pipelines.core.layout import Layout
from pipelines.examples import files_of
from pipelines.trackers import start_trackers

_STEPS_PER_TASK = 32


@dataclass(frozen=True)
class Spec:
    """One fine-tuning, as its workers are told of it.

    Attributes:
        config: of the build.
        layout: of the build.
        run: folder of checkpoints.
        workers: how many.

    """

    config: Config
    layout: Layout
    run: Path
    workers: int

    @property
    def files(self) -> ExampleFiles:
        """What is learnt from."""
        return files_of(self.config, self.layout)

    @property
    def log(self) -> Path:
        """JSON Lines: every step as it is done."""
        return self.run / "training.jsonl"


def train_worker(told: dict[str, Any]) -> None:
    """What Ray Train runs on each worker."""
    spec: Spec = told["spec"]
    context = train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size())
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(min(told["threads"], os.cpu_count() or 1))  # CPUs of other nodes are no help
    setup = prepare(spec.config, spec.files, str(device))
    last = train.get_checkpoint()
    state = checkpoint.load(Path(last.path)) if last is not None else None
    with _Watch(spec, workers, state.standing.step if state else 0) as watch:
        training = setup.training(spec.config.finetune, spec.files, watch, workers)
        training.run(_rows_from(spec, training.order, workers), state)


class _TakeRows:
    """Rows of several steps, read together."""

    def __init__(self, files: ExampleFiles) -> None:
        self._files = files

    def __call__(self, plan: pa.Table) -> pa.Table:
        return self._files.take(np.concatenate(plan.column("numbers").to_numpy()))


def _rows_from(spec: Spec, order: Order, workers: Workers) -> Callable[[int], Iterator[pa.Table]]:
    """Part of every batch from a step on, for this worker, through Ray Data."""
    part = order.part(workers.rank, workers.world)

    def rows_from(first: int) -> Iterator[pa.Table]:
        left = spec.config.finetune.steps - first
        numbers = [numbers[part] for _, numbers in zip(range(left), order.steps(first), strict=False)]
        plans = [
            pa.table({"numbers": pa.array(numbers[at : at + _STEPS_PER_TASK], pa.list_(pa.int64()))})
            for at in range(0, left, _STEPS_PER_TASK)
        ]
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows_ds = ray.data.from_arrow(plans).map_batches(
            _TakeRows(spec.files).__call__, batch_format="pyarrow", batch_size=None, num_cpus=0.25
        )
        yield from rows_ds.iter_batches(
            batch_size=part.stop - part.start, batch_format="pyarrow", prefetch_batches=2
        )

    return rows_from


class _Watch:
    """Tells Ray Train, the log, TensorBoard and whoever else is configured."""

    def __init__(self, spec: Spec, workers: Workers, step: int) -> None:
        self._spec, self._workers = spec, workers
        self._started = self._last = time.monotonic()
        self._first = self._step = step

    def __enter__(self) -> _Watch:
        if self._workers.is_first:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - on the first worker only

            self._log = self._spec.log.open("a" if self._step else "w", encoding="utf-8")
            self._board = SummaryWriter(str(self._spec.run / "tensorboard"), purge_step=self._step)
            self._trackers = start_trackers(self._spec.config.finetune, self._spec.run.name)
        return self

    def __exit__(self, *_: object) -> None:
        if self._workers.is_first:
            self._log.close()
            self._board.close()
            for tracker in self._trackers:
                tracker.close()

    def on_step(self, step: int, loss: float) -> None:
        """One line of the log; what a second brings is told of learning alone."""
        self._last = time.monotonic()
        rate = (step - self._first) * self._spec.config.finetune.batch_size / (self._last - self._started)
        self._tell(step, {"loss": loss, "examples_per_second": rate})

    def on_validation(self, point: Point, state: State | None) -> str | None:
        """A checkpoint on storage, and its figures."""
        figures = {f"validation/{name}": value for name, value in point.figures.items()}
        self._started += time.monotonic() - self._last
        if state is None:
            train.report(figures | {"step": point.step})
            return None
        self._tell(point.step, figures)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder), state)
            train.report(figures | {"step": point.step}, checkpoint=Checkpoint.from_directory(folder))
        return None

    def _tell(self, step: int, figures: dict[str, float]) -> None:
        self._log.write(json.dumps(checkpoint.without_nan({"step": step, **figures})) + "\n")
        self._log.flush()
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.log(step, figures)
