"""`kindling data validate`: the checks of ingest over every chunk, without Ray and without writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.core.config import Config
from pipelines.core.encoder import content_hash
from pipelines.core.enough import problems
from pipelines.core.readers import cut_chunks, find_files, read_chunk
from pipelines.core.schema import ID_COLUMN, TABLES, TEXT, USER_ID, TableName
from pipelines.core.validate import Checked, check_entities, check_interactions, check_relations
from pipelines.core.vectors import VectorLengths

_NUMBERS = ("files", "read", "kept", "rejected")


class _Findings:
    """What was seen in all chunks so far."""

    def __init__(self, vectors: Iterable[str]) -> None:
        self.counts: dict[str, Counter[str]] = {table: Counter() for table in TABLES}
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], str] = {}
        self.texts: dict[str, dict[str, bytes]] = {table: {} for table in TABLES}
        self.active_users: set[str] = set()
        self.lengths = VectorLengths(vectors)
        self.relations: set[tuple[int, str, int]] = set()

    def add(self, table: TableName, checked: Checked) -> None:
        """Count a chunk: its clean rows, its rejects, and rows whose id was there before."""
        counts = self.counts[table]
        counts.update({k: v for k, v in checked.counts.items() if k != "kept"})
        for row in checked.rejects.to_pylist():
            self._reject(table, row["reason"], f"{row['source']} row {row['row']}: {row['record']}")
        if table == "interactions":
            counts["kept"] += checked.table.num_rows
            self.active_users.update(pc.unique(checked.table.column(USER_ID)).to_pylist())
        elif table == "relations":
            said = list(zip(*(column.to_pylist() for column in checked.table.columns), strict=True))
            fresh = set(said) - self.relations
            self.relations |= fresh
            counts.update(kept=len(fresh), identical_duplicates_merged=len(said) - len(fresh))
        elif checked.table.num_rows:
            clean, misfits = self.lengths.check(checked.table) if table == "items" else (checked.table, None)
            for row in misfits.to_pylist() if misfits is not None else []:
                counts["rejected"] += 1
                self._reject(table, row["reason"], f"{row['source']} row {row['row']}: {row['record']}")
            self._add_entities(table, clean)

    def _add_entities(self, table: TableName, clean: pa.Table) -> None:
        known = self.texts[table]
        columns = (clean.column(name).to_pylist() for name in (ID_COLUMN[table], TEXT, "_source", "_row"))
        for entity, text, source, row in zip(*columns, strict=True):
            digest = content_hash(text)
            if entity not in known:
                known[entity] = digest
                self.counts[table]["kept"] += 1
            elif known[entity] == digest:
                self.counts[table]["identical_duplicates_merged"] += 1
            else:
                self.counts[table]["rejected"] += 1
                reason = f"{ID_COLUMN[table]} was there already with a different text"
                self._reject(table, reason, f"{source} row {row}: {entity}")

    def _reject(self, table: str, reason: str, example: str) -> None:
        self.reasons[table, reason] += 1
        self.examples.setdefault((table, reason), example)


def print_validation(directory: str, config: Config) -> bool:
    """Print counts per table and reasons with examples; True when a build would accept the tables."""
    findings = _Findings(config.data.vectors)
    for table in TABLES:
        files = find_files(directory, getattr(config.data, table))
        findings.counts[table]["files"] = len(files)
        for chunk in cut_chunks(directory, table, files):
            raw, bad = read_chunk(chunk, config.data.csv_delimiter)
            if table in ("interactions", "relations"):
                items = pa.array(list(findings.texts["items"]), pa.string())
                check = check_interactions if table == "interactions" else check_relations
                findings.add(table, check(chunk, raw, bad, config, items))
            else:
                findings.add(table, check_entities(chunk, raw, bad, config))
    against = problems(findings.counts, len(findings.active_users), config)
    messages = [message for _, message in against]
    if findings.counts["items"]["kept"] and findings.lengths.problem():
        messages.append(findings.lengths.problem())
    _print(directory, findings, messages)
    return not messages


def _print(directory: str, findings: _Findings, against: list[str]) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    summary = Table(title=escape(f"tables in {directory}"))
    for name in ("table", *_NUMBERS, "notes"):
        summary.add_column(name, justify="right" if name in _NUMBERS else "left")
    for table, counts in findings.counts.items():
        notes = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if k not in _NUMBERS and v)
        summary.add_row(table, *(str(counts[n]) for n in _NUMBERS), notes)
    console.print(summary)
    for key, count in findings.reasons.most_common():
        console.print(f"{key[0]}: {count} × {key[1]}")
        console.print(f"    {findings.examples[key]}")
    for message in against:
        console.print(f"a build would stop: {message}.")
    if not against:
        console.print("a build would accept these tables")
