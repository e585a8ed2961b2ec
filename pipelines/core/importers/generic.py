"""Somebody's own files as tables that a build reads: columns found, moments in seconds, ids alike on both sides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import csv_values, one_array, string_values
from pipelines.core.config import Config, DataConfig
from pipelines.core.errors import InputError
from pipelines.core.importers import encodings
from pipelines.core.importers.guess import Guess, guess_columns
from pipelines.core.importers.moments import seconds_of
from pipelines.core.importers.scales import event_weights, rating_threshold
from pipelines.core.importers.staging import Staging
from pipelines.core.importers.tally import Tally
from pipelines.core.importers.watching import Bars
from pipelines.core.readers import SUFFIXES, Chunk, SourceFile, cut_chunks, read_chunk
from pipelines.core.schema import EVENT, ITEM_ID, OTHER_ID, ROW, TIMESTAMP, USER_ID, WEIGHT, TableName
from pipelines.core.storage import part_name, write_table

_SAMPLE_ROWS = 200_000
_DELIMITERS = ",;|\t"
_FLOAT_ID = r"^[0-9]+\.0+$"


@dataclass(frozen=True)
class Options:
    """What the caller says of files that do not say it themselves.

    Attributes:
        given: (table, our column) = their column, or nothing where there is none.
        encoding: of text files.
        delimiter: between the columns of CSV files.
        moments: how timestamps are written, for `strptime`.

    """

    given: Mapping[tuple[TableName, str], str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    moments: str | None = None


@dataclass
class _Seen:
    """What came up while a table was written."""

    moments: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    weights: list[float] = field(default_factory=lambda: [np.inf, -np.inf])
    n_weights: set[float] = field(default_factory=set)
    float_ids: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Opened:
    """A source made readable: its chunks, and what stands between columns."""

    chunks: list[Chunk]
    delimiter: str
    remark: str


def import_generic(
    sources: Mapping[TableName, Path], options: Options, work: Staging, bars: Bars
) -> tuple[list[Tally], Config, list[str]]:
    """Write the tables; what was read and kept of each, the configuration that fits, and what was guessed.

    Raises:
        InputError: files that cannot be read, or columns that cannot be told.

    """
    opened = {table: _open(table, path, options, work) for table, path in sources.items()}
    samples = {table: _sample(table, source) for table, source in opened.items()}
    guesses = guess_columns(samples, options.given)
    remarks = [f"{table}: {guess.in_words()}" for table, guess in guesses.items()]
    remarks += [f"{table}: {source.remark}" for table, source in opened.items() if source.remark]
    tallies, seen = [], _Seen()
    for table, source in opened.items():
        tallies.append(_write(table, source, guesses[table], options, work, seen, bars))
    return tallies, _config(guesses, seen), remarks + _remarks(seen)


def _open(table: TableName, path: Path, options: Options, work: Staging) -> _Opened:
    """Look at a file, or all files of a folder; text that is not UTF-8 is written again."""
    inside = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES)) if path.is_dir() else [path]
    files = [p for p in inside if not p.name.startswith((".", "_"))]
    if not files or not all(p.name.endswith(SUFFIXES) for p in files):
        raise InputError(
            f"{path}: expected a file, or a folder of files, whose names end in {', '.join(SUFFIXES)}."
        )
    remarks, delimiters = [], set()
    for number, file in enumerate(files):
        if file.name.endswith(".parquet"):
            continue
        encoding = _encoding(file, options)
        if encoding != "utf-8":
            copy = work.scratch / "utf8" / f"{table}-{number:04}-{file.name.removesuffix('.gz')}"
            encodings.to_utf8(file, encoding, copy)
            files[number] = copy
            remarks.append(f"{file.name} is read as {encoding}")
        if file.name.removesuffix(".gz").endswith(".csv"):
            delimiters.add(options.delimiter or _delimiter(files[number]))
    if len(delimiters) > 1:
        raise InputError(
            f"{path}: its files have different marks between columns, {_shown(delimiters)}. Make them alike."
        )
    stated = [SourceFile(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return _Opened(
        cut_chunks(str(files[0].parent), table, stated), next(iter(delimiters), ","), "; ".join(remarks)
    )


def _encoding(file: Path, options: Options) -> str:
    found = encodings.detect(encodings.sample(file))
    if options.encoding is not None:
        return options.encoding
    if found in ("cp1252", "latin-1", "big5"):
        raise InputError(
            f"{file} is not UTF-8; it may be {found}, or another of the many encodings that look like it. Say which "
            f"with --encoding {found}."
        )
    return found


def _delimiter(file: Path) -> str:
    """The mark that stands between the names in the first line."""
    header = encodings.sample(file).partition(b"\n")[0].decode("utf-8-sig", "replace")
    unquoted = re.sub(r'"[^"]*"', "", header)
    counts = Counter({mark: unquoted.count(mark) for mark in _DELIMITERS if mark in unquoted})
    best = counts.most_common(2)
    if len(best) > 1 and best[0][1] == best[1][1]:
        raise InputError(
            f"{file}: between its columns may be {_shown({m for m, _ in best})}; the first line is {header[:120]!r}. "
            "Say which with --delimiter."
        )
    mark = best[0][0] if best else ","
    cells = [cell.strip('" \r') for cell in header.split(mark)]
    if all(re.fullmatch(r"-?[\d.]*", cell) for cell in cells):
        raise InputError(
            f"{file}: its first line is {header[:120]!r}, which looks like data. Put a line with the names of the "
            "columns above it."
        )
    return mark


def _shown(marks: set[str]) -> str:
    return " or ".join(repr(mark) for mark in sorted(marks))


def _sample(table: TableName, source: _Opened) -> pa.Table:
    rows, bad = read_chunk(source.chunks[0], source.delimiter)
    if not rows.num_rows:
        why = bad[0].reason if bad else "it has no rows"
        raise InputError(f"{table}: {source.chunks[0].path} cannot be used: {why}.")
    return rows.slice(0, _SAMPLE_ROWS)


def _write(
    table: TableName, source: _Opened, guess: Guess, options: Options, work: Staging, seen: _Seen, bars: Bars
) -> Tally:
    tally = Tally(table)
    with bars(f"reading {table}", len(source.chunks)) as advance:
        for chunk in source.chunks:
            rows, bad = read_chunk(chunk, source.delimiter)
            tally.read += rows.num_rows + len(bad)
            for row in bad:
                tally.reject(row.reason, f"{Path(chunk.path).name} row {row.row}")
            if rows.num_rows:
                is_csv = not chunk.path.endswith((".parquet", ".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"))
                made = _convert(table, rows, guess, options, seen, is_csv=is_csv)
                write_table(work.tables / table / part_name(chunk.number), made)
            advance()
    tally.check()
    return tally


def _convert(
    table: TableName, rows: pa.Table, guess: Guess, options: Options, seen: _Seen, *, is_csv: bool
) -> pa.Table:
    """Rows with our names; of interactions and relations only what has one."""
    missing = [theirs for theirs in guess.columns.values() if theirs not in rows.column_names]
    if missing:
        raise InputError(
            f"{table}: one of its files has no column '{missing[0]}', which others have. Make them alike."
        )
    columns = {}
    for ours, theirs in guess.columns.items():
        column = rows.column(theirs)
        if ours in (ITEM_ID, USER_ID, OTHER_ID):
            column = _ids(column, f"{table}.{ours}", seen)
        elif ours == TIMESTAMP:
            column = _moments(column, options, seen)
        elif ours == EVENT:
            column = string_values(column)
            seen.events.update(v for v in column.to_pylist() if v)
        elif ours == WEIGHT:
            _look_at_weights(column, seen)
        columns[ours] = column
    if table in ("items", "users"):
        taken = {ROW, *columns, *guess.columns.values()}
        for name in rows.column_names:
            if name not in taken:
                columns[name] = csv_values(rows.column(name)) if is_csv else rows.column(name)
    return pa.table(columns)


def _ids(column: pa.ChunkedArray, name: str, seen: _Seen) -> pa.Array:
    """Ids as strings, `12.0` as `12` where all of a column are written so: a missing one makes pandas do that."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        column = pc.if_else(pc.fill_null(whole, False), column, pa.scalar(None, column.type)).cast(pa.int64())
        seen.float_ids.add(name)
        return one_array(column.cast(pa.string()))
    texts = string_values(column)
    if len(texts) - texts.null_count and pc.all(pc.match_substring_regex(texts, _FLOAT_ID)).as_py():
        seen.float_ids.add(name)
        texts = pc.replace_substring_regex(texts, r"\.0+$", "")
    return texts


