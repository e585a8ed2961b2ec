"""Everything the server needs, as one checked directory; then the pointer to it.

Reads: the artefacts of every stage before it.
Writes: `bundles/<version>/`, the same in `publish.registry` where there is one, then `CURRENT`, then `metrics.json`. A
bundle is complete before anything points to it, and the version's name ends in a hash of what it was made from:
publishing the same again is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.core.blend import item_vectors
from pipelines.core.bundle import (
    BundlePaths,
    check_bundle,
    current_version,
    finish_directory,
    write_manifest,
)
from pipelines.core.collected import Collected
from pipelines.core.config import Config, to_toml
from pipelines.core.encoder import PACKAGED, encoder_fingerprint
from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import Forgotten, forget_in_versions
from pipelines.core.forgetting_items import forget_items_in_versions, withdrawn_items
from pipelines.core.incumbent import Incumbent
from pipelines.core.index import build_index, wants_index
from pipelines.core.kinds import kinds_of_pairs
from pipelines.core.layout import Layout, ModelName
from pipelines.core.pairs import read_pairs, wanted_counts
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.rules import check_rules
from pipelines.core.runs import program_version, running_ids
from pipelines.core.schema import (
    EVENT,
    FORGOTTEN_AT,
    ITEM_IDX,
    N_INTERACTIONS,
    TABLES,
    USER_ID,
    USER_IDX,
)
from pipelines.core.storage import (
    part_paths,
    read_json,
    read_rows,
    read_tensors,
    replacing,
    write_json,
    write_table,
    write_tensors,
    write_text,
)  # fmt: skip
from pipelines.progress import Progress

__all__ = ["assemble", "fingerprint", "intact", "manifest_facts", "run"]

_STAGES = ("ingest", "split", "finetune", "embed", "attributes", "profile", "factorize", "evaluate")


def fingerprint(config: Config, layout: Layout, data: str) -> str:  # noqa: ARG001 - one shape for all stages
    """Hash of whom to forget: versions of before may know them, though the tables do not. And what the store told."""
    told = Collected.read(layout)
    return Forgotten.read(layout.forgotten).digest() + (told.digest if told else "")


def intact(layout: Layout) -> bool:
    """Whether something is in service; a marker alone does not bring back a deleted bundle."""
    try:
        version = current_version(layout)
    except ArtefactError:
        return False
    return _is_whole(layout.bundle(version)) and layout.metrics.is_file()


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
    """Assemble, check in, bring it to the registry where there is one, point to it. Deletes no older version."""
    markers = {name: read_json(layout.marker(name)) for name in _STAGES}
    made_from = {name: marker["output"] for name, marker in markers.items()} | {"config": to_toml(config)}
    if told := Collected.read(layout):
        made_from["told"] = told.digest
    digest = hashlib.blake2b(json.dumps(made_from, sort_keys=True).encode(), digest_size=4).hexdigest()
    places = [Folder(layout), *([open_place(config.publish.registry)] if config.publish.registry else [])]
    gone = {name for place in places for name in (*place.pointer().removing, *place.pointer().removed)}
    same = [
        path
        for path in sorted(layout.bundles.glob(f"v*-{digest}"))
        if path.name not in gone and not any(_is_another(place, path) for place in places)
    ]
    version = same[-1].name if same else f"v{datetime.now(UTC):%Y%m%d-%H%M%S}-{digest}"
    if not _is_whole(layout.bundle(version)):
        _assemble(config, layout, version, markers, data, progress)
    for place in reversed(places):  # here last: what is not in the registry is not published
        Registry(place).publish(version, layout.bundle(version))
    with Folder(layout).changing():
        forget_in_versions(layout, Folder(layout).names(), Forgotten.read(layout.forgotten))
        forget_items_in_versions(layout, Folder(layout).names(), *withdrawn_items(layout))
    write_json(layout.stage("publish") / "version.json", {"version": version})
    return {"version": version}


def _is_another(place: Place, root: Path) -> bool:
    """Whether a place has a version of this name that is not this one: users were taken out of one of the two."""
    manifest = BundlePaths(root).manifest
    if not manifest.is_file() or not place.has(root.name):
        return False
    return place.read(root.name, manifest.name) != manifest.read_bytes()


def _is_whole(bundle: Path) -> bool:
    try:
        check_bundle(bundle)
    except ArtefactError:
        return False
    return True


def _assemble(
    config: Config,
    layout: Layout,
    version: str,
    markers: dict[str, dict[str, object]],
    data: str,
    progress: Progress,
) -> None:
    for leftover in layout.bundles.glob(".*.tmp"):  # of a publish that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = layout.bundles / f".{version}.tmp"
    paths = BundlePaths(temporary)
    model: ModelName = "full" if config.publish.refit else "train"
    with progress.bar("assembling the bundle", 5) as advance:
        assemble(config, layout, model, paths, advance)
        write_json(paths.metrics, metrics(layout, version, markers))
        if layout.evaluation_report.is_file():
            shutil.copyfile(layout.evaluation_report, paths.report)
        write_manifest(paths, version, manifest_facts(config, layout, model, data))
        finish_directory(temporary, layout.bundle(version))
        advance(1)


def assemble(
    config: Config, layout: Layout, model: ModelName, paths: BundlePaths, advance: Callable[[int], None]
) -> None:
    """Write what a fitted model is served by; figures and manifest make a version of it.

    Args:
        config: as publish sees it.
        layout: of the build.
        model: that is fitted there.
        paths: of a bundle that is not there yet.
        advance: told of each of four steps.

    """
    paths.root.mkdir(parents=True)
    vectors = sorted(config.data.vectors)
    for ref in [
        _write_items.remote(layout, model, paths, vectors), _write_users.remote(config, layout, model, paths)
    ]:  # fmt: skip
        ray.get(ref)
        advance(1)
    check_rules(config.rules, pq.read_schema(paths.items), config.data.event_weights)
    ray.get(_write_index.remote(config, paths))
    advance(1)
    maps = read_tensors(layout.text_maps(model)) | read_tensors(layout.profile_means(model))
    write_tensors(paths.text_maps, maps)
    shutil.copyfile(layout.lexical(model), paths.lexical)
    _copy_encoder(config, paths)
    write_text(paths.config, to_toml(config))
    advance(1)


def manifest_facts(config: Config, layout: Layout, model: ModelName, data: str) -> dict[str, object]:
    """What the manifest of a bundle says of how it was made."""
    return {
        "program": program_version(),
        **running_ids(),
        "model": model,
        "encoder": {"model": config.encoder.model, "fingerprint": encoder_fingerprint(config.encoder)},
        "data": {"source": data, "fingerprint": read_json(layout.marker("ingest"))["output"]},
        "counts": read_json(layout.ingest_report),
        **({"rebuilt": asdict(incumbent)} if (incumbent := Incumbent.read(layout)) else {}),
        **({"store": asdict(told.point)} if (told := Collected.read(layout)) else {}),
    }


def metrics(layout: Layout, version: str, markers: dict[str, dict[str, object]]) -> dict[str, object]:
    """The contents of `metrics.json`, documented in docs/metrics.md: test figures under `models`."""
    evaluation = read_json(layout.evaluation)
    report = read_json(layout.ingest_report)
    return {
        "version": version,
        "models": evaluation["test"],
        "validation": evaluation["validation"],
        "intervals": evaluation["intervals"],
        "differences": evaluation["differences"],
        "users_measured": evaluation["users"],
        "seconds": {name: marker["seconds"] for name, marker in markers.items()},
        "counts": {
            **{str(table): report[table].get("kept", 0) for table in TABLES},
            "rejected": {table: report[table].get("rejected", 0) for table in TABLES},
            "split": read_json(layout.split_report),
            "texts": read_json(layout.embed_report),
        },
    }


@ray.remote
def _write_items(layout: Layout, model: ModelName, paths: BundlePaths, vectors: list[str]) -> None:
    """Item metadata part by part, without the columns `vectors`, which are in the profiles; then the arrays."""
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    pairs = read_pairs(layout.pairs(model, "item"), "item", 0, n_items, n_users)
    counts, liked = np.diff(pairs.indptr), wanted_counts(pairs)
    parts = part_paths(layout.tables / "items")
    tags = pq.read_table(layout.attributes) if layout.attributes.exists() else pa.table({})
    start = 0
    with replacing(paths.items) as temporary:
        writer = None
        for path in parts:
            table = pq.read_table(path).drop_columns(vectors)
            stop = start + table.num_rows
            table = table.append_column("n_interactions", pa.array(counts[start:stop].astype(np.int64)))
            table = table.append_column("n_wanted", pa.array(liked[start:stop].astype(np.int64)))
            for name in tags.column_names:
                table = table.append_column(name, tags.column(name).slice(start, table.num_rows))
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
            start += table.num_rows
        if writer is None:
            raise ArtefactError(f"{layout.tables / 'items'} holds no parts. Run the build again.")
        writer.close()
    write_tensors(
        paths.item_arrays,
        {
            "factors": read_rows(layout.factors(model, "item"), 0, n_items),
            "profiles": read_rows(layout.item_profiles(model), 0, n_items),
        },
    )


@ray.remote
def _write_index(config: Config, paths: BundlePaths) -> None:
    """The graph over the vectors that are served, where there are too many to screen them all (`serve.index`)."""
    evidence = pq.read_table(paths.items, columns=[N_INTERACTIONS]).column(0).to_numpy()
    if not wants_index(config.serve, len(evidence)):
        return
    arrays = read_tensors(paths.item_arrays)
    vectors = item_vectors(arrays["factors"], arrays["profiles"], evidence, config.blend)
    build_index(vectors, os.cpu_count() or 1).save(str(paths.item_index))


@ray.remote
def _write_users(config: Config, layout: Layout, model: ModelName, paths: BundlePaths) -> None:
    ids = pq.read_table(layout.ids("users"))
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    history = read_pairs(layout.pairs(model, "user"), "user", 0, ids.num_rows, n_items)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "factors": read_rows(layout.factors(model, "user"), 0, ids.num_rows),
        "own_texts": read_rows(layout.own_profiles(model), 0, ids.num_rows),
        "indptr": history.indptr.astype(np.int64),
        "indices": history.indices.astype(np.int32),
        "weights": history.data,
        "kinds": kinds_of_pairs(history, _interactions(layout), config.data.event_weights),
    }
    write_tensors(paths.user_arrays, arrays)
    write_table(paths.users, _with_moments(ids, Forgotten.read(layout.forgotten)))


def _interactions(layout: Layout) -> Iterator[pa.Table]:
    for path in part_paths(layout.tables / "interactions"):
        yield pq.read_table(path, columns=[USER_IDX, ITEM_IDX, EVENT])


def _with_moments(ids: pa.Table, forgotten: Forgotten) -> pa.Table:
    """Beside the ids, when those were forgotten who are here again: the service then knows that it may use it."""
    moments = pa.array(forgotten.moments_of(ids.column(USER_ID)), pa.float64(), from_pandas=True)
    return ids if moments.null_count == len(moments) else ids.append_column(FORGOTTEN_AT, moments)


def _copy_encoder(config: Config, paths: BundlePaths) -> None:
    """An encoder in a folder of the user's own travels with the bundle; pickled weights do not."""
    folder = Path(config.encoder.model)
    if config.encoder.model == PACKAGED or not folder.is_dir():
        return
    unwanted = shutil.ignore_patterns("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", ".*")
    shutil.copytree(folder, paths.encoder, ignore=unwanted)
