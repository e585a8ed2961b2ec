"""Ids to row numbers, and random numbers that belong to an id rather than to a row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_numbers(ids: pa.ChunkedArray | pa.Array, known: pa.Array) -> npt.NDArray[np.int64]:
    """Row number of each id in `known`, -1 where it is not there."""
    found = pc.fill_null(pc.index_in(ids, value_set=known), -1)
    return np.asarray(
        found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()
    ).astype(np.int64)


def hash_ids(ids: npt.NDArray[np.object_]) -> npt.NDArray[np.uint64]:
    """A stable 64-bit hash of each id: the same in every process and on every platform."""
    return pd.util.hash_array(np.asarray(ids, dtype=object), categorize=False)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele, Lea and Flood 2014): every input bit changes every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def normal_by_id(hashes: npt.NDArray[np.uint64], n_columns: int, seed: int) -> npt.NDArray[np.float32]:
    """Standard normal rows (len(hashes), n_columns) that depend on id and seed only.

    A row's start must not depend on where the row stands: then shuffling the input, adding items or cutting
    the rows into other shards changes no factor. Box-Muller over a counter-based generator.
    """
    # uint64 arithmetic wraps round by design
    with np.errstate(over="ignore"):
        half = (n_columns + 1) // 2
        counters = np.arange(2 * half, dtype=np.uint64) * _GOLDEN
        keys = _mix(hashes + np.uint64(seed + 1) * _GOLDEN)
        bits = _mix(keys[:, None] + counters[None, :]) >> np.uint64(11)
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:, :half]))
    angle = 2.0 * np.pi * uniform[:, half:]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :n_columns].astype(np.float32)


def drawn(hashes: npt.NDArray[np.uint64], n: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions, rising, of n ids, or of all where there are fewer: by id and seed, wherever the ids stand."""
    if len(hashes) <= n:
        return np.arange(len(hashes))
    return np.sort(np.argsort(mixed(hashes, seed), kind="stable")[:n])


def mixed(hashes: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """(n,) numbers by which ids may be put in an order of chance: one that stays when others come or go."""
    with np.errstate(over="ignore"):
        return _mix(hashes + np.uint64(seed + 1) * _GOLDEN)


def mixed_pairs(
    first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64], seed: int
) -> npt.NDArray[np.uint64]:
    """The same for pairs of ids, of both hashes."""
    with np.errstate(over="ignore"):
        return mixed(mixed(first, seed) + second, seed)


def sampled(rows: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Whether each row number is in a fixed pseudo-random sample of about `share` of all rows."""
    with np.errstate(over="ignore"):
        bits = _mix((rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share)
