"""What the service was told, put into the clean tables of a build: interactions, users' words, changes of items.

What was said last counts. A file of the caller's that was written after a change of an item knows better; a withdrawn
item is out until it is put again (`core.left_out`). What users say of themselves is said by nobody else, and stands.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.collected import SAID_AT, Collected
from pipelines.core.columns import Rejects
from pipelines.core.config import Config
from pipelines.core.forgetting import NOBODY, Forgotten
from pipelines.core.ids import row_numbers
from pipelines.core.left_out import NOTHING, LeftOut
from pipelines.core.readers import Chunk
from pipelines.core.records import SOURCE, Change, to_rows
from pipelines.core.schema import (
    EVENT,
    INTERACTIONS,
    ITEM_ID,
    ITEM_IDX,
    REJECTS,
    TEXT,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
)
from pipelines.core.storage import write_table
from pipelines.core.tables import common_schema, conform
from pipelines.core.validate import Checked


def check_told(
    chunk: Chunk, table: pa.Table, config: Config, item_ids: pa.Array, left_out: LeftOut = NOTHING
) -> Checked:
    """Events of the service as clean interactions.

    They were checked when they came. What no item or kind of this build fits is set aside with its reason, and is no
    fault of the caller's tables: items may be announced by their first event.

    Args:
        chunk: where they lie.
        table: of `collected.INTERACTIONS_TOLD`, with `ROW`.
        config: says what each kind weighs.
        item_ids: (I,) known ones.
        left_out: whose events are no rejects either: of withdrawn items, and of users whom this store, put back from
            an older backup, knows no more that they were forgotten.

    """
    counts: Counter[str] = Counter(told=table.num_rows)
    table = left_out.apply(chunk, table, counts)
    rejects = Rejects(chunk, table)
    rows = row_numbers(table.column(ITEM_ID), item_ids)
    rejects.add(np.flatnonzero(rows < 0), "item_id, of an event of the service, is not in the items table")
    kinds = table.column(EVENT).combine_chunks().dictionary_encode()
    weights = [config.data.event_weights.get(kind, np.nan) for kind in kinds.dictionary.to_pylist()]
    places = kinds.indices.fill_null(len(weights)).to_numpy(zero_copy_only=False)
    factors = np.append(np.array(weights, dtype=np.float64), 1.0)[places]
    rejects.add(np.flatnonzero(np.isnan(factors)), "event of the service has no weight in data.event_weights")
    clean = pa.table(
        {
            USER_ID: table.column(USER_ID),
            ITEM_IDX: pa.array(rows),
            WEIGHT: pa.array((table.column(WEIGHT).to_numpy() * np.nan_to_num(factors)).astype(np.float32)),
            TIMESTAMP: table.column(TIMESTAMP),
            EVENT: table.column(EVENT),
        },
        schema=INTERACTIONS,
    ).filter(pa.array(rejects.keep_mask()))
    aside = rejects.to_table(table, [], [ITEM_ID, EVENT])
    counts["told_set_aside"] = aside.num_rows
    return Checked(clean, aside, counts)


def tell_users(
    paths: Sequence[Path], target: Path, told: Collected, forgotten: Forgotten = NOBODY
) -> Counter[str]:
    """Put users' own words into the staged parts of their table.

    Args:
        paths: the parts of the caller's tables.
        target: a part for users who are in none of them.
        told: by the service.
        forgotten: whose words of before that are left out, should a store that was put back have them.

    """
    said = told.table("users")
    moments = said.column(SAID_AT).to_numpy().astype(np.float64)
    said = said.filter(pa.array(~forgotten.concerns(said.column(USER_ID), moments)))
    words, is_new = said.column(TEXT), np.ones(said.num_rows, dtype=bool)
    for path in paths:
        part = pq.read_table(path)
        rows = row_numbers(part.column(USER_ID), said.column(USER_ID).combine_chunks())
        if (rows < 0).all():
            continue
        is_new[rows[rows >= 0]] = False
        theirs = words.take(pa.array(rows, mask=rows < 0))
        texts = pc.coalesce(theirs, part.column(TEXT))
        write_table(path, part.set_column(part.column_names.index(TEXT), TEXT, texts))
    fresh = said.filter(pa.array(is_new)).drop_columns(SAID_AT)
    if fresh.num_rows:
        write_table(target, _with_source(fresh))
    return Counter(told=said.num_rows)


def _with_source(table: pa.Table) -> pa.Table:
    numbers = pa.array(np.arange(1, table.num_rows + 1))
    return table.append_column("_source", pa.repeat(SOURCE, table.num_rows)).append_column("_row", numbers)


def tell_items(
    paths: Sequence[Path], target: Path, told: Collected, written: Mapping[str, float], config: Config
) -> tuple[Counter[str], pa.Table]:
    """Put changes of items into the staged parts of their table.

    Args:
        paths: the parts of the caller's tables, withdrawn items left out.
        target: a part for items that are in none of them.
        told: by the service.
        written: source to when it was written, seconds since 1970.
        config: of the build.

    Returns:
        Counts, and changes that do not fit the columns of these tables, as `schema.REJECTS`.

    """
    changes = {row[ITEM_ID]: row for row in told.table("items").to_pylist() if row["fields"] is not None}
    new, counts, rejects = dict(changes), Counter[str](told=len(changes)), []
    if not paths:  # no columns that anything could be of; that the table is empty is told later
        return counts, REJECTS.empty_table()
    # a part may have a column as whole numbers, empty or not at all: what may be said is of the whole table
    schema = pa.schema([*common_schema(paths), ("_source", pa.string()), ("_row", pa.int64())])
    texts = {field.name for field in schema if pa.types.is_string(field.type)}
    told_ids = pa.array(list(changes), pa.string())
    for path in paths:
        part = pq.read_table(path)
        ids = part.column(ITEM_ID)
        found = pc.is_in(ids, value_set=told_ids).to_numpy()
        rows = np.flatnonzero(found).tolist()
        for item_id in ids.take(pa.array(rows, pa.int64())).to_pylist():
            new.pop(item_id, None)
        if not rows:
            continue
        part = conform(part, schema, np.ones(part.num_rows, dtype=bool))
        there = part.take(pa.array(rows, pa.int64())).to_pylist()
        later = [
            (place, row)
            for place, row in zip(rows, there, strict=True)
            if changes[row[ITEM_ID]]["updated_at"] > written.get(row["_source"], 0.0)
        ]
        if later:
            asked = [_change(changes[row[ITEM_ID]], row, texts, config) for _, row in later]
            made = dict(zip([place for place, _ in later], to_rows(asked, part, config), strict=True))
            rejects += _write_changed(path, part, made)
            counts["told_changed"] += sum(not isinstance(row, str) for row in made.values())
    whole = [change for change in new.values() if change["is_whole"]]
    made_new = to_rows(
        [_change(change, None, texts, config) for change in whole], schema.empty_table(), config
    )
    rows_new = [row for row in made_new if not isinstance(row, str)]
    if rows_new:
        write_table(target, pa.Table.from_pylist(rows_new, schema))
    counts["told_new"] = len(rows_new)
    rejects += [
        _reject(change[ITEM_ID], row)
        for change, row in zip(whole, made_new, strict=True)
        if isinstance(row, str)
    ]
    counts["told_set_aside"] = len(rejects)
    return counts, pa.Table.from_pylist(rejects, REJECTS)


def _change(
    said: Mapping[str, Any], row: Mapping[str, Any] | None, texts: Collection[str], config: Config
) -> Change:
    beside = None if row is None else dict(row)
    if beside and said["is_whole"]:  # of vectors the service is told nothing: they stay
        beside = {name: beside[name] for name in config.data.vectors if name in beside}
    # a column of numbers that has become one of texts, as the tables' own values do (`tables.conform`)
    fields = {
        name: value if value is None or name not in texts else str(value)
        for name, value in json.loads(said["fields"]).items()
    }
    return Change(said[ITEM_ID], fields, beside)


def _write_changed(
    path: Path, part: pa.Table, made: Mapping[int, dict[str, Any] | str]
) -> list[dict[str, Any]]:
    """A part with some of its rows exchanged; the rejects of those that cannot be, which stay as they are."""
    fitting = {place: row for place, row in made.items() if not isinstance(row, str)}
    order = np.arange(part.num_rows)
    order[list(fitting)] = part.num_rows + np.arange(len(fitting))
    exchanged = pa.Table.from_pylist(list(fitting.values()), part.schema)
    write_table(path, pa.concat_tables([part, exchanged]).take(pa.array(order)))
    ids = part.column(ITEM_ID)
    return [_reject(ids[place].as_py(), why) for place, why in made.items() if isinstance(why, str)]


def _reject(item_id: str, reason: str) -> dict[str, Any]:
    return {"table": "items", "source": SOURCE, "row": 0, "reason": reason, "record": item_id}
