"""Amazon Reviews 2023 (McAuley Lab) as tables that a build reads, in bounded memory.

Reviews are dealt out to buckets by their user while the files are read, so that a bucket has all of what a user said
and fits into memory; then each bucket is freed of items that are not known and of what a user said of an item before.
Only the ids of items are held whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.config import Config, DataConfig
from pipelines.core.errors import InputError
from pipelines.core.ids import hash_ids
from pipelines.core.importers.amazon_files import SUFFIXES, Kind, interaction, item, kind_of, review
from pipelines.core.importers.lines import read_lines
from pipelines.core.importers.staging import Staging
from pipelines.core.importers.tally import Tally
from pipelines.core.importers.watching import Advance, Bars
from pipelines.core.importers.writing import TableWriter, table_writer
from pipelines.core.storage import part_name, part_paths, write_table

CONFIG = Config(data=DataConfig(like_threshold=4.0))
"""Four stars and five are likes; title, brand, categories and description are the text, as they are by default."""
_MAX_BUCKETS = 64
_BYTES_PER_BUCKET = 64 << 20
"""Of the files as they are; so many make about a million reviews when they are packed."""
_LOT = 100_000

_ITEMS = pa.schema(
    [
        ("item_id", pa.string()), ("title", pa.string()), ("brand", pa.string()), ("categories", pa.list_(pa.string())),
        ("description", pa.string()), ("main_category", pa.string()), ("store", pa.string()), ("price", pa.float64()),
        ("average_rating", pa.float64()), ("rating_number", pa.int64()), ("image_url", pa.string()),
    ]
)  # fmt: skip
_INTERACTIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("weight", pa.float32()),
        ("timestamp", pa.float64()),
    ]
)


def find_sources(paths: Sequence[Path]) -> dict[Path, Kind]:
    """What each file is; a folder stands for the files in it.

    Raises:
        InputError: no items or no reviews among them.

    """
    files: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES)) if path.is_dir() else [path]
        files += [p for p in inside if not p.name.startswith(".")]
    kinds = {path: kind_of(path) for path in files}
    have = ", ".join(f"{p.name} ({kind})" for p, kind in kinds.items()) or "nothing"
    if "items" not in kinds.values():
        raise InputError(
            f"there are no items among the sources: {have}. Give the meta_CATEGORY.jsonl.gz of the same category "
            "too; without it items have no text."
        )
    if not {"reviews", "ratings"}.intersection(kinds.values()):
        raise InputError(
            f"there are no reviews among the sources: {have}. Give CATEGORY.jsonl.gz, or a rating-only .csv.gz."
        )
    return kinds


def import_amazon(kinds: Mapping[Path, Kind], work: Staging, bars: Bars, *, rated_only: bool) -> list[Tally]:
    """Write items and interactions.

    Args:
        kinds: the files, as `find_sources` tells them apart.
        work: where to write.
        bars: shows how far it is.
        rated_only: leave out items that nobody has rated.

    Raises:
        InputError: files that make no sense.

    """
    metas = [path for path, kind in kinds.items() if kind == "items"]
    others = [path for path, kind in kinds.items() if kind != "items"]
    n_buckets = min(_MAX_BUCKETS, 1 + sum(p.stat().st_size for p in others) // _BYTES_PER_BUCKET)
    items = Tally.from_json("items", work.once("items", lambda: _write_items(metas, work, bars).as_json()))
    total = Tally("reviews")
    for number, path in enumerate(others):
        step = f"reviews-{number}"
        dealing = partial(_deal_out, path, work, step, n_buckets, bars)
        told = work.once(step, dealing)
        one = Tally.from_json(f"reviews of {path.name}", told)
        total.read, total.bad = total.read + one.read, total.bad + one.bad
        total.examples = one.examples | total.examples
    total.check()
    folders = [work.scratch / f"reviews-{number}" for number in range(len(others))]
    told = work.once("merge", lambda: _merge(folders, n_buckets, work, total, bars).as_json())
    total = Tally.from_json("reviews", told)
    if rated_only:
        told = work.once("rated", lambda: _drop_unrated(work, items).as_json())
        items = Tally.from_json("items", told)
    return [items, total]


def _megabytes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths) >> 20


def _records(path: Path, tally: Tally, advance: Advance) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file; lines that are none are counted."""
    for number, line in enumerate(read_lines(path, advance), start=1):
        tally.read += 1
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield record
        else:
            tally.reject("the line is no JSON object", f"{path.name} line {number}: {line[:80]!r}")


def _write_items(paths: Sequence[Path], work: Staging, bars: Bars) -> Tally:
    tally, seen = Tally("items"), set[str]()
    with (
        table_writer(work.tables / "items.parquet", _ITEMS, 50_000) as out,
        bars("reading items, MB", _megabytes(paths)) as advance,
    ):
        for path in paths:
            for record in _records(path, tally, advance):
                columns = item(record)
                if isinstance(columns, str):
                    tally.reject(columns, f"{path.name}: title {record.get('title')!r}")
                elif columns["item_id"] in seen:
                    tally.leave_out("of an item that was there already", columns["item_id"])
                else:
                    seen.add(columns["item_id"])
                    out.add_row(columns)
    tally.check()
    return tally