def _moments(column: pa.ChunkedArray, options: Options, seen: _Seen) -> pa.Array:
    """Seconds; what cannot be read stays as it is written, for the build to reject with its row."""
    seconds, found = seconds_of(column, options.moments)
    seen.moments += found
    if not found["unreadable"]:
        return pa.array(seconds, pa.float64(), from_pandas=True)
    texts = string_values(column)
    return pc.if_else(pa.array(np.isnan(seconds)), texts, pa.array([repr(float(s)) for s in seconds]))


def _look_at_weights(column: pa.ChunkedArray, seen: _Seen) -> None:
    texts = pc.utf8_trim_whitespace(string_values(column))
    plain = pc.fill_null(pc.match_substring_regex(texts, r"^-?[0-9]{1,15}(\.[0-9]+)?$"), False)
    numbers = pc.unique(texts.filter(plain)).cast(pa.float64()).to_numpy(zero_copy_only=False)
    if len(numbers):
        seen.weights = [
            min(seen.weights[0], float(numbers.min())),
            max(seen.weights[1], float(numbers.max())),
        ]
        seen.n_weights.update(numbers[:100].tolist())


def _config(guesses: Mapping[TableName, Guess], seen: _Seen) -> Config:
    data: dict[str, object] = {}
    weight = guesses["interactions"].columns.get(WEIGHT) if "interactions" in guesses else None
    if weight is not None and np.isfinite(seen.weights[0]) and not seen.events:
        threshold = rating_threshold(weight, *seen.weights, n_distinct=len(seen.n_weights))
        if threshold is not None:
            data["like_threshold"] = threshold
    if set(seen.events) - set(DataConfig().event_weights):
        data["event_weights"] = event_weights(seen.events)
    if "interactions" not in guesses:
        data["text_only"] = True
    return Config(data=DataConfig.model_validate(data))


def _remarks(seen: _Seen) -> list[str]:
    remarks = []
    units = [f"{n} in {unit}" for unit, n in seen.moments.items() if unit not in ("dates", "unreadable")]
    if len(units) > 1 or "milliseconds" in seen.moments:
        remarks.append(f"timestamps: {', '.join(units)}; all are written in seconds")
    if n := seen.moments["unreadable"]:
        remarks.append(
            f"timestamps: {n} cannot be read; a build rejects their rows. --timestamps '%d.%m.%Y' says how to"
        )
    if seen.float_ids:
        remarks.append(f"ids written as 12.0 became 12: {', '.join(sorted(seen.float_ids))}")
    unknown = sorted(set(seen.events) - set(DataConfig().event_weights))
    if unknown:
        remarks.append(
            f"events {', '.join(unknown)}: look at data.event_weights, which guesses what they are worth"
        )
    return remarks
