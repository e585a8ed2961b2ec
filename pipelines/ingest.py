"""Raw tables in, clean tables and rejects out.

Reads: items, interactions and, where they are there, users and relations under `--data`; what the service was told
until the build began (`core.collected`).
Writes: `tables/{items,users,interactions,relations}`, `rejects/`, the id lists, `report.json`.

Ray Data spreads the chunks of every table over the cluster; each task reads, checks and cleans its chunk and
writes its own parts, so no row passes through the driver. What needs to see all rows of a table (duplicates,
the numbering of users) looks at the id columns alone, in one task.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from pipelines.cleaning import EntityTask, PairTask, ToldTask, staged
from pipelines.core import tables
from pipelines.core.collected import SAID_AT, Collected
from pipelines.core.config import Config
from pipelines.core.enough import problems
from pipelines.core.errors import InputError
from pipelines.core.forgetting import Forgotten
from pipelines.core.layout import Layout
from pipelines.core.left_out import LeftOut
from pipelines.core.readers import Chunk, SourceFile, cut_chunks, find_files
from pipelines.core.schema import ITEM_ID, REJECTS, TABLES, TableName
from pipelines.core.storage import part_name, part_paths, write_json, write_table
from pipelines.core.told import tell_items, tell_users
from pipelines.core.vectors import VectorLengths
from pipelines.progress import Progress

__all__ = ["fingerprint", "run"]


def fingerprint(config: Config, layout: Layout, data: str) -> str:
    """Hash of the input files' names, sizes and times of change, and of whom to forget.

    Raises:
        InputError: the items table, or without `data.text_only` the interactions table, is not there.

    """
    files = {t: find_files(data, _name(config, t)) for t in TABLES}
    for table in ("items", "interactions"):
        if not files[table] and not (table == "interactions" and config.data.text_only):
            hint = (
                "Set data.text_only = true to build from text alone, or give"
                if table == "interactions"
                else "Give"
            )
            raise InputError(
                f"{data} holds no table '{_name(config, table)}'. {hint} {_name(config, table)}.parquet, .jsonl or "
                f".csv, or a folder {_name(config, table)}/ of such files; data.{table} sets another name."
            )
    listed: dict[str, object] = {t: [vars(f) for f in fs] for t, fs in files.items()}
    listed["forgotten"] = Forgotten.read(layout.forgotten).digest()
    if told := Collected.read(layout):
        listed["told"] = told.digest
    return hashlib.blake2b(json.dumps(listed, sort_keys=True).encode(), digest_size=12).hexdigest()


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:
    """Clean every table under `data`.

    Raises:
        InputError: an empty table, a missing column, no text at all, too few users, too many rejects.

    """
    files = {t: find_files(data, _name(config, t)) for t in TABLES}
    chunks = {t: cut_chunks(data, t, files[t]) for t in TABLES}
    counts: dict[str, Counter[str]] = {}
    told = Collected.read(layout)
    told_chunks = _told_chunks(told, len(chunks["interactions"]))
    withdrawn = told.withdrawn if told else pa.array([], pa.string())
    left_out = ray.put(LeftOut(Forgotten.read(layout.forgotten), withdrawn))
    with progress.bar("reading", sum(map(len, chunks.values())) + len(told_chunks)) as advance:
        for table in ("items", "users"):
            counts[table] = _map_chunks(chunks[table], EntityTask(config, layout, left_out), advance)
            if told:
                counts[table] += _count(_tell.remote(config, layout, table, len(chunks[table]), files[table]))
            vectors = tuple(config.data.vectors) if table == "items" else ()
            counts[table] += _count(_merge_entities.remote(layout, table, vectors))
        among_items = PairTask(config, layout, _load_ids.remote(layout, "items"), left_out)
        counts["interactions"] = _map_chunks(chunks["interactions"], among_items, advance)
        counts["relations"] = _map_chunks(chunks["relations"], among_items, advance)
        counts["interactions"] += _map_chunks(told_chunks, ToldTask(among_items), advance)
    counts["relations"] += _count(_merge_relations.remote(layout))
    listed = _count(_list_users.remote(layout))
    n_active = listed.pop("active")
    counts["users"] += listed
    _number_users(layout, progress)
    shutil.rmtree(layout.stage("ingest") / "staged", ignore_errors=True)
    report = {t: dict(sorted(c.items())) for t, c in counts.items()}
    report["reasons"] = ray.get(_reasons.remote(layout))
    write_json(layout.ingest_report, report)
    for table, message in problems(counts, n_active, config):  # after the rejects are there to be looked at
        raise InputError(f"{message}{_samples(layout, table)}.")
    return {
        "items": counts["items"]["kept"],
        "users": counts["users"]["kept"],
        "interactions": counts["interactions"]["kept"],
        **({"relations": counts["relations"]["kept"]} if chunks["relations"] else {}),
        "rejected": sum(c["rejected"] for c in counts.values()),
    }


def _told_chunks(told: Collected | None, first: int) -> list[Chunk]:
    """Of the service's events, numbered after those of the caller's tables."""
    if told is None:
        return []
    uri = str(told.root)
    chunks = cut_chunks(uri, "interactions", find_files(uri, "interactions"))
    return [replace(chunk, number=first + chunk.number) for chunk in chunks]


@ray.remote
def _tell(
    config: Config, layout: Layout, table: TableName, number: int, files: Sequence[SourceFile]
) -> dict[str, int]:
    """Put what the service was told of items or users into their staged parts, and in one more of this number."""
    told = Collected.read(layout)
    assert told is not None  # noqa: S101 - the caller has read it
    target = staged(layout, table) / part_name(number)
    paths = [path for path in part_paths(staged(layout, table)) if path != target]
    if table == "users":
        return dict(tell_users(paths, target, told, Forgotten.read(layout.forgotten)))
    written = {file.path: file.mtime_ns / 1e9 for file in files}
    counts, rejects = tell_items(paths, target, told, written, config)
    if rejects.num_rows:
        write_table(layout.rejects / "items" / "told.parquet", rejects)
    if target.is_file():
        ids = pq.read_table(target, columns=[ITEM_ID]).column(ITEM_ID)
        said = told.table("items").select([ITEM_ID, SAID_AT])
        write_table(layout.announced, said.filter(pc.is_in(said.column(ITEM_ID), value_set=ids)))
    return dict(counts)


def _name(config: Config, table: TableName) -> str:
    return str(getattr(config.data, table))


def _read_ids(layout: Layout, table: TableName) -> pa.Array:
    return pq.read_table(layout.ids(table)).column(0).combine_chunks()


@ray.remote
def _load_ids(layout: Layout, table: TableName) -> pa.Array:
    """Ids for tasks, from a task: the driver has no need to hold them."""
    return _read_ids(layout, table)


def _map_chunks(
    chunks: Sequence[Chunk], task: Callable[[Chunk], Counter[str]], advance: Callable[[int], None]
) -> Counter[str]:
    """Apply `task` to every chunk through Ray Data, one block a chunk; the sum of the counts."""
    if not chunks:
        return Counter()

    def apply(batch: dict[str, Any]) -> dict[str, list[str]]:
        try:
            return {"counts": [json.dumps(task(chunk)) for chunk in batch["item"]]}
        except InputError as e:  # Ray would wrap it in a page of traceback
            return {"counts": [json.dumps({"error": str(e)})]}

    chunks_ds = ray.data.from_items(list(chunks), override_num_blocks=len(chunks))
    total: Counter[str] = Counter()
    for row in chunks_ds.map_batches(apply, batch_size=1, num_cpus=1).iter_rows():
        counted = json.loads(row["counts"])
        if "error" in counted:
            raise InputError(counted["error"])
        total.update(counted)
        advance(1)
    return total


def _count(ref: ray.ObjectRef) -> Counter[str]:
    return Counter(ray.get(ref))


@ray.remote
def _merge_entities(layout: Layout, table: TableName, vectors: tuple[str, ...]) -> dict[str, int]:
    """Decide which row of each id stays, write the id list and move the parts into place.

    Only ids are held for the whole table; the texts pass through part by part.
    """
    paths = part_paths(staged(layout, table))
    lengths = VectorLengths(vectors)
    n_misfits = sum(_drop_misfits(layout, path, lengths) for path in paths) if vectors else 0
    decision = tables.find_duplicates(paths, table)
    if decision.rejects.num_rows:
        write_table(layout.rejects / table / "duplicates.parquet", decision.rejects)
    schema = tables.common_schema(paths)
    for path, keep in zip(paths, decision.keep, strict=True):
        conforming = tables.conform(pq.read_table(path), schema, keep)
        write_table(layout.tables / table / path.name, lengths.fix(conforming))
    write_table(layout.ids(table), decision.ids)
    return {
        "kept": decision.ids.num_rows,
        "rejected": decision.rejects.num_rows + n_misfits,
        "identical_duplicates_merged": decision.n_merged,
    }


def _drop_misfits(layout: Layout, path: Path, lengths: VectorLengths) -> int:
    """Take the rows out of a part whose vectors are not as long as those before; how many there were."""
    fitting, rejects = lengths.check(pq.read_table(path))
    if rejects.num_rows:
        write_table(path, fitting)
        write_table(layout.rejects / "items" / f"{path.stem}-vectors.parquet", rejects)
    return int(rejects.num_rows)


@ray.remote
def _merge_relations(layout: Layout) -> dict[str, int]:
    """Leave out rows that say again what another has said, and move the parts into place."""
    paths = part_paths(staged(layout, "relations"))
    masks = tables.first_of_each(paths)
    for path, keep in zip(paths, masks, strict=True):
        write_table(layout.tables / "relations" / path.name, pq.read_table(path).filter(pa.array(keep)))
    kept = sum(int(keep.sum()) for keep in masks)
    return {"kept": kept, "identical_duplicates_merged": sum(map(len, masks)) - kept}


@ray.remote
def _list_users(layout: Layout) -> dict[str, int]:
    """Append the users who only appear in interactions, in the order of their ids, and list everybody."""
    known = _read_ids(layout, "users")
    active = tables.distinct_ids(part_paths(staged(layout, "active_users")))
    newcomers = tables.new_ids(active, known)
    if len(newcomers):
        number = len(part_paths(layout.tables / "users"))
        write_table(layout.tables / "users" / f"part-{number:06d}-new.parquet", tables.bare_users(newcomers))
    ids = pa.concat_arrays([known, newcomers])
    write_table(layout.ids("users"), pa.table({"user_id": ids}))
    return {"kept": len(newcomers), "without_description": len(newcomers), "active": len(active)}


@ray.remote
def _number_part(layout: Layout, path: Path, known_users: pa.Array) -> None:
    own = pq.read_table(staged(layout, "active_users") / path.name).column(0)
    numbered = tables.number_users(pq.read_table(path), own, known_users)
    write_table(layout.tables / "interactions" / path.name, numbered)


def _number_users(layout: Layout, progress: Progress) -> None:
    """Put the row numbers of users into every part of the interactions."""
    known_users = _load_ids.remote(layout, "users")
    parts = part_paths(staged(layout, "interactions"))
    with progress.bar("numbering users", len(parts)) as advance:
        waiting = [_number_part.remote(layout, path, known_users) for path in parts]
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
            advance(len(done))


@ray.remote
def _reasons(layout: Layout) -> dict[str, int]:
    """Rejects by table and reason, for the report."""
    reasons: Counter[str] = Counter()
    for path in sorted(layout.rejects.rglob("*.parquet")):
        rejects = pq.read_table(path, columns=["table", "reason"], schema=REJECTS)
        words = pc.binary_join_element_wise(rejects.column("table"), rejects.column("reason"), ": ")
        counted = pc.value_counts(words)
        reasons.update(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))
    return dict(reasons.most_common(100))


def _samples(layout: Layout, table: str) -> str:
    """The first few rejects in words, and where the others are."""
    for path in part_paths(layout.rejects / table):
        rows = pq.read_table(path).slice(0, 3).to_pylist()
        examples = "; ".join(f"{Path(r['source']).name} row {r['row']}: {r['reason']}" for r in rows)
        return f" (for example {examples}; all of them are in {layout.rejects / table})"
    return ""
