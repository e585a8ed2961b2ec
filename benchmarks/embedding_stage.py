"""What the embed stage costs beyond encoding; a part of benchmarks/embedding.py, run by its --stage."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines import embed
from pipelines.cluster import connect, room_for_actors, shutdown
from pipelines.core.config import Config, EncoderConfig
from pipelines.core.encoder import Encoder
from pipelines.core.layout import Layout
from pipelines.core.schema import TEXT
from pipelines.core.storage import part_name
from pipelines.progress import Progress

_ROWS_PER_PART = 5000


class Alone:
    """An encoder in a process of Ray's with one CPU, as the stage's actors have it."""

    def __init__(self, config: EncoderConfig) -> None:
        """Load it."""
        self.encoder = Encoder(config)

    def ready(self) -> bool:
        """Answer, once loaded."""
        return True

    def encode(self, windows: list[list[str]]) -> int:
        """Encode window by window; nothing is kept."""
        return sum(len(self.encoder.encode(window)) for window in windows)


def stage_lines(texts: list[str], n: int) -> list[str]:
    """A Markdown section: the stage, the same texts by as many encoders alone, and what lies between."""
    texts = [f"{texts[k % len(texts)]} {k}" for k in range(n)]
    config = Config()
    connect(config.ray)
    try:
        size = config.embed.actors or room_for_actors()
        started, encoded = _encoders_alone(texts, size, config)
        stage = _stage(texts, config)
    finally:
        shutdown()
    rest = stage - started - encoded
    return [
        "## The embed stage on Ray", "",
        f"{n} texts, {size} actors of one CPU each; Ray has been started before.", "",
        "| | seconds |", "|---|---|",
        f"| the whole stage, nothing cached | {stage:.1f} |",
        f"| – start of {size} encoder processes, models loaded (measured alone) | {started:.1f} |",
        f"| – encoding by {size} encoders (measured alone) | {encoded:.1f} |",
        f"| – the rest: reading, hashing, tasks, cache, placing of rows | {rest:.1f} |", "",
        f"**The rest is {rest / stage:.1%} of the stage**, and {rest / encoded:.1%} of encoding.", "",
    ]  # fmt: skip


def _encoders_alone(texts: list[str], size: int, config: Config) -> tuple[float, float]:
    """Seconds to start `size` encoders, and for them to encode all texts in windows as large as the stage's."""
    begun = time.perf_counter()
    actors = [ray.remote(Alone).options(num_cpus=1).remote(config.encoder) for _ in range(size)]
    ray.get([actor.ready.remote() for actor in actors])
    started = time.perf_counter() - begun
    width = embed.window_size(len(texts), size, config.embed.texts_per_task)
    windows = [texts[k : k + width] for k in range(0, len(texts), width)]
    shares = [ray.put(windows[k::size]) for k in range(size)]
    begun = time.perf_counter()
    ray.get([actor.encode.remote(share) for actor, share in zip(actors, shares, strict=True)])
    encoded = time.perf_counter() - begun
    for actor in actors:
        ray.kill(actor)
    return started, encoded


def _stage(texts: list[str], config: Config) -> float:
    """Seconds of one run of the stage over these texts as items, with neither users nor queries."""
    with tempfile.TemporaryDirectory() as temporary:
        layout = Layout(Path(temporary))
        empty = pa.table({TEXT: pa.array([], pa.string())})
        for directory in (layout.tables / "items", layout.tables / "users", layout.queries):
            directory.mkdir(parents=True)
            if directory.name != "items":
                pq.write_table(empty, directory / part_name(0))
        for number, start in enumerate(range(0, len(texts), _ROWS_PER_PART)):
            part = pa.table({TEXT: texts[start : start + _ROWS_PER_PART]})
            pq.write_table(part, layout.tables / "items" / part_name(number))
        begun = time.perf_counter()
        counts = embed.run(config, layout, "", Progress(quiet=True))
        seconds = time.perf_counter() - begun
    if counts["to_encode"] != len(texts):
        raise AssertionError(f"{counts} of {len(texts)} texts")
    return seconds
