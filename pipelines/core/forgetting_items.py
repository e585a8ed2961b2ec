"""Published versions without items that were withdrawn: texts, vectors, and who had to do with them.

The present tables leave such items out (ingest). Here they are taken out of the versions of before, which a rollback
would put into service. An item that was put again is not withdrawn, so no version that knows it anew is touched.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.blend import item_vectors
from pipelines.core.bundle import BundlePaths, check_manifest
from pipelines.core.collected import Collected, StorePoint
from pipelines.core.config import load_config
from pipelines.core.forgetting import OF_PAIRS
from pipelines.core.index import build_index
from pipelines.core.layout import Layout
from pipelines.core.rewriting import finish_exchanges, rewrite
from pipelines.core.schema import ITEM_ID, N_INTERACTIONS
from pipelines.core.storage import read_json, read_tensors, write_table, write_tensors

BoolArray = npt.NDArray[np.bool_]


def withdrawn_items(layout: Layout) -> tuple[set[str], StorePoint]:
    """Items that the service was told to show no more, and up to where its store was read for that."""
    collected = Collected.read(layout)
    if collected is None:
        return set(), StorePoint()
    return set(collected.withdrawn.to_pylist()), collected.point


def forget_items_in_versions(
    layout: Layout, versions: Iterable[str], item_ids: Collection[str], point: StorePoint | None = None
) -> list[str]:
    """Take items out of published versions that know them; to be called by who holds `Folder.changing`.

    A version keeps its name, its users and its maps. Gone are the items' rows, vectors and places in histories and
    graph; what their texts and events have taught the others stays.

    Args:
        layout: of the build.
        versions: the ones to look through.
        item_ids: what is withdrawn.
        point: of the store, when that was so. A version that knows the store of later is left alone: it may have the
            item because it was put again.

    Returns:
        The versions that knew one.

    """
    finish_exchanges(layout)
    if not item_ids:
        return []
    wanted = pa.array(sorted(item_ids), pa.string())
    changed = []
    for version in versions:
        paths = BundlePaths(layout.bundle(version))
        try:
            ids = pq.read_table(paths.items, columns=[ITEM_ID]).column(ITEM_ID)
        except (OSError, pa.ArrowException):  # not whole: nobody can be served by it, and pruning removes it
            continue
        gone = pc.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False)
        if gone.any() and not (point and knows_later(read_json(paths.manifest), str(paths.root), point)):
            _without(layout, version, ~gone)
            changed.append(version)
    return changed


def knows_later(manifest: object, where: str, point: StorePoint) -> bool:
    """Whether a version was made from the same store when more had been said in it.

    Args:
        manifest: JSON.
        where: the version is, for messages.
        point: of the store.

    Raises:
        ArtefactError: it is no manifest.

    """
    known = StorePoint.of_manifest(check_manifest(manifest, where))
    return known.store == point.store and known.items > point.items


def _without(layout: Layout, version: str, keep: BoolArray) -> None:
    old = BundlePaths(layout.bundle(version))
    has_graph = old.item_index.exists()
    replaced = [old.items, old.item_arrays, old.user_arrays, *([old.item_index] if has_graph else [])]

    def write(new: BundlePaths) -> None:
        items = pq.read_table(old.items).filter(pa.array(keep))
        arrays = {name: rows[keep] for name, rows in read_tensors(old.item_arrays).items()}
        write_table(new.items, items)
        write_tensors(new.item_arrays, arrays)
        write_tensors(new.user_arrays, _histories(read_tensors(old.user_arrays), keep))
        if has_graph:
            evidence = items.column(N_INTERACTIONS).to_numpy()
            settings = load_config(old.config).blend
            vectors = item_vectors(arrays["factors"], arrays["profiles"], evidence, settings)
            build_index(vectors, os.cpu_count() or 1).save(str(new.item_index))

    rewrite(layout, version, replaced, write)


def _histories(arrays: Mapping[str, np.ndarray], keep: BoolArray) -> dict[str, np.ndarray]:
    """`BundlePaths.user_arrays` where only some of the items are, which have other row numbers now."""
    stays = keep[arrays["indices"]]
    before = np.concatenate([[0], np.cumsum(stays)])
    rows = np.cumsum(keep) - 1
    return dict(arrays) | {
        "indptr": before[arrays["indptr"]].astype(np.int64),
        **{name: arrays[name][stays] for name in OF_PAIRS if name in arrays},
        "indices": rows[arrays["indices"][stays]].astype(arrays["indices"].dtype),
    }
