"""Whom to forget: which rows a build leaves out, and what earlier versions know of them.

The service's store keeps a hash and a moment of everybody who was deleted. A build notes them in its directory, leaves
out what its tables say of them up to that moment, and takes them out of the versions it published before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.bundle import BundlePaths
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.rewriting import finish_exchanges, rewrite
from pipelines.core.schema import FORGOTTEN_AT, USER_ID
from pipelines.core.storage import (
    part_paths,
    read_json,
    read_tensors,
    write_json,
    write_table,
    write_tensors,
)

BoolArray = npt.NDArray[np.bool_]
OF_PAIRS = ("indices", "weights", "kinds")
"""Of `BundlePaths.user_arrays`: one number for each user and item; the last is not in every bundle."""


def user_hash(user_id: str) -> str:
    """What is kept of the id of somebody who is to be forgotten: enough to know them by when they are met again."""
    return hashlib.sha256(user_id.encode()).hexdigest()


class Forgotten:
    """Hashes of users, see `user_hash`, and when each was forgotten, in seconds since 1970."""

    def __init__(self, moments: Mapping[str, float] | None = None) -> None:
        """Nobody, or these."""
        self.moments = dict(moments or {})

    @classmethod
    def read(cls, path: Path) -> Forgotten:
        """What `write` wrote; nobody where it wrote nothing."""
        if not path.exists():
            return cls()
        table = pq.read_table(path)
        return cls(dict(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)))

    def write(self, path: Path) -> None:
        """A Parquet file; left as it is where it says this already."""
        if self.moments != self.read(path).moments:
            ordered = sorted(self.moments.items())
            write_table(
                path,
                pa.table({"user_hash": [h for h, _ in ordered], FORGOTTEN_AT: [at for _, at in ordered]}),
            )

    def __bool__(self) -> bool:
        """Whether there is anybody to forget."""
        return bool(self.moments)

    def digest(self) -> str:
        """A hash of all of it; empty where it is nobody."""
        if not self:
            return ""
        state = hashlib.blake2b(digest_size=16)
        for pair in sorted(self.moments.items()):
            state.update(repr(pair).encode())
        return state.hexdigest()

    def __or__(self, other: Forgotten) -> Forgotten:
        """Both; who is in both was forgotten when they were last."""
        found = dict(self.moments)
        for hashed, moment in other.moments.items():
            found[hashed] = max(moment, found.get(hashed, moment))
        return Forgotten(found)

    def moments_of(self, user_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
        """(n,) when each was forgotten; NaN: they were not."""
        column = user_ids.combine_chunks() if isinstance(user_ids, pa.ChunkedArray) else user_ids
        coded = pc.dictionary_encode(column)
        each = [
            np.nan if u is None else self.moments.get(user_hash(u), np.nan)
            for u in coded.dictionary.to_pylist()
        ]
        places = coded.indices.fill_null(len(each)).to_numpy(zero_copy_only=False)
        found: npt.NDArray[np.float64] = np.append(np.array(each, dtype=np.float64), np.nan)[places]
        return found

    def concerns(
        self, user_ids: pa.Array | pa.ChunkedArray, timestamps: npt.NDArray[np.float64] | None = None
    ) -> BoolArray:
        """(n,) rows that are to be left out: of somebody forgotten, and not known to be of later.

        Args:
            user_ids: (n,) of the rows.
            timestamps: (n,) seconds since 1970, NaN where there is none; None: rows without a time.

        """
        if not self:
            return np.zeros(len(user_ids), dtype=bool)
        moments = self.moments_of(user_ids)
        is_later = np.zeros(len(moments), dtype=bool) if timestamps is None else timestamps > moments
        return ~np.isnan(moments) & ~is_later


NOBODY = Forgotten()


def digest_of(forgotten: Forgotten, withdrawn: Collection[str]) -> str:
    """A hash of users and items that are to be gone; empty where there is none, that of the users where no item is."""
    items = hashlib.blake2b("\n".join(sorted(withdrawn)).encode(), digest_size=16).hexdigest()
    return forgotten.digest() + (items if withdrawn else "")


def forget_in_versions(layout: Layout, versions: Iterable[str], forgotten: Forgotten) -> list[str]:
    """Take users out of published versions that know them; to be called by who holds `Folder.changing`.

    A version keeps its name, its items and its maps; ids, factors, words and history of these users are gone from it.
    It is made whole under another name first, so that a process killed in between leaves one of the two.

    Args:
        layout: of the build.
        versions: the ones to look through.
        forgotten: whom to take out, who has not come back before the version was made.

    Returns:
        The versions that knew somebody.

    """
    finish_exchanges(layout)
    if not forgotten:
        return []
    changed = []
    for version in versions:
        paths = BundlePaths(layout.bundle(version))
        try:
            users = pq.read_table(paths.users)
        except (OSError, pa.ArrowException):  # not whole: nobody can be served by it, and pruning removes it
            continue
        gone = unused_users(users, forgotten)
        if gone.any():
            _without(layout, version, users, ~gone)
            changed.append(version)
    return changed


def unused_users(users: pa.Table, forgotten: Forgotten) -> BoolArray:
    """(U,) of a version's users those whom the service leaves unused."""
    moments = forgotten.moments_of(users.column(USER_ID))
    if FORGOTTEN_AT in users.column_names:  # they came back, and what the version knows of them is of later
        known = users.column(FORGOTTEN_AT).to_numpy(zero_copy_only=False).astype(np.float64)
        moments = np.where(known >= moments, np.nan, moments)
    return np.asarray(~np.isnan(moments))


