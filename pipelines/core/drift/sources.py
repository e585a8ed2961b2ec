"""What drift looks at of one build, whether it is published or about to be; nothing is read before it is asked for.

Dimensions: U users, I items, F factors, E columns of a profile, T of them from the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from safetensors import SafetensorError, safe_open

from pipelines.core.blend import blend, item_vectors, profiles
from pipelines.core.bundle import BundlePaths, check_manifest
from pipelines.core.columns import one_array
from pipelines.core.config import BlendConfig, Config, load_config
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout, ModelName
from pipelines.core.pairs import read_pairs, signs
from pipelines.core.schema import IS_HIDDEN, ITEM_ID, TEXT, USER_ID
from pipelines.core.storage import part_paths, read_json, read_rows, read_table, read_tensors

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
_ROWS_AT_ONCE = 16_384
ReadRows = Callable[[int, int], FloatArray]
"""Rows from one number up to another of a matrix (n, width)."""


@dataclass(frozen=True)
class Source:
    """One build.

    Attributes:
        model: which of its models is (to be) in service.
        counts: rows read, kept and rejected of each table.
        encoder: fingerprint of what the texts were encoded with.
        item_ids: (I,).
        user_ids: (U,).
        history: (U, I) weights of what the model was fitted on.
        item_parts: Parquet files with the items' texts, in row-number order.
        text_mean: (T + words,) mean of the raw vectors of the items' texts, the encoder's first.
        blending: how a score adds up.
        item_factors: rows of (I, F).
        item_profiles: rows of (I, E).
        user_factors: rows of (U, F).
        own_texts: rows of (U, E).

    """

    model: str
    counts: Mapping[str, Mapping[str, int]]
    encoder: str
    item_ids: pa.Array
    user_ids: pa.Array
    history: sp.csr_matrix
    item_parts: tuple[Path, ...]
    text_mean: FloatArray
    blending: BlendConfig
    item_factors: ReadRows
    item_profiles: ReadRows
    user_factors: ReadRows
    own_texts: ReadRows

    @cached_property
    def item_counts(self) -> IntArray:
        """(I,) users who touched each item."""
        return np.bincount(self.history.indices, minlength=self.history.shape[1]).astype(np.int64)

    @cached_property
    def hidden(self) -> npt.NDArray[np.bool_]:
        """(I,) items that are never shown."""
        flags = [_column(path, IS_HIDDEN, pa.bool_()).fill_null(False) for path in self.item_parts]
        return np.concatenate([np.zeros(0, dtype=bool), *(f.to_numpy(zero_copy_only=False) for f in flags)])

    def texts(self, rows: IntArray) -> pa.Array:
        """(n,) texts of some items."""
        ordered, places = np.unique(rows, return_inverse=True)
        found, start = [pa.array([], pa.string())], 0
        for path in self.item_parts:
            stop = start + pq.read_metadata(path).num_rows
            inside = ordered[(ordered >= start) & (ordered < stop)] - start
            if len(inside):
                found.append(_column(path, TEXT, pa.string()).take(pa.array(inside)).fill_null(""))
            start = stop
        return pa.concat_arrays(found).take(pa.array(places))

    def item_vectors(self, rows: IntArray) -> FloatArray:
        """(n, F + E) the items' half of a score."""
        return item_vectors(
            pick(self.item_factors, rows),
            pick(self.item_profiles, rows),
            self.item_counts[rows],
            self.blending,
        )

    def user_vectors(self, rows: IntArray) -> FloatArray:
        """(n, F + E) the users' half."""
        liked = signs(self.history[rows], self.blending.unwanted_items)
        touched = np.unique(liked.indices).astype(np.int64)
        profile = profiles(
            liked[:, touched],
            pick(self.item_profiles, touched),
            pick(self.own_texts, rows),
            self.blending.own_text_items,
            self.blending.history_power,
        )
        return blend(pick(self.user_factors, rows), profile, self.blending.gamma)


