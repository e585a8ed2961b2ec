"""What the service was told until a build began: rows beside those of the caller's tables.

    the store -> OUT/collected/{interactions,users,items}.parquet, collected.json -> ingest

`jobs.collecting` writes it, ingest reads it, and a version notes up to where it knows the store (`StorePoint`), so that
the service adds to a version just what came later. Without the directory a build reads the caller's tables alone, and
the service adds all that its store has: the same in the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.bundle import finish_directory
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.schema import EVENT, ITEM_ID, TEXT, TIMESTAMP, USER_ID, WEIGHT
from pipelines.core.storage import digest_file, fresh_directory, read_json, write_json

INTERACTIONS_TOLD = pa.schema(
    [
        (USER_ID, pa.string()),
        (ITEM_ID, pa.string()),
        (EVENT, pa.string()),
        (WEIGHT, pa.float64()),
        (TIMESTAMP, pa.float64()),
    ]
)
"""An event of the service, as a row of interactions."""
SAID_AT = "updated_at"
"""When something was said, in seconds since 1970."""
USERS_TOLD = pa.schema([(USER_ID, pa.string()), (TEXT, pa.string()), (SAID_AT, pa.float64())])
"""What users say of themselves, cleaned and without personal data as the service keeps it."""
ITEMS_TOLD = pa.schema(
    [
        (ITEM_ID, pa.string()),
        ("fields", pa.string()),
        ("is_whole", pa.bool_()),
        (SAID_AT, pa.float64()),
    ]
)
"""The last change of each item: `fields` is JSON, null where it is withdrawn; see `serving.store.items`."""
_TABLES = {"interactions": INTERACTIONS_TOLD, "users": USERS_TOLD, "items": ITEMS_TOLD}
_NOTE = "collected.json"


@dataclass(frozen=True)
class StorePoint:
    """Up to where a store is known.

    Attributes:
        store: the id of the store; what is known of another says nothing of this one.
        events: number of the last event.
        items: number of the last change of an item.

    """

    store: str = ""
    events: int = 0
    items: int = 0

    def of(self, store: str | None) -> StorePoint:
        """The point in a store of this id; the beginning where it is another."""
        return self if store == self.store else StorePoint()

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> StorePoint:
        """What the manifest of a bundle says; the beginning where it says nothing.

        Raises:
            ArtefactError: what it says is no such thing.

        """
        said = manifest.get("store")
        if said is None:
            return cls()
        try:
            return cls(str(said["store"]), int(said["events"]), int(said["items"]))
        except (KeyError, TypeError, ValueError) as e:
            raise ArtefactError(
                f"version {manifest.get('version')!r} says {str(said)[:80]!r} of the store. Build again or roll back."
            ) from e


class Collected:
    """What lies in `Layout.collected`."""

    def __init__(self, root: Path, point: StorePoint, digest: str) -> None:
        """See `read`."""
        self.root = root
        self.point = point
        self.digest = digest

    @classmethod
    def read(cls, layout: Layout) -> Collected | None:
        """What `collect` wrote; None: nothing.

        Raises:
            ArtefactError: it is spoilt.

        """
        if not layout.collected.is_dir():
            return None
        try:
            note = read_json(layout.collected / _NOTE)
            return cls(layout.collected, StorePoint(**note["point"]), str(note["digest"]))
        except (KeyError, TypeError) as e:
            raise ArtefactError(f"{layout.collected} is spoilt: {e}. Delete it and build again.") from e

    def table(self, name: str) -> pa.Table:
        """`users` or `items`, see `USERS_TOLD` and `ITEMS_TOLD`."""
        return pq.read_table(self.root / f"{name}.parquet")

    @cached_property
    def withdrawn(self) -> pa.Array:
        """Ids of the items that are to be shown no more."""
        items = self.table("items")
        return items.filter(pc.is_null(items.column("fields"))).column(ITEM_ID).combine_chunks()


def write_collected(
    layout: Layout, point: StorePoint, batches: Mapping[str, Iterable[list[dict[str, Any]]]]
) -> Collected | None:
    """Put what a store holds in the place of what was there; None where it has never held anything.

    A process killed meanwhile leaves what was there, or nothing: never half of it, nor one table of each.

    Args:
        layout: of the build.
        point: up to where the store was read.
        batches: `interactions`, `users` and `items`, rows in their order.

    """
    temporary = layout.root / ".collected.tmp"
    fresh_directory(temporary)
    n_rows = 0
    for name, schema in _TABLES.items():
        with ExitStack() as stack:
            writer = stack.enter_context(
                pq.ParquetWriter(temporary / f"{name}.parquet", schema, compression="zstd")
            )
            for rows in batches[name]:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                n_rows += len(rows)
    if not n_rows and point == StorePoint(point.store):
        shutil.rmtree(temporary)
        shutil.rmtree(layout.collected, ignore_errors=True)
        return None
    parts = [digest_file(temporary / f"{name}.parquet") for name in _TABLES]
    digest = json.dumps([asdict(point), parts])
    write_json(temporary / _NOTE, {"point": asdict(point), "digest": digest})
    finish_directory(temporary, layout.collected)
    return Collected.read(layout)
