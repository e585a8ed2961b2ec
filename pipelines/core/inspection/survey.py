"""What all rows together tell beside which of them are rejected: moments, ids, texts, columns that say nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core.columns import string_values
from pipelines.core.config import Config, DataConfig, EncoderConfig
from pipelines.core.exposure import Arrivals, created
from pipelines.core.importers.moments import seconds_of
from pipelines.core.importers.scales import event_weights, rating_threshold
from pipelines.core.inspection.heads import rename_hint
from pipelines.core.schema import (
    CREATED_AT,
    EVENT,
    ID_COLUMN,
    ITEM_ID,
    ROW,
    TEXT,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
    TableName,
)
from pipelines.core.validate import Checked

_SHOWN = 5
_MAX_UNKNOWN = 2000
_HAN = r"[\p{Han}]"
_UNKNOWN = "item_id is not in the items table"


@dataclass
class _Column:
    """Whether a column has but one value."""

    first: Any = None
    rows: int = 0
    is_constant: bool = True


@dataclass
class Survey:
    """Sums over the chunks of all tables."""

    config: Config
    moments: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    columns: dict[tuple[TableName, str], _Column] = field(default_factory=dict)
    weights: set[float] = field(default_factory=set)
    n_negative: int = 0
    unknown: dict[str, None] = field(default_factory=dict)
    unknown_users: set[str] = field(default_factory=set)
    empty: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    chinese: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    undated: list[Arrivals] = field(default_factory=list)

    def add(self, table: TableName, raw: pa.Table, checked: Checked) -> None:
        """Look at a chunk as it was read, with our names, and as it was checked."""
        for name in raw.column_names:
            if name != ROW:
                self._constant(table, name, raw.column(name))
        if table == "interactions":
            self._interactions(raw, checked)
        elif table in ID_COLUMN and checked.table.num_rows:
            self._texts(table, checked.table)
            if table == "items" and CREATED_AT in checked.table.column_names:
                found = created(checked.table.column(CREATED_AT))
                self.undated += [found] if found.n_unreadable else []

    def _constant(self, table: TableName, name: str, column: pa.ChunkedArray) -> None:
        seen = self.columns.setdefault((table, name), _Column(rows=0))
        if not seen.is_constant or not len(column):
            return
        if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
            seen.is_constant = False
            return
        distinct = pc.unique(column)
        if len(distinct) > 1 or (seen.rows and distinct[0].as_py() != seen.first):
            seen.is_constant = False
        seen.first = distinct[0].as_py()
        seen.rows += len(column)

    def _interactions(self, raw: pa.Table, checked: Checked) -> None:
        if TIMESTAMP in raw.column_names:
            self.moments += seconds_of(raw.column(TIMESTAMP), None)[1]
        if EVENT in raw.column_names:
            counted = pc.value_counts(string_values(raw.column(EVENT)))
            pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
            self.events.update({event: n for event, n in pairs if event})
        if WEIGHT in raw.column_names:
            texts = string_values(raw.column(WEIGHT))
            plain = pc.fill_null(pc.match_substring_regex(texts, r"^-?[0-9]{1,15}(\.[0-9]+)?$"), False)
            numbers = texts.filter(plain).cast(pa.float64())
            self.n_negative += int(pc.sum(pc.less(numbers, 0)).as_py() or 0)
            self.weights.update(pc.unique(numbers).to_pylist()[:_MAX_UNKNOWN])
        if len(self.unknown) < _MAX_UNKNOWN:
            rejects = checked.rejects.filter(pc.equal(checked.rejects.column("reason"), _UNKNOWN))
            for record in rejects.column("record").to_pylist()[:_MAX_UNKNOWN]:
                self._remember(record)

    def _remember(self, record: str) -> None:
        try:
            row = json.loads(record)
        except ValueError:  # cut, for it was long
            return
        self.unknown[str(row.get(ITEM_ID))] = None
        self.unknown_users.add(str(row.get(USER_ID)))

    def _texts(self, table: TableName, clean: pa.Table) -> None:
        texts = clean.column(TEXT)
        is_empty = pc.equal(texts, "")
        # a cut text may be a little shorter than the limit, for words stay whole
        is_long = pc.greater_equal(pc.utf8_length(texts), self.config.data.max_text_chars - 32)
        self.texts[table] += len(texts)
        self.chinese[table] += int(pc.sum(pc.match_substring_regex(texts, _HAN)).as_py() or 0)
        for kind, counts, mask in (("empty", self.empty, is_empty), ("cut", self.cut, is_long)):
            rows = clean.filter(mask).select([ID_COLUMN[table], "_row"])
            counts[table] += rows.num_rows
            shown = self.examples.setdefault((table, kind), [])
            for row in rows.slice(0, _SHOWN - len(shown)).to_pylist():
                shown.append(f"row {row['_row']} ({row[ID_COLUMN[table]]})")

    def advice(self, items: set[str], users: set[str]) -> list[str]:
        """What is worth knowing, a sentence each; `items` and `users` are the ids of those tables."""
        return [
            *self._about_ids(items, users), *self._about_weights(), *self._about_moments(), *self._about_texts(),
            *self._about_columns(), *self._about_arrivals(), *self._about_language(),
        ]  # fmt: skip

    def _about_ids(self, items: set[str], users: set[str]) -> list[str]:
        if not self.unknown:
            return []
        shown = ", ".join(list(self.unknown)[:_SHOWN])
        known = ", ".join(sorted(items)[:_SHOWN]) or "none"
        said = [
            f"interactions name items that the items table has not, such as {shown}; the items table has {known}"
        ]
        if len(self.unknown_users & items) > 0.5 * len(self.unknown_users):
            said.append(
                "the user_ids of interactions are ids of items: its columns user_id and item_id are in each other's "
                "place. Swap their names in the file"
            )
        elif len(users.intersection(self.unknown)) > 0.5 * len(self.unknown):
            said.append(
                "these ids are in the users table: items and users, or the columns of interactions, are in each "
                "other's place. Rename the files or columns"
            )
        elif hint := rename_hint(self.unknown, items):
            said.append(f"{hint}. Write them alike, or let `kindling data import generic` do it for 12.0")
        return said

    def _about_weights(self) -> list[str]:
        if not self.n_negative:
            return []
        return [
            f"{self.n_negative} weights are below zero, down to {min(self.weights):g}; of a rating from -1 to 1 add "
            "2, or give rows that say no the event dislike and a weight above zero"
        ]

    def _about_moments(self) -> list[str]:
        units = {u: n for u, n in self.moments.items() if u not in ("dates", "unreadable")}
        told = ", ".join(f"{n} in {unit}" for unit, n in units.items())
        mend = "a build reads seconds; divide them, or let `kindling data import generic` do it"
        said = []
        if len(units) > 1:
            said.append(f"timestamps are mixed: {told}; {mend}")
        elif units and "seconds" not in units:
            said.append(f"timestamps are not in seconds: {told}; {mend}")
        if self.moments["dates"] and units:
            said.append(
                f"timestamps are mixed: {self.moments['dates']} dates and {sum(units.values())} numbers"
            )
        if n := self.moments["unreadable"]:
            said.append(
                f"{n} timestamps are neither numbers nor dates with one reading (2024-01-31); 31.01.2024 is read by "
                "`kindling data import generic --timestamps '%d.%m.%Y'`"
            )
        return said

    def _about_texts(self) -> list[str]:
        said = []
        for table, n in self.empty.items():
            columns = self.config.data.item_text if table == "items" else self.config.data.user_text
            if n and (table == "items" or n < self.texts[table]):
                said.append(
                    f"{n} of {self.texts[table]} {table} have no text in {', '.join(columns)}: "
                    f"{', '.join(self.examples[table, 'empty'])}. Without behaviour nothing is known of them"
                )
        for table, n in self.cut.items():
            if n:
                said.append(
                    f"{n} {table} have texts of data.max_text_chars = {self.config.data.max_text_chars} characters "
                    f"or more, which are cut: {', '.join(self.examples[table, 'cut'])}. An encoder reads the first "
                    f"{self.config.encoder.max_tokens} tokens; put what matters first"
                )
        return said

    def _about_columns(self) -> list[str]:
        said = []
        for (table, name), column in self.columns.items():
            if column.is_constant and column.rows > 1:
                value = "empty" if column.first in (None, "") else f"{str(column.first)[:60]!r}"
                said.append(f"{table}: column '{name}' is {value} in all {column.rows} rows and says nothing")
        return said

    def _about_arrivals(self) -> list[str]:
        if not self.undated:
            return []
        return [
            f"{sum(part.n_unreadable for part in self.undated)} items have no date in 'created_at', the first "
            f"{self.undated[0].example!r}; expected seconds "
            "since 1970 or ISO 8601. They count as if they had always been there"
        ]

    def _about_language(self) -> list[str]:
        share = self.chinese["items"] / max(self.texts["items"], 1)
        if share < 0.2 or self.config.encoder.model != EncoderConfig().model:
            return []
        return [
            f"{share:.0%} of the items have Chinese text, and {self.config.encoder.model} knows English: words in "
            "common still count, but set encoder.model to a multilingual encoder"
        ]

    def suggested(self) -> dict[str, object]:
        """Fields of the section `data` that fit what was seen."""
        data: dict[str, object] = {}
        given = self.config.data
        unknown = set(self.events) - set(given.event_weights)
        if unknown:
            data["event_weights"] = {**given.event_weights, **event_weights(unknown)}
        usual = given.like_threshold is None and not self.events and self.weights
        name = given.columns.get(WEIGHT, WEIGHT)
        if usual:
            low, high = min(self.weights), max(self.weights)
            threshold = rating_threshold(name, low, high, n_distinct=len(self.weights))
            if threshold is not None:
                data["like_threshold"] = threshold
        return data


_ADVICE = (
    (
        r"there already with a different text",
        "an id stands for one thing; keep one row, or give the other an id of its own",
    ),
    (r"_id is missing", "every row needs an id; fill it in or leave the row out"),
    (r"is not in the items table", "only items of the items table can be recommended; add them there"),
    (
        r"weight is negative",
        "a weight is how much it counts; what a user does not want has the event dislike",
    ),
    (r"weight is (0|NaN|missing)|expected a number", "leave the cell empty for a weight of 1"),
    (r"divide milliseconds", "timestamps are seconds since 1970 UTC"),
    (r"expected seconds or ISO 8601", "write 2024-01-31, 2024-01-31T12:00:00Z, or seconds since 1970"),
    (r"UTF-8|utf-8", "save the file as UTF-8"),
    (r"has no weight in data.event_weights", "say there what the event is worth; below zero: not wanted"),
    (r"columns, expected", "a cell with the mark in it that parts columns wants quotes around it"),
    (r"quote is opened", 'double the quotes within a cell: "a 5"" pipe"'),
    (r"not JSON", "one JSON object a line, without line breaks in it"),
)


def explain(reason: str) -> str:
    """What to do about a rejected row; empty where the reason says it."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, reason)), "")


def text_columns(config: Config, prose: list[str]) -> dict[str, object]:
    """Setting for items none of whose text columns is there, by the columns that have prose."""
    fresh = [name for name in prose if name not in config.data.item_text]
    return {"item_text": (*DataConfig().item_text, *fresh)} if fresh else {}
