"""`kindling data validate`: the checks of ingest over every chunk, without Ray and without writing."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipelines.core.config import Config
from pipelines.core.readers import cut_chunks, find_files, read_chunk
from pipelines.core.schema import ITEM_ID, TABLES
from pipelines.core.validate import Checked, check_entities, check_interactions


def print_validation(directory: str, config: Config) -> bool:
    """Print counts per table and reasons with examples; True when a build would accept the tables."""
    console = Console()
    item_ids: list[str] = []
    summary = Table(title=f"tables in {directory}")
    for name in ("table", "files", "rows", "usable", "rejected", "notes"):
        summary.add_column(
            name, justify="right" if name in ("files", "rows", "usable", "rejected") else "left"
        )
    reasons: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    acceptable = True
    for table in TABLES:
        files = find_files(directory, getattr(config.data, table))
        counts: Counter[str] = Counter()
        kept = 0
        for chunk in cut_chunks(directory, table, files):
            raw, bad = read_chunk(chunk, config.data.csv_delimiter)
            checked: Checked = (
                check_interactions(chunk, raw, bad, config, pa.array(item_ids, pa.string()))
                if table == "interactions"
                else check_entities(chunk, raw, bad, config)
            )
            counts += checked.counts
            kept += checked.table.num_rows
            if table == "items" and checked.table.num_rows:
                item_ids += checked.table.column(ITEM_ID).to_pylist()
            for row in checked.rejects.to_pylist():
                key: tuple[str, str] = (table, row["reason"])
                reasons[key] += 1
                examples.setdefault(key, f"{row['source']} row {row['row']}: {row['record']}")
        required = table == "items" or (table == "interactions" and not config.data.text_only)
        acceptable &= not (required and kept == 0)
        acceptable &= counts["rejected"] <= config.data.max_reject_share * counts["read"]
        notes = ", ".join(
            f"{k} {v}" for k, v in sorted(counts.items()) if k not in ("read", "rejected", "kept") and v
        )
        summary.add_row(
            table, str(len(files)), str(counts["read"]), str(kept), str(counts["rejected"]), notes
        )
    if len(set(item_ids)) < len(item_ids):
        reasons["items", f"{ITEM_ID} appears more than once"] = len(item_ids) - len(set(item_ids))
    console.print(summary)
    for (name, reason), count in reasons.most_common():
        console.print(f"{name}: {count} × {reason}", highlight=False)
        if (name, reason) in examples:
            console.print(f"    {examples[name, reason]}", highlight=False, soft_wrap=True)
    console.print("a build would accept these tables" if acceptable else "a build would stop here")
    return acceptable
