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

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines.cluster import count_cpus, count_gpus, room_for_actors
from pipelines.core.config import Config
from pipelines.core.encoder import encoder_fingerprint, load_pretrained
from pipelines.core.errors import ConfigError, KindlingError
from pipelines.core.finetune import checkpoint
from pipelines.core.finetune.examples import field_starts, load_examples
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.order import BATCHES_PER_WINDOW
from pipelines.core.finetune.setup import export, prepare
from pipelines.core.finetune.tokens import tokenize, write_tokens
from pipelines.core.layout import Layout
from pipelines.core.schema import TEXT
from pipelines.core.storage import part_paths, read_json, write_json, write_text
from pipelines.progress import Progress
from pipelines.trackers import check_trackers
from pipelines.training import Spec, train_worker

__all__ = ["fingerprint", "run"]

_ATTEMPTS = 3
"""Workers may be lost as often before the stage gives up."""
_FOR_OTHERS = 1
"""Logical CPUs left to Ray Data; without, workers and what feeds them wait for each other for ever."""


def fingerprint(data: str, config: Config) -> str:  # noqa: ARG001 - one shape for all stages
    """Hash of the encoder that is taught; constant where none is."""
    return encoder_fingerprint(config.encoder) if config.finetune.objective != "none" else ""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Write the examples, train, and export the best encoder."""
    settings = config.finetune
    if settings.objective == "none":
        return {"objective": "none"}
    name = _run_name(config, layout)
    check_trackers(settings)
    spec = Spec(config, layout, layout.finetune_run(name), _workers(config))
    with progress.bar("writing examples", 1) as advance:
        ray.get(_write_examples.remote(config, layout))
        advance()
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with progress.following(spec.log, "training", settings.steps):
        result = _fit(spec)
    if result.checkpoint is None:
        raise KindlingError(
            f"training ended without a checkpoint. Run the build again; {spec.run} tells more."
        )
    report: dict[str, object] = ray.get(_export.remote(config, layout, Path(result.checkpoint.path)))
    write_json(layout.finetune_report, report)
    for leftover in layout.finetune_run(name).parent.glob("*"):  # of this and of earlier settings
        if leftover.name != name:
            shutil.rmtree(leftover, ignore_errors=True)
    for leftover in spec.run.glob("checkpoint_*"):
        shutil.rmtree(leftover, ignore_errors=True)
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


def _files(config: Config, layout: Layout) -> ExampleFiles:
    return ExampleFiles(layout.examples, histories_end=config.finetune.objective == "next_behaviour")


@ray.remote
def _write_examples(config: Config, layout: Layout) -> None:
    """Rows, histories and tokens; then everything is put together once, so that what cannot work is told now."""
    settings, files = config.finetune, _files(config, layout)
    layout.examples.mkdir(parents=True, exist_ok=True)
    files.write(load_examples(layout, settings), settings.batch_size * BATCHES_PER_WINDOW)
    parts = [_tokenize.remote(config, path) for path in part_paths(layout.tables / "items")]
    write_tokens(files.items, (ray.get(part) for part in parts))
    prepare(config, files)


@ray.remote
def _tokenize(config: Config, path: Path) -> pa.RecordBatch:
    tokenizer, _ = load_pretrained(config.encoder, "float32")
    columns = [c for c in config.data.item_text if c in pq.read_schema(path).names]
    table = pq.read_table(path, columns=[TEXT, *columns])
    texts = table.column(TEXT).to_pylist()
    starts = [field_starts(row, text, columns) for row, text in zip(table.to_pylist(), texts, strict=True)]
    return tokenize(tokenizer, texts, starts, config.finetune.max_tokens)


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
def _export(config: Config, layout: Layout, last: Path) -> dict[str, object]:
    """Write the encoder with its best weights; returns the report."""
    setup = prepare(config, _files(config, layout))
    state = checkpoint.load(last)
    layout.tuned_encoder.mkdir(parents=True, exist_ok=True)
    export(setup, state.best, layout.tuned_encoder, layout.tuned_head, config)
    standing = state.standing
    first, best = standing.curve[0], standing.curve[standing.best]
    return {
        "objective": config.finetune.objective,
        "base": encoder_fingerprint(config.encoder),
        "metric": setup.objective.metric,
        "before": first.figures,
        "after": best.figures,
        "steps": standing.step,
        "best_step": best.step,
        "stopped": standing.stopped,
        "examples_per_second": max(point.rate for point in standing.curve),
        "curve": [vars(point) for point in standing.curve],
    }