def pick(read: ReadRows, rows: IntArray) -> FloatArray:
    """(n, width) some rows of a matrix, read a block at a time: the matrix need not fit in memory."""
    ordered, places = np.unique(rows, return_inverse=True)
    blocks = [read(0, 0)]
    for start in np.unique(ordered // _ROWS_AT_ONCE) * _ROWS_AT_ONCE:
        inside = ordered[(ordered >= start) & (ordered < start + _ROWS_AT_ONCE)]
        blocks.append(read(int(start), int(inside[-1]) + 1)[inside - start])
    return np.concatenate(blocks)[places]


def of_bundle(root: Path) -> Source:
    """A published version, of any schema that this program reads.

    Raises:
        ArtefactError: a file is missing or unreadable.

    """
    paths = BundlePaths(root)
    manifest: dict[str, Any] = check_manifest(read_json(paths.manifest), str(root))
    items, users = (
        _column(path, name, pa.string()) for path, name in ((paths.items, ITEM_ID), (paths.users, USER_ID))
    )
    arrays = _Tensors(paths.user_arrays)
    indptr, indices, weights = (arrays.whole(name) for name in ("indptr", "indices", "weights"))
    return Source(
        str(manifest.get("model", "full")),
        _by_table(manifest.get("counts")),
        str((manifest.get("encoder") or {}).get("fingerprint", "")),
        items,
        users,
        sp.csr_matrix((weights, indices, indptr), shape=(len(users), len(items))),
        (paths.items,),
        _Tensors(paths.text_maps).whole("item_mean"),
        load_config(paths.config).blend,
        _Tensors(paths.item_arrays).rows("factors"),
        _Tensors(paths.item_arrays).rows("profiles"),
        arrays.rows("factors"),
        arrays.rows("own_texts"),
    )


def of_build(layout: Layout, config: Config) -> Source:
    """What a build has left in its stages, as `publish` would take it.

    Raises:
        ArtefactError: a stage is not done, or a file of it is missing or unreadable.

    """
    model: ModelName = "full" if config.publish.refit else "train"
    items, users = read_table(layout.ids("items")), read_table(layout.ids("users"))
    return Source(
        model,
        _by_table(read_json(layout.ingest_report)),
        str(read_json(layout.embed_report).get("encoder", "")),
        one_array(items.column(0)),
        one_array(users.column(0)),
        read_pairs(layout.pairs(model, "user"), "user", 0, users.num_rows, items.num_rows),
        tuple(part_paths(layout.tables / "items")),
        read_tensors(layout.profile_means(model))["item_mean"],
        config.blend,
        lambda start, stop: read_rows(layout.factors(model, "item"), start, stop),
        lambda start, stop: read_rows(layout.item_profiles(model), start, stop),
        lambda start, stop: read_rows(layout.factors(model, "user"), start, stop),
        lambda start, stop: read_rows(layout.own_profiles(model), start, stop),
    )


def encoder_columns(layout: Layout) -> int:
    """T, how many columns of a profile are the encoder's, in the build of a directory."""
    return int(read_rows(layout.text_embeddings("items"), 0, 0).shape[1])


def _by_table(counts: object) -> dict[str, dict[str, int]]:
    """Of a report of ingest what counts rows of tables."""
    if not isinstance(counts, dict):
        return {}
    return {name: found for name, found in counts.items() if isinstance(found, dict) and "read" in found}


def _column(path: Path, name: str, kind: pa.DataType) -> pa.Array:
    """One column of a file in one piece; nulls where the file has none of that name."""
    try:
        if name not in pq.read_schema(path).names:
            return pa.nulls(pq.read_metadata(path).num_rows, kind)
        return one_array(pq.read_table(path, columns=[name]).column(0).cast(kind))
    except (OSError, pa.ArrowException) as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e


@dataclass(frozen=True)
class _Tensors:
    """A safetensors file, read array by array or row by row."""

    path: Path

    def whole(self, name: str) -> npt.NDArray[Any]:
        return self._read(name, None)

    def rows(self, name: str) -> ReadRows:
        return lambda start, stop: self._read(name, slice(start, stop))

    def _read(self, name: str, rows: slice | None) -> npt.NDArray[Any]:
        try:
            with safe_open(self.path, framework="numpy") as handle:
                part = handle.get_slice(name)
                # of an array without rows no slice can be taken
                is_whole = rows is None or not part.get_shape()[0]
                found: npt.NDArray[Any] = handle.get_tensor(name) if is_whole else part[rows]
                return found
        except (OSError, SafetensorError) as e:
            raise ArtefactError(f"{self.path} cannot be read: {e}. Build again or roll back.") from e
