"""What is known of items beside their vectors, as JSON says it, and which columns there are."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.schema import IS_HIDDEN, ITEM_ID, N_INTERACTIONS, N_WANTED, TEXT
from serving.catalogue import Catalogue

Json = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
MOST_VALUES = 500
"""Of a column; one with more is no set of categories."""
_OWN = (ITEM_ID, TEXT, IS_HIDDEN, N_INTERACTIONS, N_WANTED)
"""Columns that Kindling made or needs; nobody sorts a catalogue by them."""
_SCRIPTS = (
    "Latin",
    "Han",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Cyrillic",
    "Arabic",
    "Devanagari",
    "Greek",
    "Hebrew",
)
_MOST_SAFE = 2**53
"""Beyond it readers that know no whole numbers, such as browsers, round."""


@dataclass(frozen=True)
class ColumnFacts:
    """One column of the items.

    Attributes:
        name: as filters and `fields` call it.
        type: as Arrow calls it.
        values: of a column of few texts or of true and false, each with its number of items, the most frequent
            first; None for any other column.

    """

    name: str
    type: str
    values: dict[str, int] | None


def metadata(catalogue: Catalogue, row: int, fields: Sequence[str]) -> dict[str, Json]:
    """These columns of one item; None where it has no value."""
    return {name: to_json(value) for name, value in catalogue.fields(row, fields).items()}


def to_json(value: object) -> Json:
    """A value of a table: moments as ISO 8601, what is no number as None, large whole numbers and bytes as text."""
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return _scalar(value)


def _scalar(value: object) -> Json:
    plain: Json = None if value is None else str(value)
    if isinstance(value, bool | str):
        plain = value
    elif isinstance(value, int):
        plain = value if abs(value) <= _MOST_SAFE else str(value)
    elif isinstance(value, float):
        plain = value if math.isfinite(value) else None
    elif isinstance(value, datetime | date | time):
        plain = value.isoformat()
    elif isinstance(value, timedelta):
        plain = value.total_seconds()
    elif isinstance(value, bytes):
        plain = base64.b64encode(value).decode()
    return plain


def describe(items: pa.Table) -> list[ColumnFacts]:
    """Every column; of those with few distinct texts, the texts."""
    return [
        ColumnFacts(field.name, str(field.type), _values(items.column(field.name), field.name))
        for field in items.schema
    ]


def _values(column: pa.ChunkedArray, name: str) -> dict[str, int] | None:
    if name in _OWN:
        return None
    flat = flatten_texts(column)
    if flat is None or not 1 <= pc.count_distinct(flat).as_py() <= MOST_VALUES:
        return None
    pairs = pc.value_counts(flat)
    counts = dict(zip(pairs.field("values").to_pylist(), pairs.field("counts").to_pylist(), strict=True))
    return dict(sorted(((k, n) for k, n in counts.items() if k), key=lambda pair: (-pair[1], pair[0])))


def flatten_texts(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts of a column of texts, of lists of them, or of true and false; None for any other."""
    kind = column.type
    if is_list(kind):
        column = pa.chunked_array([column.combine_chunks().flatten()], kind.value_type)
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return column.cast(pa.string())
    return column if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def scripts(items: pa.Table) -> dict[str, int]:
    """In how many items' texts there are letters of each writing; one text may have several."""
    texts = items.column(TEXT)
    found = {
        name: int(pc.sum(pc.match_substring_regex(texts, rf"\p{{{name}}}")).as_py() or 0) for name in _SCRIPTS
    }
    return {name: n for name, n in found.items() if n}
