"""The items of a version as they are served: those of its bundle, then those that came or changed since.

Rows number both, the late ones after the bundle's. An item that changed has a late row, which takes the place of its
old one; the old one is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.core.ranking import Additions, Ranked, Ranker, Wanted, add, choose, score
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, N_INTERACTIONS, TEXT
from serving.filters import Filter, filter_mask

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Items:
    """Some items and what they are served by.

    Attributes:
        table: id, text, metadata, `is_hidden`, `n_interactions`, `n_wanted`.
        factors: (n, F).
        profiles: (n, E).
        vectors: (n, F + E) of both, what users are multiplied with.
        popularity: (n,) the scores of who knows nothing of the user.

    """

    table: pa.Table
    factors: FloatArray
    profiles: FloatArray
    vectors: FloatArray
    popularity: FloatArray

    def __len__(self) -> int:
        """Number of items."""
        return int(self.table.num_rows)

    @property
    def ids(self) -> list[str]:
        """Of each."""
        return list(self.table.column(ITEM_ID).to_pylist())

    @property
    def is_shown(self) -> BoolArray:
        """(n,)."""
        return ~np.asarray(self.table.column(IS_HIDDEN).to_numpy(zero_copy_only=False), dtype=bool)


@dataclass(frozen=True)
class _Late:
    """What came after the bundle: rows `n_bundle` on."""

    items: Items
    ids: list[str]
    rows: dict[str, int]
    lengths: FloatArray
    is_hot: BoolArray
    old_rows: IntArray
    """Of the bundle, rising, that have given way."""
    new_rows: IntArray
    """(len(old_rows),) what each has given way to."""


@dataclass(frozen=True)
class Catalogue:
    """Immutable: a change makes another one, which shares the bundle's arrays.

    Attributes:
        bundle: its items.
        ranker: of the bundle's vectors.
        ids: of the bundle's rows.
        rows: of the bundle, by id.
        lengths: of the bundle's vectors.
        is_hot: whether behaviour has a part in the bundle's factors.
        hidden: rows that are never shown, late ones too.
        late: what came after the bundle.

    """

    bundle: Items
    ranker: Ranker
    ids: list[str]
    rows: Mapping[str, int]
    lengths: FloatArray
    is_hot: BoolArray
    hidden: IntArray
    late: _Late | None = None

    @classmethod
    def of(cls, bundle: Items, ranker: Ranker) -> Catalogue:
        """The items of a bundle and nothing else."""
        ids = bundle.ids
        return cls(
            bundle,
            ranker,
            ids,
            {item: row for row, item in enumerate(ids)},
            np.linalg.norm(bundle.vectors, axis=1),
            bundle.table.column(N_INTERACTIONS).to_numpy() > 0,
            np.flatnonzero(~bundle.is_shown),
        )

    def with_late(self, late: Items | None) -> Catalogue:
        """The bundle's items and these, in place of what was late before."""
        first = len(self.ids)
        hidden = np.flatnonzero(~self.bundle.is_shown)
        if late is None or not len(late):
            return Catalogue(self.bundle, self.ranker, self.ids, self.rows, self.lengths, self.is_hot, hidden)
        ids = late.ids
        moved = sorted((self.rows[item], first + k) for k, item in enumerate(ids) if item in self.rows)
        old, new = (np.array([pair[k] for pair in moved], dtype=np.int64) for k in (0, 1))
        added = _Late(
            late,
            ids,
            {item: first + k for k, item in enumerate(ids)},
            np.linalg.norm(late.vectors, axis=1),
            late.table.column(N_INTERACTIONS).to_numpy() > 0,
            old,
            new,
        )
        gone = np.union1d(np.union1d(hidden, old), first + np.flatnonzero(~late.is_shown))
        return Catalogue(
            self.bundle, self.ranker, self.ids, self.rows, self.lengths, self.is_hot, gone, added
        )

    def showing(self, rows: IntArray) -> Catalogue:
        """The same items, of which only these are ever shown."""
        return replace(self, hidden=np.flatnonzero(~self.among(rows)))

    def __len__(self) -> int:
        """Number of rows, old ones included."""
        return len(self.ids) + (len(self.late.ids) if self.late else 0)

    def __contains__(self, item_id: object) -> bool:
        """Whether there is such an item, shown or hidden."""
        return item_id in self.rows or (self.late is not None and item_id in self.late.rows)

    def is_built(self, item_id: str) -> bool:
        """Whether the bundle has it, as it is or as it was."""
        return item_id in self.rows

    def built(self, item_id: str) -> dict[str, Any] | None:
        """All columns of an item as the bundle has it; None: it has not."""
        return self.record(self.rows[item_id]) if item_id in self.rows else None

    def row(self, item_id: str) -> int:
        """Of an item that is there."""
        if self.late is not None and item_id in self.late.rows:
            return self.late.rows[item_id]
        return self.rows[item_id]

    def find(self, item_id: str) -> int | None:
        """Its row, or None."""
        return self.row(item_id) if item_id in self else None

    def id(self, row: int) -> str:
        """Of a row."""
        if row < len(self.ids):
            return self.ids[row]
        assert self.late is not None  # noqa: S101 - there are no other rows
        return self.late.ids[row - len(self.ids)]

    def rows_of(self, item_ids: Sequence[str]) -> IntArray:
        """Of those that are there."""
        return np.array([self.row(item) for item in item_ids if item in self], dtype=np.int64)

    def current(self, rows: IntArray) -> IntArray:
        """Rows of the bundle as they are now: those that have given way, by what took their place."""
        if self.late is None or not len(self.late.old_rows):
            return rows
        place = np.searchsorted(self.late.old_rows, rows)
        place[place == len(self.late.old_rows)] = 0
        has_moved = self.late.old_rows[place] == rows
        return np.where(has_moved, self.late.new_rows[place], rows)

    def record(self, row: int) -> dict[str, Any]:
        """All columns of one row."""
        first = len(self.ids)
        if row < first:
            return dict(self.bundle.table.slice(row, 1).to_pylist()[0])
        assert self.late is not None  # noqa: S101 - there are no other rows
        return dict(self.late.items.table.slice(row - first, 1).to_pylist()[0])

    def fields(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """Some columns of one row."""
        table, first = self.bundle.table, 0
        if row >= len(self.ids):
            assert self.late is not None  # noqa: S101 - there are no other rows
            table, first = self.late.items.table, len(self.ids)
        return {name: table.column(name)[row - first].as_py() for name in names}

    @property
    def n_items(self) -> int:
        """Of those there are, hidden ones too."""
        return len(self) - (len(self.late.old_rows) if self.late else 0)

    def title(self, row: int) -> str:
        """Of an item, or the beginning of its text where it has none."""
        record = self.record(row)
        return str(record.get("title", record[TEXT]) or "")

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Name to type of what is known of items."""
        return {field.name: field.type for field in self.bundle.table.schema}

    def mask(self, conditions: Filter) -> BoolArray:
        """(rows,) that meet every condition.

        Raises:
            InputError: an unknown column, or a condition its type cannot be compared with.

        """
        found = filter_mask(self.bundle.table, conditions)
        if self.late is None:
            return found
        return np.concatenate([found, filter_mask(self.late.items.table, conditions)])

    def among(self, rows: IntArray) -> BoolArray:
        """(rows,) these and no others."""
        found = np.zeros(len(self), dtype=bool)
        found[rows] = True
        return found

    def factors(self, rows: IntArray) -> FloatArray:
        """(n, F)."""
        return self._pick(self.bundle.factors, self.late.items.factors if self.late else None, rows)

    def profiles(self, rows: IntArray) -> FloatArray:
        """(n, E)."""
        return self._pick(self.bundle.profiles, self.late.items.profiles if self.late else None, rows)

    def vectors(self, rows: IntArray) -> FloatArray:
        """(n, F + E)."""
        return self._pick(self.bundle.vectors, self.late.items.vectors if self.late else None, rows)

    def popularity(self, rows: IntArray) -> FloatArray:
        """(n,)."""
        return self._pick(self.bundle.popularity, self.late.items.popularity if self.late else None, rows)

    def has_behaviour(self, rows: IntArray) -> BoolArray:
        """(n,) whether interactions have a part in their factors."""
        return self._pick(self.is_hot, self.late.is_hot if self.late else None, rows)

    def evidence(self) -> IntArray:
        """(rows,) interactions of each."""
        tables = [self.bundle.table, *([self.late.items.table] if self.late else [])]
        return np.concatenate([t.column(N_INTERACTIONS).to_numpy().astype(np.int64) for t in tables])

    @staticmethod
    def _pick(
        own: npt.NDArray[Number], late: npt.NDArray[Number] | None, rows: IntArray
    ) -> npt.NDArray[Number]:
        if late is None or not len(rows) or rows.max() < len(own):
            return own[rows]
        found = np.empty((len(rows), *own.shape[1:]), dtype=own.dtype)
        is_late = rows >= len(own)
        found[~is_late] = own[rows[~is_late]]
        found[is_late] = late[rows[is_late] - len(own)]
        return found

    def best(self, wanted: Sequence[Wanted]) -> list[Ranked]:
        """The n best rows of each, as by one ranker over all of them."""
        if self.late is None:
            return self.ranker.best(wanted)
        first = len(self.ids)
        own = [
            Wanted(
                w.user, w.n, None if w.allowed is None else w.allowed[:first], w.left_out[w.left_out < first],
                None if w.additions is None else w.additions.first(first), w.unit,
            )
            for w in wanted
        ]  # fmt: skip
        return [self._beside(w, found) for w, found in zip(wanted, self.ranker.best(own), strict=True)]

    def _beside(self, wanted: Wanted, found: Ranked) -> Ranked:
        """The best of what was found in the bundle and of what is late."""
        assert self.late is not None  # noqa: S101 - see `best`
        first = len(self.ids)
        may = (
            np.ones(len(self.late.ids), dtype=bool)
            if wanted.allowed is None
            else wanted.allowed[first:].copy()
        )
        may[wanted.left_out[wanted.left_out >= first] - first] = False
        late = np.flatnonzero(may)
        order = np.argsort(found.rows)
        rows = np.concatenate([found.rows[order], first + late])
        scores = score(self.late.items.vectors, late, wanted.user)
        scores = add(scores, first + late, wanted.additions, wanted.unit)
        return choose(rows, np.concatenate([found.scores[order], scores]), wanted.n)

    def most_popular(
        self,
        n: int,
        allowed: BoolArray | None,
        left_out: IntArray,
        additions: Additions | None = None,
        unit: float = 0.0,
    ) -> Ranked:
        """The n best for somebody of whom nothing is known."""
        may = np.ones(len(self), dtype=bool) if allowed is None else allowed.copy()
        may[left_out] = False
        rows = np.flatnonzero(may)
        return choose(rows, add(self.popularity(rows), rows, additions, unit), n)

    def similar(self, row: int, n: int, allowed: BoolArray | None = None) -> Ranked:
        """The shown items, of those allowed, with the largest cosines to one, itself left out."""
        return self.near(self.vectors(np.array([row]))[0], n, allowed, row)

    def near(
        self, vector: FloatArray, n: int, allowed: BoolArray | None = None, without: int | None = None
    ) -> Ranked:
        """The shown items, of those allowed, with the largest cosines to a vector, but for one."""
        length = float(np.linalg.norm(vector))
        parts = [(self.bundle.vectors, self.lengths)]
        if self.late is not None:
            parts.append((self.late.items.vectors, self.late.lengths))
        least = np.finfo(np.float32).tiny
        cosines = np.concatenate([(v @ vector) / np.maximum(many * length, least) for v, many in parts])
        may = np.ones(len(self), dtype=bool) if allowed is None else allowed.copy()
        may[self.hidden] = False
        if without is not None:
            may[without] = False
        rows = np.flatnonzero(may)
        return choose(rows, cosines[rows], n)
