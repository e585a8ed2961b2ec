"""Texts in, vectors out; each text is encoded once in the life of an output directory.

Reads: `tables/items`, `tables/users` of ingest, `queries` of split.
Writes: `items/`, `users/`, `queries/` (row parts in row-number order), `report.json`; adds to the embedding cache.

Ray Data reads the text columns, tasks drop what the cache has, and a pool of actors, each with the encoder
loaded, encodes the rest. An actor stores its vectors in the cache itself, in files named by nothing but
chance, whole or absent: a build killed half-way keeps all it encoded.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayError

from pipelines.cluster import count_gpus, room_for_actors
from pipelines.core.config import Config, EncoderConfig
from pipelines.core.encoder import Encoder, content_hash, encoder_fingerprint
from pipelines.core.errors import ArtefactError, ConfigError
from pipelines.core.forgetting import Forgotten, sweep_embeddings
from pipelines.core.forgetting_items import withdrawn_items
from pipelines.core.layout import Layout
from pipelines.core.schema import TEXT
from pipelines.core.storage import part_paths, write_json, write_rows, write_table
from pipelines.progress import Progress

__all__ = ["fingerprint", "run", "window_size"]

_TABLES = ("items", "users", "queries")
_READ_BATCH = 16_384
_TEXTS_WORTH_AN_ACTOR = 256


def fingerprint(config: Config, layout: Layout, data: str) -> str:  # noqa: ARG001 - one shape for all stages
    """Hash of the encoder, for weights in a folder may change under the same name, and of whom to forget."""
    return encoder_fingerprint(config.encoder) + Forgotten.read(layout.forgotten).digest()


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Encode what the cache lacks, then put every row's vector in its place."""
    cache = layout.embedding_cache(encoder_fingerprint(config.encoder))
    for leftover in cache.glob(".*"):  # half a file of an actor that was killed
        leftover.unlink(missing_ok=True)
    ray.get(_sweep.remote(layout))
    cached = ray.get(_cached_hashes.remote(cache))
    counts: dict[str, int] = ray.get(_count_missing.remote(layout, cached))
    if counts["to_encode"]:
        _encode_missing(config, layout, cache, cached, counts["to_encode"], progress)
    index = _load_cache.remote(cache)
    ray.get([_place_rows.remote(layout, table, index) for table in _TABLES])
    write_json(layout.embed_report, counts | {"encoder": cache.name})
    return dict(counts)


def _read_cache(cache: Path, columns: list[str]) -> list[pa.Table]:
    """The cache's parts; one that cannot be read is removed, for what it held can be made again."""
    tables = []
    for path in part_paths(cache):
        try:
            tables.append(pq.read_table(path, columns=columns))
        except (OSError, pa.ArrowException):
            path.unlink(missing_ok=True)
    return tables


@ray.remote
def _cached_hashes(cache: Path) -> pa.Array:
    chunks = [chunk for part in _read_cache(cache, ["hash"]) for chunk in part.column(0).chunks]
    return pc.unique(pa.chunked_array(chunks, pa.binary(16)))


def _hashes(texts: pa.ChunkedArray | pa.Array) -> pa.Array:
    return pa.array([content_hash(t) for t in texts.to_pylist()], pa.binary(16))


def _parts(layout: Layout, table: str) -> list[Path]:
    return part_paths(layout.queries if table == "queries" else layout.tables / table)


def _text_paths(layout: Layout) -> list[Path]:
    return [p for table in _TABLES for p in _parts(layout, table)]


@ray.remote
def _sweep(layout: Layout) -> None:
    """What somebody wrote who was forgotten leaves the caches with them, and texts of withdrawn items do."""
    forgotten, (withdrawn, _) = Forgotten.read(layout.forgotten), withdrawn_items(layout)
    if forgotten or withdrawn:
        sweep_embeddings(layout, forgotten, _distinct_hashes(layout), withdrawn)


def _distinct_hashes(layout: Layout) -> pa.Array:
    found = pa.array([], pa.binary(16))
    for path in _text_paths(layout):
        texts = pq.read_table(path, columns=[TEXT]).column(0)
        chunk = _hashes(texts.filter(pc.not_equal(texts, "")))
        found = pc.unique(pa.concat_arrays([found, chunk]))
    return found


@ray.remote
def _count_missing(layout: Layout, cached: pa.Array) -> dict[str, int]:
    """Distinct texts, and how many of them have no vector yet."""
    found = _distinct_hashes(layout)
    missing = pc.sum(pc.invert(pc.is_in(found, value_set=cached))).as_py() or 0
    return {"texts": len(found), "to_encode": int(missing), "from_cache": len(found) - int(missing)}


