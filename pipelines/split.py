"""Clean interactions in, the pairs each model is fitted on and the pairs it is measured on out.

Reads: `tables/interactions` of ingest, and titles of `tables/items`.
Writes: pairs of every model sorted by user and by item; for validation and test what is to be found, what is known
by then, and the hidden users with what they reveal; `queries`, `item_roles`.

Sorted files are what makes factorize's shards cheap: a shard reads its own row groups and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipelines.core import newcomers, splits
from pipelines.core.config import Config, SplitConfig
from pipelines.core.layout import HELD_OUT, HeldOut, Layout, ModelName
from pipelines.core.schema import ITEM_IDX, PLACE, TEXT, TIMESTAMP, USER_IDX, WEIGHT
from pipelines.core.storage import part_name, part_paths, replacing, write_json, write_table
from pipelines.core.tables import read_parts
from pipelines.core.text import truncate_text
from pipelines.progress import Progress

__all__ = ["run"]

_ROWS_PER_GROUP = 65_536
_PAIR = [USER_IDX, ITEM_IDX, WEIGHT]
_QUERY_CHARS = 80
"""Of an item without a title, the beginning of its text is typed; whole words up to here."""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001 - one shape for all stages
    """Aggregate and split in one task, away from the driver."""
    with progress.bar("splitting", 1) as advance:
        report: dict[str, object] = ray.get(_split.remote(config.split, layout))
        advance(1)
    return report


@ray.remote
def _split(config: SplitConfig, layout: Layout) -> dict[str, object]:
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    n_items = pq.read_metadata(layout.ids("items")).num_rows
    pairs_df, n_cancelled = _aggregate(layout)
    if len(pairs_df):
        parts = _assign(pairs_df, n_users, n_items, config)
    else:  # text only
        none = np.zeros(0, dtype=bool)
        parts = splits.Split(none, none, none, none, none, np.zeros(n_items, dtype=bool), 0)
    hidden = _hidden_users(pairs_df, parts, n_users, config)
    _write_pairs(layout, "train", pairs_df[parts.train])
    _write_pairs(layout, "full", pairs_df)
    if config.hides_users:
        _write_pairs(layout, "newcomers", pairs_df[hidden[pairs_df[USER_IDX].to_numpy()] == 0])
    n_hidden = _write_newcomers(layout, pairs_df, parts, hidden, config)
    # what a user did not want is learnt from but is no hit
    wanted = pairs_df[WEIGHT].to_numpy() > 0
    cold = parts.cold_items[pairs_df[ITEM_IDX].to_numpy()]
    sizes: dict[str, object] = {}
    held_out: dict[HeldOut, npt.NDArray[np.bool_]] = {"validation": parts.validation, "test": parts.test}
    known = {"validation": parts.known_validation, "test": parts.known_test}
    for which, mask in held_out.items():
        _write_sorted(layout.known(which), pairs_df.loc[known[which], _PAIR], USER_IDX)
        chosen = mask & wanted
        held_out_df = pairs_df.loc[chosen, [USER_IDX, ITEM_IDX]].assign(
            slice=np.where(cold[chosen], "cold", "warm")
        )
        _write_sorted(layout.relevant(which), held_out_df, USER_IDX)
        sizes[which] = {s: int((held_out_df["slice"] == s).sum()) for s in ("cold", "warm")}
    roles = np.full(n_items, "unseen", dtype=object)
    roles[pairs_df.loc[parts.train, ITEM_IDX].unique()] = "warm"
    roles[parts.cold_items] = "cold"
    write_table(layout.item_roles, pa.table({"role": pa.array(roles.tolist())}))
    report = {
        "pairs": len(pairs_df), "train": int(parts.train.sum()), **sizes, "left_out": parts.left_out,
        "pairs_whose_weights_cancelled": n_cancelled, "cuts": parts.cuts, "seed": config.seed, "kind": config.kind,
        "newcomers": n_hidden, "newcomers_model": "newcomers" if config.hides_users else "train",
    }  # fmt: skip
    write_json(layout.split_report, report)
    return report


def _aggregate(layout: Layout) -> tuple[pd.DataFrame, int]:
    """One row per pair: summed weight and first moment, in the order of (user, item)."""
    columns = [USER_IDX, ITEM_IDX, WEIGHT, TIMESTAMP]
    rows_table = read_parts(layout.tables / "interactions", columns)
    if not rows_table.num_rows:
        return pd.DataFrame(
            {c: pd.Series(dtype="int64" if c.endswith("idx") else "float64") for c in columns}
        ), 0
    # float64 sums: float32 ones would depend on the order of the rows
    grouped = rows_table.group_by([USER_IDX, ITEM_IDX], use_threads=False).aggregate(
        [(WEIGHT, "sum"), (TIMESTAMP, "min")]
    )
    pairs_df = (
        grouped.rename_columns(columns).to_pandas().sort_values([USER_IDX, ITEM_IDX], ignore_index=True)
    )
    cancelled = pairs_df[WEIGHT] == 0
    return pairs_df[~cancelled].reset_index(drop=True), int(cancelled.sum())


def _assign(pairs_df: pd.DataFrame, n_users: int, n_items: int, config: SplitConfig) -> splits.Split:
    user: npt.NDArray[np.int64] = pairs_df[USER_IDX].to_numpy()
    item: npt.NDArray[np.int64] = pairs_df[ITEM_IDX].to_numpy()
    if config.kind == "time":
        moment = pairs_df[TIMESTAMP].to_numpy(dtype=np.float64, na_value=np.nan)
        return splits.time_split(user, item, moment, n_users, n_items, config)
    return splits.random_split(user, item, n_users, n_items, config)


def _hidden_users(
    pairs_df: pd.DataFrame, parts: splits.Split, n_users: int, config: SplitConfig
) -> npt.NDArray[np.int8]:
    """(U,) 1 and 2 for newcomers of validation and test, 0 for everybody else."""
    user, wanted = pairs_df[USER_IDX].to_numpy(), pairs_df[WEIGHT].to_numpy() > 0
    if parts.cuts is not None:
        moment = pairs_df[TIMESTAMP].to_numpy(dtype=np.float64)
        return newcomers.arriving_users(user, wanted, moment, parts.cuts, n_users)
    if config.kind == "random":
        return newcomers.hide_users(user, wanted, n_users, config.newcomers, config.seed)
    return np.zeros(n_users, dtype=np.int8)


def _write_newcomers(
    layout: Layout,
    pairs_df: pd.DataFrame,
    parts: splits.Split,
    hidden: npt.NDArray[np.int8],
    config: SplitConfig,
) -> dict[str, int]:
    """What hidden users reveal, and what they would type; how many there are."""
    counts: dict[str, int] = {}
    wanted_df = pairs_df[pairs_df[WEIGHT] > 0]
    for number, which in enumerate(HELD_OUT, start=1):
        mine_df = wanted_df[hidden[wanted_df[USER_IDX].to_numpy()] == number]
        if parts.cuts is None:
            chance = np.random.default_rng([config.seed, 1 + number]).random(len(mine_df))
            keys: tuple[npt.NDArray[np.generic], ...] = (chance,)
        else:
            stop = parts.cuts[1] if which == "validation" else np.inf
            mine_df = mine_df[mine_df[TIMESTAMP].to_numpy(dtype=np.float64) < stop]
            keys = (mine_df[TIMESTAMP].to_numpy(dtype=np.float64), mine_df[ITEM_IDX].to_numpy())
        order, place = newcomers.reveal(mine_df[USER_IDX].to_numpy(), keys)
        revealed_df = mine_df.iloc[order][_PAIR].assign(**{PLACE: place})
        _write_sorted(layout.newcomers(which), revealed_df, USER_IDX)
        first_df = revealed_df[revealed_df[PLACE] == 0]
        queries = _titles(layout, first_df[ITEM_IDX].to_numpy())
        table = pa.table(
            {USER_IDX: pa.array(first_df[USER_IDX].to_numpy()), TEXT: pa.array(queries, pa.string())}
        )
        write_table(layout.queries / part_name(number - 1), table)
        counts[which] = len(first_df)
    return counts


def _titles(layout: Layout, rows: npt.NDArray[np.int64]) -> list[str]:
    """The titles of some items; where there is none, the beginning of the text."""
    titles: list[str] = [""] * len(rows)
    start = 0
    for path in part_paths(layout.tables / "items"):
        stop = start + pq.read_metadata(path).num_rows
        inside = np.flatnonzero((rows >= start) & (rows < stop))
        if len(inside):
            columns = [c for c in ("title", TEXT) if c in pq.read_schema(path).names]
            picked = pq.read_table(path, columns=columns).take(rows[inside] - start).to_pylist()
            for position, row in zip(inside, picked, strict=True):
                titles[position] = str(row.get("title") or "") or truncate_text(row[TEXT], _QUERY_CHARS)
        start = stop
    return titles


def _write_pairs(layout: Layout, model: ModelName, pairs_df: pd.DataFrame) -> None:
    _write_sorted(layout.pairs(model, "user"), pairs_df[_PAIR], USER_IDX)
    by_item_df = pairs_df[_PAIR].sort_values([ITEM_IDX, USER_IDX])
    _write_sorted(layout.pairs(model, "item"), by_item_df, ITEM_IDX)


def _write_sorted(path: Path, df: pd.DataFrame, key: str) -> None:
    table = pa.Table.from_pandas(df, preserve_index=False)
    with replacing(path) as temporary:
        pq.write_table(
            table, temporary, row_group_size=_ROWS_PER_GROUP, compression="zstd", write_statistics=[key]
        )
