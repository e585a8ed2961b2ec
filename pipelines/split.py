"""Clean interactions in, the pairs each model is fitted on and the pairs it is measured on out.

Reads: `tables/interactions` of ingest.
Writes: pairs of the `train` and `full` model sorted by user and by item, `validation`, `test`, `item_roles`.

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

from pipelines.core import splits
from pipelines.core.config import Config, SplitConfig
from pipelines.core.layout import HeldOut, Layout, ModelName
from pipelines.core.schema import ITEM_IDX, TIMESTAMP, USER_IDX, WEIGHT
from pipelines.core.storage import replacing, write_json, write_table
from pipelines.core.tables import read_parts
from pipelines.progress import Progress

__all__ = ["run"]

_ROWS_PER_GROUP = 65_536


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
        parts = splits.Split(none, none, none, np.zeros(n_items, dtype=bool), 0)
    _write_pairs(layout, "train", pairs_df[parts.train])
    _write_pairs(layout, "full", pairs_df)
    # what a user did not want is learnt from but is no hit
    wanted = pairs_df[WEIGHT].to_numpy() > 0
    cold = parts.cold_items[pairs_df[ITEM_IDX].to_numpy()]
    sizes: dict[str, object] = {}
    held_out: dict[HeldOut, npt.NDArray[np.bool_]] = {"validation": parts.validation, "test": parts.test}
    for which, mask in held_out.items():
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


def _write_pairs(layout: Layout, model: ModelName, pairs_df: pd.DataFrame) -> None:
    _write_sorted(layout.pairs(model, "user"), pairs_df[[USER_IDX, ITEM_IDX, WEIGHT]], USER_IDX)
    by_item_df = pairs_df[[USER_IDX, ITEM_IDX, WEIGHT]].sort_values([ITEM_IDX, USER_IDX])
    _write_sorted(layout.pairs(model, "item"), by_item_df, ITEM_IDX)


def _write_sorted(path: Path, df: pd.DataFrame, key: str) -> None:
    table = pa.Table.from_pandas(df, preserve_index=False)
    with replacing(path) as temporary:
        pq.write_table(
            table, temporary, row_group_size=_ROWS_PER_GROUP, compression="zstd", write_statistics=[key]
        )