class DropKnown:
    """Keeps the texts that have no vector yet, each once per batch."""

    def __init__(self, cached: ray.ObjectRef) -> None:
        """Keep a reference; the hashes are fetched where they are used."""
        self.cached = cached

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Filter one batch of texts."""
        texts = batch.column(TEXT).combine_chunks()
        hashes = _hashes(texts)
        fresh = pc.and_(pc.not_equal(texts, ""), pc.invert(pc.is_in(hashes, value_set=ray.get(self.cached))))
        _, first = np.unique(np.array(hashes.to_pylist(), dtype="S16"), return_index=True)
        once = np.zeros(len(texts), dtype=bool)
        once[first] = True
        return pa.table({TEXT: texts, "hash": hashes}).filter(pc.and_(fresh, pa.array(once)))


class EncodeTexts:
    """One actor of the pool: the encoder is loaded once, then batches come."""

    def __init__(self, config: EncoderConfig, cache: Path) -> None:
        """Load the encoder onto this actor's GPU, or its share of the CPU."""
        self.encoder = Encoder(config)
        self.cache = cache

    def __call__(self, batch: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
        """Encode and store one window of texts; how many there were is all that goes back."""
        if not batch.num_rows:
            return {"n": np.zeros(1, dtype=np.int64)}
        vectors = self.encoder.encode(batch.column(TEXT).to_pylist())
        width = vectors.shape[1]
        table = pa.table(
            {
                "hash": batch.column("hash"),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
            }
        )
        write_table(self.cache / f"{uuid.uuid4().hex}.parquet", table)
        return {"n": np.array([batch.num_rows], dtype=np.int64)}


def window_size(n_texts: int, n_actors: int, most: int) -> int:
    """Texts of a window, at most `most`, such that every actor gets as many windows and none idles at the end."""
    rounds = -(-n_texts // (n_actors * most))
    return max(1, -(-n_texts // (n_actors * max(1, rounds))))


def _encode_missing(
    config: Config, layout: Layout, cache: Path, cached: pa.Array, n_missing: int, progress: Progress
) -> None:
    gpus, room = count_gpus(), room_for_actors()
    if config.embed.actors > room:
        raise ConfigError(
            f"embed.actors = {config.embed.actors} does not fit this cluster, which has room for {room}: one per GPU, "
            "or else per CPU with one left for the tasks that feed them. Lower it, or set 0 to let Kindling choose."
        )
    # never more actors than there is work for: each costs seconds of start-up and the encoder's memory
    size = config.embed.actors or max(1, min(room, -(-n_missing // _TEXTS_WORTH_AN_ACTOR)))
    window = window_size(n_missing, size, config.embed.texts_per_task)
    resources: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    texts_ds = (
        ray.data.read_parquet([str(p) for p in _text_paths(layout)], columns=[TEXT])
        .map_batches(DropKnown(ray.put(cached)).__call__, batch_format="pyarrow", batch_size=_READ_BATCH, num_cpus=0.25)
        # a block is one actor's task: without this a small table would be encoded by one of them
        .repartition(target_num_rows_per_block=window)
        .map_batches(
            EncodeTexts, fn_constructor_args=(config.encoder, cache), batch_format="pyarrow", batch_size=window,
            compute=ray.data.ActorPoolStrategy(size=size), **resources,
        )
    )  # fmt: skip
    try:
        with progress.bar("encoding texts", n_missing) as advance:
            for row in texts_ds.iter_rows():
                advance(int(row["n"]))
    except RayError:
        Encoder(config.encoder)  # an actor that cannot load it dies without its reason; here it is told
        raise


@ray.remote
def _load_cache(cache: Path) -> tuple[pa.Array, npt.NDArray[np.float32]]:
    parts = _read_cache(cache, ["hash", "vector"])
    if not parts:
        return pa.array([], pa.binary(16)), np.zeros((0, 1), dtype=np.float32)
    table = pa.concat_tables(parts).combine_chunks()
    vectors = table.column("vector").combine_chunks()
    width = vectors.type.list_size
    return table.column("hash").combine_chunks(), vectors.flatten().to_numpy().reshape(-1, width)


@ray.remote
def _place_rows(layout: Layout, table: str, index: tuple[pa.Array, npt.NDArray[np.float32]]) -> None:
    """Write the vectors of a table's rows in their order; a row without text gets zeros."""
    hashes, vectors = index
    start = 0
    if not any(pq.read_metadata(path).num_rows for path in _parts(layout, table)):
        write_rows(layout.text_embeddings(table), 0, vectors[:0])
    for path in _parts(layout, table):
        texts = pq.read_table(path, columns=[TEXT]).column(0)
        found = pc.index_in(_hashes(texts), value_set=hashes)
        empty = np.asarray(pc.equal(texts, "").to_numpy())
        place = np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False))
        if (place[~empty] < 0).any():
            raise ArtefactError(
                f"{path}: {int((place[~empty] < 0).sum())} texts have no vector. Run the build again."
            )
        rows = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
        rows[~empty] = vectors[place[~empty]]
        write_rows(layout.text_embeddings(table), start, rows)
        start += len(texts)
