"""Relations between items, and text profiles smoothed along them before the prior is fitted.

Dimensions: I items, n rows of one shard, G groups, E profile.

    N_i = sum_r w_r mean_r(i) / sum_r w_r          over the relations r in which i has neighbours
    P_i <- (1 - w) P_i + w N_i, of length 1 again

mean_r(i) is the mean of the neighbours' profiles: of the linked items, or, where items are related by sharing
a value such as a brand, the mean over i's values of the mean of the others that share it. Each relation counts
by its weight, however many neighbours it gives. The mean of neighbours that disagree is short, so they move an
item less. A link costs one sparse entry and a shared value one per member, never one per pair of members.

Only `sources` are neighbours: items with text that this model may look at. A cold item is no source for a model
that is evaluated, so nothing about it, its text least of all, can reach training (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from pipelines.core.blend import normalize
from pipelines.core.errors import ConfigError
from pipelines.core.schema import ITEM_IDX, OTHER_IDX, RELATION

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Means(Protocol):
    """The neighbours' means for one shard of rows, summed up from parts of the catalogue as they come by."""

    def add(self, start: int, profiles: DoubleArray) -> None:
        """Take rows start .. start + len(profiles) of the catalogue into account."""

    def result(self, own: DoubleArray) -> tuple[DoubleArray, BoolArray]:
        """(n, E) mean of each row's neighbours and (n,) whether it has any; `own` are the shard's profiles."""


@dataclass(frozen=True)
class Links:
    """A relation given pair by pair.

    Attributes:
        name: of the relation.
        matrix: (I, I), an entry where the column's item is a neighbour of the row's.

    """

    name: str
    matrix: sp.csr_matrix

    def means(self, cut: tuple[int, int], sources: BoolArray, width: int) -> Means:
        """An empty sum for the rows of `cut`."""
        return _LinkMeans(_only(self.matrix[slice(*cut)], sources), width)


@dataclass(frozen=True)
class Groups:
    """A relation by shared values.

    Attributes:
        name: of the column.
        matrix: (I, G), an entry where the item has the value.
        max_group: values shared by more sources than this say nothing and are passed over.

    """

    name: str
    matrix: sp.csr_matrix
    max_group: int

    def means(self, cut: tuple[int, int], sources: BoolArray, width: int) -> Means:
        """An empty sum for the rows of `cut`."""
        return _GroupMeans(self.matrix, cut, sources, self.max_group, width)


Relation = Links | Groups


class _LinkMeans:
    def __init__(self, rows: sp.csr_matrix, width: int) -> None:
        self.rows = rows
        self.total = np.zeros((rows.shape[0], width))

    def add(self, start: int, profiles: DoubleArray) -> None:
        self.total += self.rows[:, start : start + len(profiles)] @ profiles

    def result(self, own: DoubleArray) -> tuple[DoubleArray, BoolArray]:  # noqa: ARG002 - no item is its own neighbour
        counts = np.diff(self.rows.indptr)
        return self.total / np.maximum(counts, 1)[:, None], counts > 0


class _GroupMeans:
    """Sums of whole groups; the row itself is taken out again at the end."""

    def __init__(
        self, members: sp.csr_matrix, cut: tuple[int, int], sources: BoolArray, max_group: int, width: int
    ) -> None:
        rows = members[slice(*cut)]
        needed = np.unique(rows.indices)
        self.rows = rows[:, needed]
        self.sources = _only(members[:, needed].T.tocsr(), sources)  # (needed groups, I)
        self.is_source = sources[slice(*cut)]
        self.max_group = max_group
        self.total = np.zeros((len(needed), width))

    def add(self, start: int, profiles: DoubleArray) -> None:
        self.total += self.sources[:, start : start + len(profiles)] @ profiles

    def result(self, own: DoubleArray) -> tuple[DoubleArray, BoolArray]:
        sizes = np.diff(self.sources.indptr)
        row_of = np.repeat(np.arange(self.rows.shape[0]), np.diff(self.rows.indptr))
        group_of = self.rows.indices
        others = sizes[group_of] - self.is_source[row_of]
        usable = (others > 0) & (sizes[group_of] <= self.max_group)
        row_of, group_of, others = row_of[usable], group_of[usable], others[usable]
        share = sp.csr_matrix((1.0 / others, (row_of, group_of)), shape=self.rows.shape)
        itself = self.is_source * np.asarray(share.sum(axis=1)).ravel()
        counts = np.bincount(row_of, minlength=self.rows.shape[0])
        total = share @ self.total - itself[:, None] * own
        return total / np.maximum(counts, 1)[:, None], counts > 0


def _only(rows: sp.csr_matrix, columns: BoolArray) -> sp.csr_matrix:
    """The rows with nothing but the entries in `columns`, each of them 1."""
    kept = columns[rows.indices]
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return sp.csr_matrix((np.ones(kept.sum()), rows.indices[kept], indptr), shape=rows.shape)


