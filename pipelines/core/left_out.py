"""Rows that a build leaves out by somebody's wish, and counts: of forgotten users and of withdrawn items."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import Rejects, id_values, timestamp_values
from pipelines.core.forgetting import NOBODY, Forgotten
from pipelines.core.readers import Chunk
from pipelines.core.schema import ITEM_ID, OTHER_ID, USER_ID


@dataclass(frozen=True)
class LeftOut:
    """Whose rows.

    Attributes:
        forgotten: users, with what they did before that.
        withdrawn: ids of items.

    """

    forgotten: Forgotten = NOBODY
    withdrawn: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))

    def apply(self, chunk: Chunk, table: pa.Table, counts: Counter[str]) -> pa.Table:
        """The other rows of a chunk, before any of these could become a reject; counts what is left out."""
        if not table.num_rows:
            return table
        unsaid = Rejects(chunk, table)  # what is wrong with the rows that stay is told later
        if self.forgotten and USER_ID in table.column_names and chunk.table in ("users", "interactions"):
            timestamps = timestamp_values(table, unsaid) if chunk.table == "interactions" else None
            gone = self.forgotten.concerns(id_values(table, USER_ID, unsaid), timestamps)
            counts["forgotten"] = int(gone.sum())
            table, unsaid = table.filter(pa.array(~gone)), Rejects(chunk, table)
        if len(self.withdrawn) and chunk.table != "users" and table.num_rows:
            gone = np.zeros(table.num_rows, dtype=bool)
            for name in (ITEM_ID, OTHER_ID):
                if name in table.column_names and (name == ITEM_ID or chunk.table == "relations"):
                    ids = id_values(table, name, Rejects(chunk, table))
                    gone |= pc.is_in(ids, value_set=self.withdrawn).to_numpy(zero_copy_only=False)
            counts["withdrawn"] = int(gone.sum())
            table = table.filter(pa.array(~gone))
        return table


NOTHING = LeftOut()
