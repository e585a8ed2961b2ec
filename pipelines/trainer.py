"""One fine-tuning from examples to an encoder's folder, on the workers of Ray Train.

Ray Train runs the loop of `core.finetune` on its workers. Each worker streams its part of every batch through Ray Data:
which rows those are follows from seed and step alone (`core.finetune.order`), so a restarted worker, or another number
of workers, meets exactly the same batches.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines.cluster import count_cpus, count_gpus, room_for_actors
from pipelines.core.config import Config, to_toml
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.errors import ConfigError, KindlingError
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.setup import beside, export, prepare
from pipelines.core.layout import ENCODER_NOTE, Layout
from pipelines.core.storage import write_json, write_text
from pipelines.examples import files_of, write_examples
from pipelines.progress import Progress
from pipelines.training import Spec, train_worker

_ATTEMPTS = 3
"""Workers may be lost as often before the stage gives up."""
_FOR_OTHERS = 1
"""Logical CPUs left to Ray Data; without, workers and what feeds them wait for each other for ever."""


def teach(
    config: Config, layout: Layout, folder: Path, since: float | None, progress: Progress
) -> dict[str, object]:
    """Write the examples, train in `folder` from where it was, export the best encoder with its report.

    Args:
        config: with the encoder to start from.
        layout: of the build.
        folder: of checkpoints and TensorBoard events; what was left beside it by other trainings is removed.
        since: seconds UTC up to which the encoder has learnt already; None: nothing.
        progress: for people.

    Raises:
        KindlingError: what a worker had to say, or where it is told.

    """
    spec = Spec(config, layout, folder, _workers(config))
    with progress.bar("writing examples", 1) as advance:
        newest: float | None = ray.get(write_examples.remote(config, layout, since))
        advance()
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with progress.following(spec.log, "training", config.finetune.steps):
        result = _fit(spec)
    if result.checkpoint is None:
        raise KindlingError(
            f"training ended without a checkpoint. Run the build again; {spec.run} tells more."
        )
    report: dict[str, object] = ray.get(_export.remote(config, layout, Path(result.checkpoint.path), newest))
    write_text(layout.finetune_config, to_toml(config))
    write_json(layout.finetune_report, report)
    _tidy(spec)
    return report


def _tidy(spec: Spec) -> None:
    """Leave the log and the events of this training alone."""
    for leftover in spec.run.parent.glob("*"):
        if leftover != spec.run:
            shutil.rmtree(leftover, ignore_errors=True)
    # what Ray Train would go on from, its own notes included: another run of the stage begins anew
    # (those first: they must not name checkpoints that are gone)
    for leftover in sorted(spec.run.iterdir(), key=Path.is_dir):
        if leftover.is_dir() and leftover.name.startswith("checkpoint_"):
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.is_file() and leftover != spec.log:
            leftover.unlink()


def _workers(config: Config) -> int:
    asked, gpus = config.finetune.workers, count_gpus()
    room = gpus or room_for_actors()
    if asked > room:
        raise ConfigError(
            f"finetune.workers = {asked} does not fit this cluster, which has room for {room}: one per GPU, or else "
            "per CPU with one left for what feeds them. Lower it, or set 0 to let Kindling choose."
        )
    chosen = asked or gpus or 1
    if chosen > config.finetune.batch_size:
        raise ConfigError(
            f"finetune.batch_size = {config.finetune.batch_size} is less than its {chosen} workers."
        )
    return chosen


def _fit(spec: Spec) -> Result:
    gpus = count_gpus()
    logical = ray.cluster_resources().get("CPU", 1.0)
    share = max(0.1, min(1.0, (logical - _FOR_OTHERS) / spec.workers / 2))
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"spec": spec, "threads": max(1, count_cpus() // spec.workers)},
        scaling_config=ScalingConfig(
            num_workers=spec.workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": share, **({"GPU": 1} if gpus else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name=spec.run.name,
            storage_path=str(spec.run.parent),
            failure_config=FailureConfig(max_failures=_ATTEMPTS),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        return trainer.fit()
    except TrainingFailedError as e:
        raise _told_by(e, spec) from e


def _told_by(error: TrainingFailedError, spec: Spec) -> KindlingError:
    """A worker's own error where it is one of ours; else where the whole story is."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, KindlingError):
            return cause
    write_text(spec.layout.error, str(error) + "".join(f"\nworker {n}: {f}" for n, f in failures.items()))
    reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return KindlingError(f"fine-tuning failed: {reason.strip()} The whole story: {spec.layout.error}")


@ray.remote
def _export(config: Config, layout: Layout, last: Path, newest: float | None) -> dict[str, object]:
    """Write the encoder with its best weights; returns the report."""
    files = files_of(config, layout)
    setup, state = prepare(config, files), checkpoint.load(last)
    standing = state.standing
    first, best = standing.curve[0], standing.curve[standing.best]
    report: dict[str, object] = {
        "objective": config.finetune.objective,
        "base": encoder_fingerprint(config.encoder),
        "metric": setup.objective.metric,
        "before": first.figures,
        "after": best.figures,
        "steps": standing.step,
        "best_step": best.step,
        "stopped": standing.stopped,
        "examples": {"train": files.count("train"), "validation": files.count("validation")},
        "examples_per_second": max(point.rate for point in standing.curve),
        "curve": [vars(point) for point in standing.curve],
    }
    report |= beside(config, setup, files, state.best)
    layout.tuned_encoder.mkdir(parents=True, exist_ok=True)
    export(setup, state.best, layout.tuned_encoder, layout.tuned_head, config)
    write_json(layout.tuned_encoder / ENCODER_NOTE, {"newest": newest})
    told: dict[str, object] = checkpoint.without_nan(report)
    return told
