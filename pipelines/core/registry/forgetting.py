"""Versions in a registry that know who was forgotten, or items that were withdrawn; `Registry.remove` deletes them.

A version in a registry is never written anew, for on S3 nobody could tell the new one from the old. It is deleted
instead, and mirrors delete their copies of it when they next follow the pointer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.bundle import MANIFEST, BundlePaths
from pipelines.core.collected import StorePoint
from pipelines.core.errors import ArtefactError
from pipelines.core.forgetting import Forgotten, unused_users
from pipelines.core.forgetting_items import knows_later
from pipelines.core.registry.place import Place
from pipelines.core.schema import ITEM_ID, USER_ID

_FILES = BundlePaths(Path())


def knows_forgotten(place: Place, version: str, forgotten: Forgotten) -> bool:
    """Whether a version of a registry knows a user whom the service leaves unused.

    Raises:
        ArtefactError: it cannot be read.

    """
    return bool(forgotten) and bool(unused_users(_table(place, version, _FILES.users.name), forgotten).any())


def knows_withdrawn(place: Place, version: str, item_ids: Collection[str], point: StorePoint) -> bool:
    """Whether a version of a registry has a withdrawn item, and was not made when the store said more than `point`.

    Raises:
        ArtefactError: it cannot be read.

    """
    if not item_ids:
        return False
    ids = _table(place, version, _FILES.items.name, [ITEM_ID]).column(ITEM_ID)
    has_one = pc.any(pc.is_in(ids, value_set=pa.array(sorted(item_ids), pa.string()))).as_py()
    return bool(has_one) and not knows_later(_manifest(place, version), place.where(version), point)


def find_id(place: Place, wanted: str) -> Iterator[str]:
    """Where the id of a user or an item still is in a registry.

    Yields:
        The address of a version, and what to look at in it.

    Raises:
        ArtefactError: a version cannot be read, so nobody can say what it holds.

    """
    for version in place.names():
        for name, column in ((_FILES.users.name, USER_ID), (_FILES.items.name, ITEM_ID)):
            ids = _table(place, version, name, [column]).column(column)
            if pc.any(pc.equal(ids, wanted)).as_py():
                yield f"{place.where(version)}/{name}, column {column}"


def _manifest(place: Place, version: str) -> object:
    try:
        return json.loads(place.read(version, MANIFEST))
    except ValueError as e:
        raise ArtefactError(
            f"{place.where(version)}/{MANIFEST} is not JSON: {e}. Delete this version."
        ) from e


def _table(place: Place, version: str, name: str, columns: list[str] | None = None) -> pa.Table:
    content = place.read(version, name)
    try:
        return pq.read_table(pa.BufferReader(content), columns=columns)
    except pa.ArrowException as e:
        raise ArtefactError(f"{place.where(version)}/{name} is no Parquet: {e}. Delete this version.") from e