def smooth(
    own: FloatArray,
    cut: tuple[int, int],
    relations: Sequence[Relation],
    sources: BoolArray,
    parts: Iterable[tuple[int, FloatArray]],
    *,
    weight: float,
    weights: Mapping[str, float],
) -> FloatArray:
    """One step of smoothing for one shard of rows.

    Args:
        own: (n, E) profiles of the shard, of length 1, zero without text.
        cut: first row and the row after the last.
        relations: all of them.
        sources: (I,) items that may be neighbours; those without text must not be among them.
        parts: (first row, profiles) of the whole catalogue, in any pieces, one at a time.
        weight: w, below 1.
        weights: w_r by relation; 1 where none is given, 0 turns one off.

    Returns:
        (n, E) smoothed profiles; a row without neighbours, or whose sum is zero, is returned as it was.

    """
    used = [(weights.get(r.name, 1.0), r.means(cut, sources, own.shape[1])) for r in relations]
    used = [(w, means) for w, means in used if w > 0]
    for start, part in parts:
        wide = part.astype(np.float64)
        for _, means in used:
            means.add(start, wide)
    total, norm, wide = np.zeros(own.shape), np.zeros(len(own)), own.astype(np.float64)
    for relation_weight, means in used:
        mean, has = means.result(wide)
        total[has] += relation_weight * mean[has]
        norm[has] += relation_weight
    touched = np.flatnonzero(norm > 0)
    mixed = (1.0 - weight) * wide[touched] + weight * total[touched] / norm[touched, None]
    directions = normalize(mixed.astype(np.float32))
    says_something = directions.any(axis=1)
    smoothed = own.copy()
    smoothed[touched[says_something]] = directions[says_something]
    return smoothed


def given_links(table: pa.Table, n_items: int, *, symmetric: bool) -> list[Links]:
    """The relations of a clean relations table, by name.

    Args:
        table: `schema.RELATIONS`.
        n_items: I.
        symmetric: whether a pair holds in both directions; a pair given both ways counts once.

    """
    pairs_df = table.to_pandas()
    found = []
    for name, rows_df in pairs_df.groupby(RELATION, sort=True):
        item, other = rows_df[ITEM_IDX].to_numpy(), rows_df[OTHER_IDX].to_numpy()
        if symmetric:
            item, other = np.concatenate([item, other]), np.concatenate([other, item])
        pair = np.unique(np.stack([item, other], axis=1)[item != other], axis=0)
        adjacency = sp.csr_matrix((np.ones(len(pair)), (pair[:, 0], pair[:, 1])), shape=(n_items, n_items))
        found.append(Links(str(name), adjacency))
    return found


def shared_values(name: str, columns: Iterable[pa.ChunkedArray], n_items: int, max_group: int) -> Groups:
    """The relation of items that share a value of a metadata column.

    Args:
        name: of the column, and of the relation.
        columns: its parts in row order. A list stands for all its values; empty and missing values relate
            nothing; values are compared as text, less the space around them.
        n_items: I.
        max_group: see `Groups`.

    """
    rows: list[npt.NDArray[np.int64]] = []
    values: list[object] = []
    start = 0
    for column in columns:
        plain = column.combine_chunks()
        if isinstance(plain, pa.ChunkedArray):  # Arrow leaves a column without chunks as it is
            plain = pa.concat_arrays(plain.chunks) if plain.chunks else pa.array([], plain.type)
        if pa.types.is_list(plain.type):
            rows.append(start + pc.list_parent_indices(plain).to_numpy().astype(np.int64))
            values.extend(pc.list_flatten(plain).to_pylist())
        else:
            rows.append(start + np.arange(len(plain)))
            values.extend(plain.to_pylist())
        start += len(plain)
    texts = pd.Series(["" if v is None else str(v).strip() for v in values], dtype=object)
    entries_df = pd.DataFrame({"row": np.concatenate([np.zeros(0, dtype=np.int64), *rows]), "value": texts})
    entries_df = entries_df[entries_df["value"] != ""].drop_duplicates()
    entries_df = entries_df[entries_df.duplicated("value", keep=False)]  # a value of one item relates nothing
    group, names = pd.factorize(entries_df["value"])
    members = sp.csr_matrix(
        (np.ones(len(group)), (entries_df["row"].to_numpy(), group)), shape=(n_items, len(names))
    )
    return Groups(name, members, max_group)


def check_names(weights: Mapping[str, float], known: Iterable[str]) -> None:
    """See that every weight is some relation's.

    Raises:
        ConfigError: nothing to smooth along, or a weight for a relation that is not there.

    """
    names = sorted(set(known))
    if not names:
        raise ConfigError(
            "relations.weight is above 0, and there are no relations. Add a relations table to --data, name item "
            "columns in relations.columns, or set relations.weight = 0."
        )
    for name in sorted(set(weights) - set(names)):
        raise ConfigError(
            f"relations.weights.{name} is for a relation that is not there; there are {', '.join(names)}. "
            "Correct the name, or leave it out."
        )
