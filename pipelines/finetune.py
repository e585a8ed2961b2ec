"""The encoder learns what behaviour or labels know, data-parallel, before texts are embedded.

Reads: `tables/` and ids of ingest; pairs, newcomers and validation of split; the encoder.
Writes: `examples/`, `encoder/` (a folder like any other encoder's), `report.json`; checkpoints and TensorBoard events
go to the build's cache until the stage is done, so that a killed one goes on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config
from pipelines.core.encoder import encoder_fingerprint
from pipelines.core.layout import ENCODER_NOTE, Layout
from pipelines.core.readers import open_filesystem
from pipelines.core.storage import digest_file, read_json
from pipelines.progress import Progress
from pipelines.trackers import check_trackers

__all__ = ["UNSEEN", "continued", "fingerprint", "run"]

UNSEEN = frozenset(
    {
        "finetune.workers", "finetune.mlflow", "finetune.wandb", "encoder.dtype", "encoder.dimensions",
        "encoder.tokens_per_batch",
    }
)  # fmt: skip
"""Settings of the sections it reads that do not change what is learnt."""


def fingerprint(config: Config, layout: Layout, data: str) -> str:  # noqa: ARG001 - one shape for all stages
    """Hash of the encoder that is taught and of the files that are named; constant where nothing is learnt."""
    settings = config.finetune
    if settings.objective == "none":
        return ""
    named = (settings.labels if settings.objective == "classification" else None, settings.synonyms)
    return " ".join([_base_fingerprint(config), *(_digest(uri) for uri in named if uri)])


def _base_fingerprint(config: Config) -> str:
    """Of the encoder as it is taught: all numbers of a vector, weights in single precision."""
    return encoder_fingerprint(config.encoder.model_copy(update={"dtype": "float32", "dimensions": 0}))


def _digest(uri: str) -> str:
    """Of a file's content; of a remote one's size and time. Empty where there is none: reading it will say so."""
    filesystem, path = open_filesystem(uri)
    if Path(path).is_file():
        return digest_file(Path(path))
    info = filesystem.get_file_info(path)
    return f"{info.size} {info.mtime}" if info.is_file else ""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Write the examples, train, and export the best encoder."""
    if config.finetune.objective == "none":
        return {"objective": "none"}
    # with torch and Ray Train, which take seconds to import: only where something is learnt
    from pipelines.trainer import teach  # noqa: PLC0415

    check_trackers(config.finetune)
    config, since = continued(config, layout)
    report = teach(config, layout, layout.finetune_run(_run_name(config, layout)), since, progress)
    return {k: v for k, v in report.items() if k != "curve"}


def _run_name(config: Config, layout: Layout) -> str:
    """The same for the same training, so that it goes on; another for any other."""
    parts = (
        config.fingerprint("finetune", "data", exclude=UNSEEN),
        _base_fingerprint(config),
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
    note = folder / ENCODER_NOTE
    since: float | None = read_json(note)["newest"] if note.is_file() else None
    return config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"model": str(folder)})}
    ), since
