"""From raw rows to clean rows and rejects, one chunk at a time. Nothing is dropped in silence."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.config import Config
from pipelines.core.errors import InputError
from pipelines.core.ids import row_numbers
from pipelines.core.privacy import scrub_personal_data
from pipelines.core.readers import ROW, BadRow, Chunk, json_array
from pipelines.core.schema import (
    EVENT, ID_COLUMN, INTERACTIONS, IS_HIDDEN, ITEM_ID, ITEM_IDX, REJECTS, REQUIRED, TEXT, TIMESTAMP, USER_ID,
    WEIGHT, TableName,
)  # fmt: skip
from pipelines.core.text import clean_text, compose_text, truncate_text

_MAX_ID_BYTES = 512
_MILLISECONDS_FROM = 1e11
"""Seconds since 1970 reach this in the year 5138; whoever sends more sends milliseconds."""


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


class _Rejects:
    """Collects the reason of each rejected row; the first reason counts."""

    def __init__(self, chunk: Chunk, table: pa.Table) -> None:
        self.chunk = chunk
        self.numbers = table.column(ROW).to_numpy()
        self.reasons: dict[int, str] = {}
        self.records: dict[int, str] = {}

    def add(self, indices: Sequence[int] | npt.NDArray[np.int64], reason: str) -> None:
        for index in indices:
            self.reasons.setdefault(int(index), reason)

    def keep_mask(self) -> npt.NDArray[np.bool_]:
        mask = np.ones(len(self.numbers), dtype=bool)
        mask[list(self.reasons)] = False
        return mask

    def to_table(self, table: pa.Table, bad: list[BadRow], shown: Sequence[str]) -> pa.Table:
        """Rejects with the columns `shown` as their record, enough to find the row and no personal text."""
        shown = [c for c in shown if c in table.column_names]
        indices = sorted(self.reasons)
        records = table.select(shown).take(pa.array(indices, pa.int64())).to_pylist() if indices else []
        rows = [
            {"row": int(self.numbers[i]), "reason": self.reasons[i], "record": _short_json(record)}
            for i, record in zip(indices, records, strict=True)
        ] + [{"row": b.row, "reason": b.reason, "record": ""} for b in bad]
        for row in rows:
            row |= {"table": self.chunk.table, "source": self.chunk.path}
        return pa.Table.from_pylist(rows, schema=REJECTS)


def _short_json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:500]


def rename_columns(table: pa.Table, columns: dict[str, str], chunk: Chunk) -> pa.Table:
    """Give the caller's columns our names, and check that the required ones are there.

    Raises:
        InputError: a required column is absent; names the file, what it has and what to write in the config.
    """
    theirs = {v: k for k, v in columns.items()}
    names = [theirs.get(n, n) for n in table.column_names]
    # a renamed column wins over one that bears our name already
    keep = [i for i, n in enumerate(names) if names.count(n) == 1 or table.column_names[i] != n]
    table = table.select(keep).rename_columns([names[i] for i in keep])
    missing = [c for c in REQUIRED[chunk.table] if c not in table.column_names]
    if missing and table.num_rows:
        have = ", ".join(n for n in table.column_names if n != ROW)
        raise InputError(
            f"{chunk.path}: column '{missing[0]}' is missing; the file has: {have}. "
            f'Rename it, or set data.columns = {{{missing[0]} = "<your column>"}}.'
        )
    return table


def check_entities(chunk: Chunk, table: pa.Table, bad: list[BadRow], config: Config) -> Checked:
    """Clean a chunk of items or users: ids checked, text composed (and scrubbed for users), metadata kept.

    The result has the id, `text`, the source and row number, for items `is_hidden`, and every other column.
    Duplicate ids are not looked for here: they may lie in other chunks.
    """
    table = rename_columns(table, config.data.columns, chunk)
    rejects = _Rejects(chunk, table)
    counts: Counter[str] = Counter(read=table.num_rows + len(bad))
    id_column = ID_COLUMN[chunk.table]
    if not table.num_rows:
        return Checked(pa.table({}), rejects.to_table(table, bad, []), counts + Counter(rejected=len(bad)))
    ids = _checked_ids(table, id_column, rejects)
    is_user = chunk.table == "users"
    text_columns = config.data.user_text if is_user else config.data.item_text
    texts = _texts(table, text_columns, config, counts, rejects, scrub=is_user and config.privacy.scrub_user_text)
    columns: dict[str, pa.Array] = {id_column: pa.array(ids, pa.string()), TEXT: pa.array(texts, pa.string())}
    if not is_user:
        columns[IS_HIDDEN] = _hidden_flags(table, rejects)
    for name in table.column_names:
        # users' raw text columns stay behind: only the scrubbed text goes on
        if name in columns or name == ROW or (is_user and name in text_columns):
            continue
        column = table.column(name)
        columns[name] = json_array([clean_text(v) for v in column.to_pylist()]) if name in text_columns and pa.types.is_string(column.type) else column  # fmt: skip  # noqa: E501
    columns["_source"] = pa.array([chunk.path] * table.num_rows, pa.string())
    columns["_row"] = table.column(ROW)
    clean = pa.table(columns).filter(pa.array(rejects.keep_mask()))
    rejected = rejects.to_table(table, bad, [id_column])
    counts["rejected"] = rejected.num_rows
    counts["without_text"] = pc.sum(pc.equal(clean.column(TEXT), "")).as_py() or 0
    return Checked(clean, rejected, counts)


def check_interactions(
    chunk: Chunk, table: pa.Table, bad: list[BadRow], config: Config, item_ids: pa.Array
) -> Checked:
    """Clean a chunk of interactions: ids, known items, weights times event weights, timestamps.

    The result follows `schema.INTERACTIONS`.
    """
    table = rename_columns(table, config.data.columns, chunk)
    rejects = _Rejects(chunk, table)
    counts: Counter[str] = Counter(read=table.num_rows + len(bad))
    if not table.num_rows:
        return Checked(INTERACTIONS.empty_table(), rejects.to_table(table, bad, []), counts + Counter(rejected=len(bad)))
    users = _checked_ids(table, USER_ID, rejects)
    items = _checked_ids(table, ITEM_ID, rejects)
    item_idx = row_numbers(pa.array(items, pa.string()), item_ids)
    rejects.add(np.flatnonzero(item_idx < 0), "item_id is not in the items table")
    weights = _weights(table, config, rejects)
    timestamps = _timestamps(table, rejects)
    events = _strings(table.column(EVENT)) if EVENT in table.column_names else [None] * table.num_rows
    factors = np.ones(table.num_rows)
    for index, event in enumerate(events):
        if event is None or event == "":
            continue
        if event in config.data.event_weights:
            factors[index] = config.data.event_weights[event]
        else:
            rejects.add([index], f"event '{event[:40]}' has no weight in data.event_weights")
    weights = weights * factors
    keep = rejects.keep_mask()
    if config.data.like_threshold is not None:
        with np.errstate(invalid="ignore"):
            liked = weights >= config.data.like_threshold
        counts["below_like_threshold"] = int((keep & ~liked).sum())
        keep, weights = keep & liked, np.where(liked, 1.0, weights)
    clean = pa.table(
        {
            USER_ID: pa.array(users, pa.string()),
            ITEM_IDX: pa.array(item_idx),
            WEIGHT: pa.array(weights.astype(np.float32)),
            TIMESTAMP: pa.array(timestamps, pa.float64(), from_pandas=True),
            EVENT: pa.array(events, pa.string()),
        },
        schema=INTERACTIONS,
    ).filter(pa.array(keep))
    rejected = rejects.to_table(table, bad, [USER_ID, ITEM_ID, WEIGHT, TIMESTAMP, EVENT])
    counts["rejected"] = rejected.num_rows
    return Checked(clean, rejected, counts)


def _strings(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_string(column.type):
        return [v for v in column.to_pylist()]
    return [None if v is None else str(v) for v in column.to_pylist()]


def _checked_ids(table: pa.Table, name: str, rejects: _Rejects) -> list[str | None]:
    """Ids as strings. Whole numbers become their digits; anything else that is no string is a reject."""
    ids: list[str | None] = []
    for index, value in enumerate(table.column(name).to_pylist()):
        text: str | None = None
        if isinstance(value, bytes):
            rejects.add([index], f"{name} is bytes that are not declared text")
        elif isinstance(value, str):
            text = value.strip()
        elif isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
        elif isinstance(value, float) and value.is_integer():
            text = str(int(value))
        elif value is not None and not (isinstance(value, float) and math.isnan(value)):
            rejects.add([index], f"{name} is a {type(value).__name__}, expected a string or a whole number")
        if not text:
            rejects.add([index], f"{name} is missing")
        elif len(text.encode("utf-8", "surrogatepass")) > _MAX_ID_BYTES:
            rejects.add([index], f"{name} is longer than {_MAX_ID_BYTES} bytes")
            text = None
        ids.append(text or None)
    return ids


def _texts(
    table: pa.Table, columns: Sequence[str], config: Config, counts: Counter[str], rejects: _Rejects, *, scrub: bool
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


def _hidden_flags(table: pa.Table, rejects: _Rejects) -> pa.Array:
    """`is_hidden` as booleans; absent means shown. Text files write true/false, yes/no or 1/0."""
    if IS_HIDDEN not in table.column_names:
        return pa.array(np.zeros(table.num_rows, dtype=bool))
    words = {"true": True, "yes": True, "1": True, "1.0": True, "false": False, "no": False, "0": False, "0.0": False, "": False}  # fmt: skip  # noqa: E501
    flags = []
    for index, value in enumerate(table.column(IS_HIDDEN).to_pylist()):
        flag = words.get(str("" if value is None else value).strip().lower())
        if flag is None:
            rejects.add([index], f"is_hidden is {str(value)[:40]!r}, expected true or false")
        flags.append(bool(flag))
    return pa.array(flags)


def _numbers(column: pa.ChunkedArray, name: str, rejects: _Rejects) -> npt.NDArray[np.float64]:
    """A column as float64, NaN where absent; values that are no numbers are rejects."""
    if pa.types.is_boolean(column.type):
        rejects.add(range(len(column)), f"{name} is true/false, expected a number")
        return np.full(len(column), np.nan)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    texts = pd.Series(column.to_pylist(), dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    named = texts.astype(str).str.strip().str.lower()
    wrong = np.isnan(numbers) & texts.notna().to_numpy() & ~named.isin(["nan", ""]).to_numpy()
    for index in np.flatnonzero(wrong):
        rejects.add([int(index)], f"{name} is {str(texts[index])[:40]!r}, expected a number")
    # a word for not-a-number is present and wrong, unlike an empty cell
    said_nan = (named == "nan").to_numpy() & texts.notna().to_numpy()
    rejects.add(np.flatnonzero(said_nan), f"{name} is NaN, expected a finite number")
    return numbers


def _weights(table: pa.Table, config: Config, rejects: _Rejects) -> npt.NDArray[np.float64]:
    if WEIGHT not in table.column_names:
        return np.ones(table.num_rows)
    column = table.column(WEIGHT)
    weights = _numbers(column, WEIGHT, rejects)
    absent = np.asarray(column.is_null().to_numpy())
    rejects.add(np.flatnonzero(~absent & ~np.isfinite(weights)), "weight is not finite")
    rejects.add(np.flatnonzero(weights < 0), "weight is negative; say 'dislike' with an event instead")
    if config.data.like_threshold is None:
        rejects.add(np.flatnonzero(weights == 0), "weight is 0, which says nothing; leave the row out")
    else:
        rejects.add(np.flatnonzero(absent), "weight is missing, and data.like_threshold needs one")
    return np.where(absent, 1.0, weights)


def _timestamps(table: pa.Table, rejects: _Rejects) -> npt.NDArray[np.float64]:
    """Seconds since 1970 UTC, NaN where absent. Arrow timestamps and ISO 8601 strings are converted."""
    if TIMESTAMP not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column(TIMESTAMP)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        moments = pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        return np.asarray(moments.to_numpy(), dtype=np.float64) / 1e6
    if pa.types.is_string(column.type):
        texts = pd.Series(column.to_pylist(), dtype=object)
        seconds = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        dates = pd.to_datetime(texts.where(np.isnan(seconds)), errors="coerce", utc=True, format="ISO8601")
        parsed = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        seconds = np.where(np.isnan(seconds), parsed.to_numpy(dtype=np.float64, na_value=np.nan), seconds)
        wrong = np.isnan(seconds) & texts.notna().to_numpy()
        for index in np.flatnonzero(wrong):
            rejects.add([int(index)], f"timestamp is {str(texts[index])[:40]!r}, expected seconds or ISO 8601")
    else:
        seconds = _numbers(column, TIMESTAMP, rejects)
    rejects.add(np.flatnonzero(np.isinf(seconds)), "timestamp is not finite")
    large = np.abs(seconds) >= _MILLISECONDS_FROM
    rejects.add(np.flatnonzero(large & np.isfinite(seconds)), "timestamp is too large for seconds; divide milliseconds by 1000")
    return seconds
