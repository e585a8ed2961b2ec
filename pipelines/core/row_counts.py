"""How many rows a stage has read and written, from what lies there: footers and names, no data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.schema import TABLES
from pipelines.core.storage import count_rows, read_json

_READ = ("kept", "rejected", "identical_duplicates_merged")
"""What became of the rows of a table that `ingest` has read."""


def rows_written(layout: Layout, stage: str) -> dict[str, int]:
    """Rows of each table or matrix that a stage left, by its path below the stage's directory."""
    root, found = layout.stage(stage), dict[str, int]()
    for path in sorted(root.rglob("*.parquet")):
        name = _name(root, path)
        try:
            found[name] = found.get(name, 0) + pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException):
            continue  # the stage's marker is what vouches for it
    for folder in {path.parent for path in root.rglob("rows-*.safetensors")}:
        found[str(folder.relative_to(root))] = count_rows(folder)
    return dict(sorted(found.items()))


def rows_read(layout: Layout, reads: Sequence[str]) -> dict[str, int]:
    """Rows of what a stage reads: of earlier stages what they left; without any, of the tables themselves."""
    if reads:
        return {f"{s}/{name}": n for s in reads for name, n in rows_written(layout, s).items()}
    try:
        report = read_json(layout.ingest_report)
    except ArtefactError:
        return {}
    return {
        table: sum(int(report[table].get(key, 0)) for key in _READ) for table in TABLES if table in report
    }


def _name(root: Path, path: Path) -> str:
    """Parts of one table count together."""
    whole = path.parent if path.name.startswith("part-") else path
    return str(whole.relative_to(root))
