"""The names of tables and columns, once. DESIGN: `*_id` is the caller's string, `*_idx` a row number."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

TableName = Literal["items", "users", "interactions", "relations"]
TABLES: tuple[TableName, ...] = ("items", "users", "interactions", "relations")

ITEM_ID = "item_id"
USER_ID = "user_id"
ITEM_IDX = "item_idx"
USER_IDX = "user_idx"
WEIGHT = "weight"
TIMESTAMP = "timestamp"
EVENT = "event"
OTHER_ID = "other_id"
OTHER_IDX = "other_idx"
RELATION = "relation"
TEXT = "text"
IS_HIDDEN = "is_hidden"
CREATED_AT = "created_at"
"""Of an item: when it came, see `core.exposure`."""
PLACE = "place"
"""Of a hidden user's pair: its number in the order in which they are revealed, see `core.newcomers`."""
WANTED = "wanted"
"""Of a pair: whether the user wants the item."""
N_INTERACTIONS = "n_interactions"
"""Of an item, in a bundle: how many users it has interactions with."""
N_WANTED = "n_wanted"
"""Of an item, in a bundle: how many of those users want it; dislikes do not make an item popular."""
ROW = "__row"
"""Column the readers add: the row's number in its file, from 1, header not counted."""
RESERVED = ("_source", "_row", N_INTERACTIONS, N_WANTED)
"""Names that metadata of items and users cannot have."""

FORGOTTEN_AT = "forgotten_at"
"""Of a user of a version who was forgotten and came back: when, in seconds since 1970. Null for everybody else."""

MAX_WEIGHT = 1e6
"""Of one interaction; beyond it single precision, in which factors are solved, has nothing left for others."""

ID_COLUMN: dict[TableName, str] = {"items": ITEM_ID, "users": USER_ID}

REQUIRED: dict[TableName, tuple[str, ...]] = {
    "items": (ITEM_ID,),
    "users": (USER_ID,),
    "interactions": (USER_ID, ITEM_ID),
    "relations": (ITEM_ID, RELATION, OTHER_ID),
}

INTERACTIONS = pa.schema(
    [
        (USER_ID, pa.string()),
        (ITEM_IDX, pa.int64()),
        (WEIGHT, pa.float32()),
        (TIMESTAMP, pa.float64()),
        (EVENT, pa.string()),
    ]
)
"""A clean interaction before users are numbered; afterwards `user_idx` takes the place of `user_id`."""

RELATIONS = pa.schema([(ITEM_IDX, pa.int64()), (RELATION, pa.string()), (OTHER_IDX, pa.int64())])
"""A clean relation between two items."""

REJECTS = pa.schema(
    [
        ("table", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("record", pa.string()),
    ]
)
"""One row per rejected input row. `row` counts from 1, header not counted; 0 stands for the whole file."""