def _without(layout: Layout, version: str, users: pa.Table, keep: BoolArray) -> None:
    old = BundlePaths(layout.bundle(version))

    def write(new: BundlePaths) -> None:
        write_table(new.users, users.filter(pa.array(keep)))
        write_tensors(new.user_arrays, _rows_of_users(read_tensors(old.user_arrays), keep))

    rewrite(layout, version, (old.users, old.user_arrays), write)


def _rows_of_users(arrays: Mapping[str, np.ndarray], keep: BoolArray) -> dict[str, np.ndarray]:
    """`BundlePaths.user_arrays` of some of the users."""
    lengths = np.diff(arrays["indptr"])
    pairs = np.repeat(keep, lengths)
    return {
        "factors": arrays["factors"][keep],
        "own_texts": arrays["own_texts"][keep],
        "indptr": np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64),
        **{name: arrays[name][pairs] for name in OF_PAIRS if name in arrays},
    }


def sweep_embeddings(
    layout: Layout, forgotten: Forgotten, hashes_in_use: pa.Array, withdrawn: Collection[str] = ()
) -> int:
    """Drop the vectors of texts that no table has, where a user or an item was forgotten since this was done last.

    What somebody wrote is not kept with who wrote it, so all that nobody uses goes; it can be encoded again.

    Args:
        layout: of the build.
        forgotten: users.
        hashes_in_use: of the texts of all tables.
        withdrawn: ids of items.

    Returns:
        Number of vectors dropped.

    """
    root = layout.embedding_caches
    note, digest = root / "swept.json", digest_of(forgotten, withdrawn)
    if not digest or not root.is_dir():
        return 0
    try:
        if read_json(note) == digest:
            return 0
    except ArtefactError:
        pass  # never swept
    n_dropped = 0
    for cache in sorted(p for p in root.iterdir() if p.is_dir()):
        for path in part_paths(cache):
            table = pq.read_table(path)
            used = pc.is_in(table.column("hash"), value_set=hashes_in_use)
            n_unused = table.num_rows - int(pc.sum(used).as_py() or 0)
            if n_unused == table.num_rows:
                path.unlink()
            elif n_unused:
                write_table(path, table.filter(used))
            n_dropped += n_unused
    write_json(note, digest)
    return n_dropped