def _deal_out(path: Path, work: Staging, step: str, n_buckets: int, bars: Bars) -> dict[str, Any]:
    """Write the interactions of one file to `n_buckets` files, each user's into the same."""
    tally, folder = Tally(f"reviews of {path.name}"), work.fresh_scratch(step)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack, bars(f"reading {path.name}, MB", _megabytes([path])) as advance:
        outs = [
            stack.enter_context(
                table_writer(folder / part_name(bucket), _INTERACTIONS, _LOT * 8 // n_buckets)
            )
            for bucket in range(n_buckets)
        ]
        for row in _interactions(path, tally, advance):
            rows.append(row)
            if len(rows) == _LOT:
                _deal(rows, outs)
                rows = []
        if rows:
            _deal(rows, outs)
    return tally.as_json()


def _deal(rows: list[dict[str, Any]], outs: Sequence[TableWriter]) -> None:
    table = pa.Table.from_pylist(rows, _INTERACTIONS)
    bucket = hash_ids(table.column("user_id").to_numpy()) % np.uint64(len(outs))
    for number, out in enumerate(outs):
        mine = np.flatnonzero(bucket == number)
        if len(mine):
            out.add(table.take(pa.array(mine)))


def _interactions(path: Path, tally: Tally, advance: Advance) -> Iterator[dict[str, Any]]:
    if path.name.removesuffix(".gz").endswith(".csv"):
        yield from _ratings(path, tally, advance)
        return
    for record in _records(path, tally, advance):
        row = review(record)
        if isinstance(row, str):
            tally.reject(row, f"{path.name}: {record.get('user_id')!r} on {record.get('parent_asin')!r}")
        else:
            yield row


def _ratings(path: Path, tally: Tally, advance: Advance) -> Iterator[dict[str, Any]]:
    lines = read_lines(path, advance)
    next(lines)  # the header
    for number, line in enumerate(lines, start=2):
        tally.read += 1
        # nothing is quoted, and a history of thousands of items is one long cell that nobody needs
        cells = line.decode("utf-8", "replace").split(",", 4)[:4]
        row = interaction(*cells) if len(cells) == 4 else "the line has fewer than four columns"
        if isinstance(row, str):
            tally.reject(row, f"{path.name} line {number}: {','.join(cells)[:80]}")
        else:
            yield row


def _merge(folders: Sequence[Path], n_buckets: int, work: Staging, total: Tally, bars: Bars) -> Tally:
    known = pq.read_table(work.tables / "items.parquet", columns=["item_id"]).column(0).combine_chunks()
    with bars("merging reviews", n_buckets) as advance:
        for bucket in range(n_buckets):
            table = pa.concat_tables([pq.read_table(folder / part_name(bucket)) for folder in folders])
            is_known = pc.is_in(table.column("item_id"), value_set=known)
            unknown = table.filter(pc.invert(is_known))
            total.leave_out(
                "of items without metadata", str(unknown.slice(0, 1).to_pylist()), unknown.num_rows
            )
            table = table.filter(is_known)
            last = latest(table)
            total.leave_out(
                "of an item that the same user reviewed later", "", table.num_rows - last.num_rows
            )
            if last.num_rows:
                write_table(work.tables / "interactions" / part_name(bucket), last)
            advance()
    total.check()
    return total


def latest(table: pa.Table) -> pa.Table:
    """Of each user and item the row with the latest timestamp, of equal ones the last; sorted by user and item."""
    order = pc.sort_indices(
        table.append_column("_row", pa.array(np.arange(table.num_rows))),
        sort_keys=[(name, "ascending") for name in ("user_id", "item_id", "timestamp", "_row")],
    )
    table = table.take(order)
    if table.num_rows < 2:
        return table
    above, below = table.slice(0, table.num_rows - 1), table.slice(1)
    differs = [pc.not_equal(above.column(c), below.column(c)) for c in ("user_id", "item_id")]
    is_last = np.append(pc.or_(*differs).to_numpy(), True)
    return table.filter(pa.array(is_last))


def _drop_unrated(work: Staging, items: Tally) -> Tally:
    path = work.tables / "items.parquet"
    rated = pa.array([], pa.string())
    for part in part_paths(work.tables / "interactions"):
        here = pq.read_table(part, columns=["item_id"]).column(0)
        rated = pc.unique(pa.concat_arrays([rated, *here.chunks]))
    source = pq.ParquetFile(path)
    n_dropped = 0
    with table_writer(path, _ITEMS, 50_000) as out:
        for batch in source.iter_batches(50_000):
            lot = pa.Table.from_batches([batch])
            kept = lot.filter(pc.is_in(lot.column("item_id"), value_set=rated))
            n_dropped += lot.num_rows - kept.num_rows
            out.add(kept)
    items.leave_out("that nobody has rated", "", n_dropped)
    return items
