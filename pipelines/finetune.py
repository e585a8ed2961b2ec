"""The encoder learns what behaviour or labels know, data-parallel, before texts are embedded.

Reads: `tables/` and ids of ingest; pairs, newcomers and validation of split; the encoder.
Writes: `examples/`, `encoder/` (a folder like any other encoder's), `report.json`; checkpoints and TensorBoard events
go to the build's cache until the stage is done, so that a killed one goes on.

Ray Train runs the loop of `core.finetune` on its workers. Each worker streams its part of every batch through Ray Data:
which rows those are follows from seed and step alone (`core.finetune.order`), so a restarted worker, or another number
of workers, meets exactly the same batches.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines.cluster import count_cpus, count_gpus, room_for_actors
from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.errors import ConfigError, KindlingError
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.setup import beside, export, prepare
from pipelines.core.layout import Layout
from pipelines.core.readers import open_filesystem
from pipelines.core.storage import digest_file, read_json, write_json, write_text
from pipelines.examples import files_of, write_examples
from pipelines.progress import Progress
from pipelines.trackers import check_trackers
from pipelines.training import Spec, train_worker

__all__ = ["continued", "fingerprint", "run"]

_NOTE = "kindling.json"
"""Beside an encoder's weights: up to when it has learnt from behaviour."""
_ATTEMPTS = 3
"""Workers may be lost as often before the stage gives up."""
_FOR_OTHERS = 1
"""Logical CPUs left to Ray Data; without, workers and what feeds them wait for each other for ever."""


def fingerprint(data: str, config: Config) -> str:  # noqa: ARG001 - one shape for all stages
    """Hash of the encoder that is taught and of the files that are named; constant where nothing is learnt."""
    settings = config.finetune
    if settings.objective == "none":
        return ""
    named = (settings.labels if settings.objective == "classification" else None, settings.synonyms)
    return " ".join([encoder_fingerprint(config.encoder), *(_digest(uri) for uri in named if uri)])


def _digest(uri: str) -> str:
    """Of a file's content; of a remote one's size and time. Empty where there is none: reading it will say so."""
    filesystem, path = open_filesystem(uri)
    if Path(path).is_file():
        return digest_file(Path(path))
    info = filesystem.get_file_info(path)
    return f"{info.size} {info.mtime}" if info.is_file else ""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Write the examples, train, and export the best encoder."""
    settings = config.finetune
    if settings.objective == "none":
        return {"objective": "none"}
    check_trackers(settings)
    config, since = continued(config, layout)
    name = _run_name(config, layout)
    spec = Spec(config, layout, layout.finetune_run(name), _workers(config))
    with progress.bar("writing examples", 1) as advance:
        newest: float | None = ray.get(write_examples.remote(config, layout, since))
        advance()
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with progress.following(spec.log, "training", settings.steps):
        result = _fit(spec)
    if result.checkpoint is None:
        raise KindlingError(
            f"training ended without a checkpoint. Run the build again; {spec.run} tells more."
        )
    report: dict[str, object] = ray.get(_export.remote(config, layout, Path(result.checkpoint.path), newest))
    write_json(layout.finetune_report, report)
    for leftover in layout.finetune_run(name).parent.glob("*"):  # of this and of earlier settings
        if leftover.name != name:
            shutil.rmtree(leftover, ignore_errors=True)
    # what Ray Train would go on from, its own notes included: another run of the stage begins anew
    for leftover in spec.run.iterdir():
        if leftover.is_dir() and leftover.name.startswith("checkpoint_"):
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.is_file() and leftover != spec.log:
            leftover.unlink()
    return {k: v for k, v in report.items() if k not in ("curve",)}


def _run_name(config: Config, layout: Layout) -> str:
    """The same for the same training, so that it goes on; another for any other."""
    shown_elsewhere = frozenset({"finetune.workers", "finetune.mlflow", "finetune.wandb"})
    parts = (
        config.fingerprint("finetune", "data", exclude=shown_elsewhere),
        encoder_fingerprint(config.encoder),
        *(str(read_json(layout.marker(stage))["output"]) for stage in ("ingest", "split")),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def continued(config: Config, layout: Layout) -> tuple[Config, float | None]:
    """Settings with the encoder to start from, and up to when it has learnt already."""
    if config.finetune.continue_from == "base" or not layout.current.is_file():
        return config, None
    folder = BundlePaths(layout.bundle(current_version(layout))).encoder
    if not folder.is_dir():  # published without a fine-tuned encoder
        return config, None
    note = folder / _NOTE
    since: float | None = read_json(note)["newest"] if note.is_file() else None
    return config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"model": str(folder)})}
    ), since


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
    write_json(layout.tuned_encoder / _NOTE, {"newest": newest})
    told: dict[str, object] = checkpoint.without_nan(report)
    return told
