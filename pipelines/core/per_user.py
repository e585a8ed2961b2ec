"""The figures of every user of a build, as `per_user.parquet` holds them.

One row per held-out set, slice and user: `held_out`, `slice`, `user_id`; `to_find`, a hash of what was to be found, the
same in every build that asked the same; then a column per metric. Without users to measure the table is empty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.errors import ArtefactError

KEY = ("held_out", "slice", "user_id")
TO_FIND = "to_find"


def read_per_user(path: Path) -> pd.DataFrame:
    """Read and check the table.

    Raises:
        ArtefactError: absent, not Parquet, a column missing, a user twice in a slice, or a figure that is no number.

    """
    again = f"Delete it and run `kindling evaluate --out {path.parent.parent.parent}`."
    if not path.is_file():
        raise ArtefactError(
            f"{path} is not there: the figures of single users are missing, by which builds are compared. {again}"
        )
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as e:
        raise ArtefactError(f"{path} cannot be read: {str(e).strip()} {again}") from e
    if not table.num_rows:
        return pd.DataFrame({name: [] for name in (*KEY, TO_FIND)})
    users_df: pd.DataFrame = table.to_pandas()
    fault = _fault(users_df)
    if fault is not None:
        raise ArtefactError(f"{path}: {fault}. {again}")
    return users_df


def metric_columns(users_df: pd.DataFrame) -> list[str]:
    """Names of the metrics, in the order of the table."""
    return [str(c) for c in users_df.columns if c not in (*KEY, TO_FIND)]


def _fault(users_df: pd.DataFrame) -> str | None:
    """What is wrong with a table that has rows, or None."""
    missing = [name for name in (*KEY, TO_FIND) if name not in users_df.columns]
    if missing:
        return f"no column {missing[0]!r}; expected {', '.join((*KEY, TO_FIND))} and the metrics"
    twice = users_df.duplicated(list(KEY))
    if twice.any():
        which, name, user = users_df.loc[twice, list(KEY)].iloc[0]
        return f"user {user!r} is twice in the slice '{name}' of {which}; expected a row per user"
    for column in metric_columns(users_df):
        bad = ~np.isfinite(pd.to_numeric(users_df[column], errors="coerce").to_numpy(dtype=np.float64))
        if bad.any():
            row = users_df.iloc[int(bad.argmax())]
            return (
                f"{column} of user {row['user_id']!r} in '{row['slice']}' is {row[column]}; expected a number"
            )
    return None
