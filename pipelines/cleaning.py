"""Chunks of tables cleaned where they lie: what ingest has Ray Data spread over the cluster.

Each task reads one chunk, checks it and writes a staged part, so no row passes through the driver.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pyarrow as pa
import ray

from pipelines.core import tables
from pipelines.core.config import Config
from pipelines.core.layout import Layout
from pipelines.core.readers import Chunk, read_chunk
from pipelines.core.schema import TableName
from pipelines.core.storage import part_name, write_table
from pipelines.core.told import check_told
from pipelines.core.validate import Checked, check_entities, check_interactions, check_relations


def staged(layout: Layout, table: TableName | Literal["active_users"]) -> Path:
    """Parts on their way; of `active_users`, which users each part of interactions names."""
    return layout.stage("ingest") / "staged" / table


class EntityTask:
    """Cleans chunks of items or users; a plain callable for Ray Data."""

    def __init__(self, config: Config, layout: Layout, left_out: ray.ObjectRef) -> None:
        """Keep what every chunk needs; whom to leave out stays in the object store until a task asks."""
        self.config, self.layout, self.left_out = config, layout, left_out

    def __call__(self, chunk: Chunk) -> Counter[str]:
        """Read, check and store one chunk; returns its counts."""
        table, bad = read_chunk(chunk, self.config.data.csv_delimiter)
        checked = check_entities(chunk, table, bad, self.config, ray.get(self.left_out))
        return _store(self.layout, chunk, checked.table, checked.rejects, checked.counts)


class PairTask:
    """Cleans chunks of interactions or relations against the known items."""

    def __init__(
        self, config: Config, layout: Layout, known_items: ray.ObjectRef, left_out: ray.ObjectRef
    ) -> None:
        """Keep what every chunk needs; ids stay in the object store until a task asks."""
        self.config, self.layout, self.known_items, self.left_out = config, layout, known_items, left_out

    def __call__(self, chunk: Chunk) -> Counter[str]:
        """Read, check and store one chunk; returns its counts."""
        table, bad = read_chunk(chunk, self.config.data.csv_delimiter)
        known_items = ray.get(self.known_items)
        left_out = ray.get(self.left_out)
        if chunk.table == "relations":  # those kept are counted when duplicates are merged
            checked = check_relations(chunk, table, bad, self.config, known_items, left_out)
            return _store(self.layout, chunk, checked.table, checked.rejects, checked.counts)
        checked = check_interactions(chunk, table, bad, self.config, known_items, left_out)
        return _store_interactions(self.layout, chunk, checked)


class ToldTask:
    """Cleans chunks of what users did with the service."""

    def __init__(self, beside: PairTask) -> None:
        """With what the caller's interactions are cleaned with."""
        self.beside = beside

    def __call__(self, chunk: Chunk) -> Counter[str]:
        """Read, check and store one chunk; returns its counts."""
        table, _ = read_chunk(chunk)
        known_items = ray.get(self.beside.known_items)
        left_out = ray.get(self.beside.left_out)
        checked = check_told(chunk, table, self.beside.config, known_items, left_out)
        return _store_interactions(self.beside.layout, chunk, checked)


def _store_interactions(layout: Layout, chunk: Chunk, checked: Checked) -> Counter[str]:
    checked.counts["kept"] = checked.table.num_rows
    clean, users = tables.encode_users(checked.table)
    write_table(staged(layout, "active_users") / part_name(chunk.number), users)
    return _store(layout, chunk, clean, checked.rejects, checked.counts)


def _store(
    layout: Layout, chunk: Chunk, clean: pa.Table, rejects: pa.Table, counts: Counter[str]
) -> Counter[str]:
    if clean.num_rows:
        write_table(staged(layout, chunk.table) / part_name(chunk.number), clean)
    if rejects.num_rows:
        write_table(layout.rejects / chunk.table / part_name(chunk.number), rejects)
    return counts
