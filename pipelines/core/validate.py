"""From raw rows to clean rows and rejects, one chunk at a time. Nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import (
    Rejects,
    csv_values,
    hidden_flags,
    id_values,
    number_values,
    string_values,
    timestamp_values,
)
from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.ids import row_numbers
from pipelines.core.left_out import NOTHING, LeftOut
from pipelines.core.privacy import scrub_personal_data
from pipelines.core.readers import Chunk, is_csv
from pipelines.core.schema import (
    EVENT,
    ID_COLUMN,
    INTERACTIONS,
    IS_HIDDEN,
    ITEM_ID,
    ITEM_IDX,
    MAX_WEIGHT,
    OTHER_ID,
    OTHER_IDX,
    RELATION,
    RELATIONS,
    REQUIRED,
    RESERVED,
    ROW,
    TEXT,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
)  # fmt: skip
from pipelines.core.text import clean_text, compose_text, truncate_text
from pipelines.core.text_files import BadRow
from pipelines.core.vectors import vector_values


@dataclass
class Checked:
    """What a chunk's rows turned out to be.

    Attributes:
        table: the clean rows.
        rejects: rows of `schema.REJECTS`.
        counts: read, rejected, and whatever was changed or left out by rule.

    """

    table: pa.Table
    rejects: pa.Table
    counts: Counter[str] = field(default_factory=Counter)


def rename_columns(table: pa.Table, columns: dict[str, str], chunk: Chunk) -> pa.Table:
    """Give the caller's columns our names, and check that the required ones are there.

    Raises:
        InputError: a required column is absent; names the file, what it has and what to write in the config.

    """
    required = REQUIRED[chunk.table]
    # one column of theirs may be several of ours in different tables: what this table needs wins
    theirs = {v: k for k, v in sorted(columns.items(), key=lambda pair: pair[0] in required)}
    names = [theirs.get(n, n) for n in table.column_names]
    # a renamed column wins over one that bears our name already
    keep = [i for i, n in enumerate(names) if names.count(n) == 1 or table.column_names[i] != n]
    table = table.select(keep).rename_columns([names[i] for i in keep])
    missing = [c for c in required if c not in table.column_names]
    if missing and table.num_rows:
        have = ", ".join(n for n in table.column_names if n != ROW)
        raise InputError(
            f"{chunk.path}: column '{missing[0]}' is missing; the file has: {have}. "
            f'Rename it, or set data.columns = {{{missing[0]} = "<your column>"}}.'
        )
    return table


def check_entities(
    chunk: Chunk, table: pa.Table, bad: list[BadRow], config: Config, left_out: LeftOut = NOTHING
) -> Checked:
    """Clean a chunk of items or users: ids checked, text composed (and scrubbed for users), metadata kept.

    The result has the id, `text`, the source and row number, for items `is_hidden`, and every other column.
    Duplicate ids are not looked for here: they may lie in other chunks.
    """
    counts: Counter[str] = Counter(read=table.num_rows + len(bad))
    table = left_out.apply(chunk, rename_columns(table, config.data.columns, chunk), counts)
    rejects = Rejects(chunk, table)
    id_column = ID_COLUMN[chunk.table]
    for name in set(RESERVED).intersection(table.column_names):
        raise InputError(
            f"{chunk.path}: column '{name}' has a name Kindling uses itself. Rename it, or set "
            f'data.columns = {{my_{name.strip("_")} = "{name}"}}.'
        )
    if not table.num_rows:
        return Checked(pa.table({}), rejects.to_table(table, bad, []), counts + Counter(rejected=len(bad)))
    ids = id_values(table, id_column, rejects)
    is_user = chunk.table == "users"
    text_columns = config.data.user_text if is_user else config.data.item_text
    texts = _texts(
        table, text_columns, config, counts, rejects, scrub=is_user and config.privacy.scrub_user_text
    )
    columns: dict[str, pa.Array] = {id_column: ids, TEXT: pa.array(texts, pa.string())}
    if not is_user:
        columns[IS_HIDDEN] = hidden_flags(table, rejects)
    for name in table.column_names:
        # users' raw text columns stay behind: only the scrubbed text goes on
        if name in columns or name == ROW or (is_user and name in text_columns):
            continue
        column = table.column(name)
        if not is_user and name in config.data.vectors:
            column = vector_values(column, name, rejects)
        elif name in text_columns and pa.types.is_string(column.type):
            cleaned = [None if v is None else clean_text(v) for v in column.to_pylist()]
            column = pa.array(cleaned, pa.string())
        elif is_csv(chunk.path):
            column = csv_values(column)
        columns[name] = column
    columns["_source"] = pa.repeat(chunk.path, table.num_rows)
    columns["_row"] = table.column(ROW)
    clean = pa.table(columns).filter(pa.array(rejects.keep_mask()))
    rejected = rejects.to_table(table, bad, [id_column])
    counts["rejected"] = rejected.num_rows
    counts["without_text"] = pc.sum(pc.equal(clean.column(TEXT), "")).as_py() or 0
    return Checked(clean, rejected, counts)


def check_interactions(
    chunk: Chunk, table: pa.Table, bad: list[BadRow], config: Config, item_ids: pa.Array,
    left_out: LeftOut = NOTHING,
) -> Checked:  # fmt: skip
    """Clean a chunk of interactions: ids, known items, weights times event weights, timestamps.

    The result follows `schema.INTERACTIONS`.
    """
    counts: Counter[str] = Counter(read=table.num_rows + len(bad))
    table = left_out.apply(chunk, rename_columns(table, config.data.columns, chunk), counts)
    rejects = Rejects(chunk, table)
    if not table.num_rows:
        return Checked(
            INTERACTIONS.empty_table(), rejects.to_table(table, bad, []), counts + Counter(rejected=len(bad))
        )
    users = id_values(table, USER_ID, rejects)
    items = id_values(table, ITEM_ID, rejects)
    item_idx = row_numbers(items, item_ids)
    rejects.add(np.flatnonzero(item_idx < 0), "item_id is not in the items table")
    weights = _weights(table, config, rejects)
    timestamps = timestamp_values(table, rejects)
    events = (
        string_values(table.column(EVENT))
        if EVENT in table.column_names
        else pa.nulls(table.num_rows, pa.string())
    )
    weights = weights * _event_weights(events, config, rejects)
    keep = rejects.keep_mask()
    if config.data.like_threshold is not None:
        if WEIGHT not in table.column_names:
            raise InputError(
                f"{chunk.path}: data.like_threshold = {config.data.like_threshold} needs a column '{WEIGHT}', and "
                f'there is none. Set data.columns = {{{WEIGHT} = "<your column>"}}, or leave the threshold out.'
            )
        with np.errstate(invalid="ignore"):
            liked = weights >= config.data.like_threshold
        counts["below_like_threshold"] = int((keep & ~liked).sum())
        keep, weights = keep & liked, np.where(liked, 1.0, weights)
    clean = pa.table(
        {
            USER_ID: users,
            ITEM_IDX: pa.array(item_idx),
            WEIGHT: pa.array(np.where(keep, weights, 0.0).astype(np.float32)),
            TIMESTAMP: pa.array(timestamps, pa.float64(), from_pandas=True),
            EVENT: events,
        },
        schema=INTERACTIONS,
    )
    clean = clean if keep.all() else clean.filter(pa.array(keep))
    rejected = rejects.to_table(table, bad, [USER_ID, ITEM_ID, WEIGHT, TIMESTAMP, EVENT])
    counts["rejected"] = rejected.num_rows
    return Checked(clean, rejected, counts)


def check_relations(
    chunk: Chunk, table: pa.Table, bad: list[BadRow], config: Config, item_ids: pa.Array,
    left_out: LeftOut = NOTHING,
) -> Checked:  # fmt: skip
    """Clean a chunk of relations: two known items that differ, and a name.

    The result follows `schema.RELATIONS`. Duplicates are not looked for here: they may lie in other chunks.
    """
    counts: Counter[str] = Counter(read=table.num_rows + len(bad))
    table = left_out.apply(chunk, rename_columns(table, config.data.columns, chunk), counts)
    rejects = Rejects(chunk, table)
    if not table.num_rows:
        return Checked(
            RELATIONS.empty_table(), rejects.to_table(table, bad, []), counts + Counter(rejected=len(bad))
        )
    rows = {}
    for name in (ITEM_ID, OTHER_ID):
        rows[name] = row_numbers(id_values(table, name, rejects), item_ids)
        rejects.add(np.flatnonzero(rows[name] < 0), f"{name} is not in the items table")
    rejects.add(np.flatnonzero(rows[ITEM_ID] == rows[OTHER_ID]), "item_id and other_id are the same item")
    names = pc.utf8_trim_whitespace(pc.fill_null(string_values(table.column(RELATION)), ""))
    nameless = pc.equal(names, "").to_numpy(zero_copy_only=False)
    rejects.add(np.flatnonzero(nameless), "relation is missing")
    clean = pa.table(
        {
            ITEM_IDX: pa.array(rows[ITEM_ID]),
            RELATION: names,
            OTHER_IDX: pa.array(rows[OTHER_ID]),
        },
        schema=RELATIONS,
    ).filter(pa.array(rejects.keep_mask()))
    rejected = rejects.to_table(table, bad, [ITEM_ID, RELATION, OTHER_ID])
    counts["rejected"] = rejected.num_rows
    return Checked(clean, rejected, counts)


def _texts(
    table: pa.Table,
    columns: Sequence[str],
    config: Config,
    counts: Counter[str],
    rejects: Rejects,
    *,
    scrub: bool,
) -> list[str]:
    present = [c for c in columns if c in table.column_names]
    if not present:
        return [""] * table.num_rows
    texts = []
    for index, row in enumerate(table.select(present).to_pylist()):
        try:
            text = compose_text(row, present)
        except TypeError as e:
            rejects.add([index], str(e))
            text = ""
        if len(text) > config.data.max_text_chars:
            text = truncate_text(text, config.data.max_text_chars)
            counts["texts_cut"] += 1
        if scrub and text:
            text, found = scrub_personal_data(text, regions=config.privacy.phone_regions)
            for kind, n in found.items():
                counts[f"scrubbed_{kind}"] += n
        texts.append(text)
    return texts


def _event_weights(events: pa.Array, config: Config, rejects: Rejects) -> npt.NDArray[np.float64]:
    """(n,) what each row's event multiplies its weight by; 1 where there is none."""
    coded = pc.fill_null(events, "").dictionary_encode()
    distinct, code = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    known = {**config.data.event_weights, "": 1.0}
    unknown = np.array([event not in known for event in distinct], dtype=bool)[code]
    reasons = [f"event '{event[:40]}' has no weight in data.event_weights" for event in distinct]
    rejects.add_each(np.flatnonzero(unknown), code[unknown], reasons)
    factors = np.array([known.get(event, 1.0) for event in distinct], dtype=np.float64)
    return np.asarray(factors[code])


def _weights(table: pa.Table, config: Config, rejects: Rejects) -> npt.NDArray[np.float64]:
    if WEIGHT not in table.column_names:
        return np.ones(table.num_rows)
    column = table.column(WEIGHT)
    weights = number_values(column, WEIGHT, rejects)
    absent = np.asarray(column.is_null().to_numpy())
    rejects.add(np.flatnonzero(~absent & ~np.isfinite(weights)), "weight is not finite")
    rejects.add(np.flatnonzero(weights < 0), "weight is negative; say 'dislike' with an event instead")
    rejects.add(np.flatnonzero(weights > MAX_WEIGHT), f"weight is above {MAX_WEIGHT:.0f}; divide all weights")
    if config.data.like_threshold is None:
        nothing = (weights >= 0) & (weights < np.finfo(np.float32).tiny)
        rejects.add(np.flatnonzero(nothing), "weight is 0, which says nothing; leave the row out")
    else:
        rejects.add(np.flatnonzero(absent), "weight is missing, and data.like_threshold needs one")
    return np.where(absent, 1.0, weights)
