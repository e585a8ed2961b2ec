"""`kindling data validate`: the checks of ingest over every chunk, what they mean, and settings that would help.

Without Ray, and nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.core.config import Config
from pipelines.core.encoder import content_hash
from pipelines.core.enough import problems
from pipelines.core.errors import InputError
from pipelines.core.importers.guess import is_prose
from pipelines.core.inspection.heads import Head, Outlook, look, missing_columns
from pipelines.core.inspection.survey import Survey, explain, text_columns
from pipelines.core.readers import Chunk, read_chunk
from pipelines.core.schema import ID_COLUMN, ROW, TABLES, TEXT, USER_ID, TableName
from pipelines.core.short_toml import short_toml
from pipelines.core.text_files import BadRow
from pipelines.core.validate import (
    Checked,
    check_entities,
    check_interactions,
    check_relations,
    rename_columns,
)
from pipelines.core.vectors import VectorLengths

_NUMBERS = ("files", "read", "kept", "rejected")
_EXAMPLES = 3


class _Findings:
    """What was seen in all chunks so far."""

    def __init__(self, vectors: Iterable[str]) -> None:
        self.counts: dict[str, Counter[str]] = {table: Counter() for table in TABLES}
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], list[str]] = {}
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
        shown = self.examples.setdefault((table, reason), [])
        if len(shown) < _EXAMPLES:
            shown.append(example)


def print_validation(directory: str, config: Config, *, strict: bool = False) -> bool:
    """Print counts per table, reasons with rows, what they mean, and settings that fit better.

    Args:
        directory: of the tables.
        config: to read them with.
        strict: let rejected rows and whatever looks odd count as well.

    Returns:
        Whether a build would accept the tables as they are.

    """
    outlook = look(directory, config)
    findings, survey = _Findings(outlook.config.data.vectors), Survey(outlook.config)
    against = list(outlook.problems)
    skipped = set()
    for table in TABLES:
        head = outlook.heads.get(table)
        is_paired = table in ("interactions", "relations")
        if head is None:
            continue
        columns = outlook.config_of(table).data.columns
        if missing_columns(table, head.rows, columns) and head.rows.num_rows:
            skipped.add(table)
        elif is_paired and "items" in skipped:
            skipped.add(table)
            outlook.hints.append(f"{table}: not looked at, for the items could not be read")
        else:
            try:
                _check(table, head, outlook, findings, survey)
            except InputError as e:
                against.append(str(e).rstrip("."))
                skipped.add(table)
    counts = {table: count for table, count in findings.counts.items() if table not in skipped}
    if "items" in counts:
        n_active = len(findings.active_users) if "interactions" not in skipped else 2
        against += [
            message for table, message in problems({"interactions": Counter(), **counts}, n_active, outlook.config)
            if table not in skipped
        ]  # fmt: skip
    if findings.counts["items"]["kept"] and findings.lengths.problem():
        against.append(findings.lengths.problem())
    advice = [*outlook.hints, *survey.advice(set(findings.texts["items"]), set(findings.texts["users"]))]
    _print(directory, findings, against, advice)
    _print_suggestion(config, outlook, findings, survey)
    return not against and not (strict and (advice or findings.reasons))


def _check(table: TableName, head: Head, outlook: Outlook, findings: _Findings, survey: Survey) -> None:
    """Let a build's checks pass over all rows of a table."""
    findings.counts[table]["files"] = len({chunk.path for chunk in head.chunks})
    config, guessed = outlook.config_of(table), outlook.config_of(table, with_guesses=True)
    for chunk, raw, bad in _chunks(head, config):
        if table in ("interactions", "relations"):
            items = pa.array(list(findings.texts["items"]), pa.string())
            check = check_interactions if table == "interactions" else check_relations
            checked = check(chunk, raw, bad, config, items)
        else:
            checked = check_entities(chunk, raw, bad, config)
        survey.add(table, rename_columns(raw, guessed.data.columns, chunk), checked)
        findings.add(table, checked)


def _chunks(head: Head, config: Config) -> Iterator[tuple[Chunk, pa.Table, list[BadRow]]]:
    for number, chunk in enumerate(head.chunks):
        raw, bad = (head.rows, head.bad) if number == 0 else read_chunk(chunk, config.data.csv_delimiter)
        yield chunk, raw, bad


def _print(directory: str, findings: _Findings, against: list[str], advice: list[str]) -> None:
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
        for example in findings.examples[key]:
            console.print(f"    {example}")
        if explain(key[1]):
            console.print(f"    -> {explain(key[1])}")
    for sentence in advice:
        console.print(f"note: {sentence}.")
    for message in against:
        console.print(f"a build would stop: {message}.")
    if not against:
        console.print("a build would accept these tables")


def _print_suggestion(config: Config, outlook: Outlook, findings: _Findings, survey: Survey) -> None:
    """Print a configuration that fits the tables better than the one that was given, where there is one."""
    outlook.change(**survey.suggested())
    items = findings.counts["items"]
    if 0 < items["kept"] <= items["without_text"] and "title" not in outlook.config.data.columns:
        rows = outlook.heads["items"].sample
        prose = [
            c for c in rows.column_names if c not in (ROW, ID_COLUMN["items"]) and is_prose(rows.column(c))
        ]
        outlook.change(**text_columns(config, prose))
    if "interactions" not in outlook.heads and items["kept"]:
        outlook.change(text_only=True)
    if outlook.config != config:
        print("suggested configuration; what a build does with these tables is then checked with --config:\n")
        print(short_toml(outlook.config, []).strip())
