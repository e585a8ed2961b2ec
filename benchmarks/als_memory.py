"""Peak memory of two passes in a process of its own, beside the formula of docs/decisions/0011."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from als_contenders import ITEM, USER, Kindling, Sides, settings_for
from als_data import N_TEXT
from als_threads import Threads
from threadpoolctl import threadpool_limits

from pipelines.core import als
from pipelines.core.pairs import Side


def predicted_bytes(
    n_users: int, n_items: int, n_pairs: int, n_factors: int, n_threads: int
) -> dict[str, float]:
    """Peak of one process that holds both sides, see docs/decisions/0011."""
    rows, larger = n_users + n_items, max(n_users, n_items)
    text = N_TEXT + 1
    return {
        "pairs": 4.0 * (2 * 2 * n_pairs + rows),
        "text": 4.0 * 2 * rows * text,
        "factors": 4.0 * rows * n_factors,
        "half-step": 4.0 * n_factors * (2 * (rows - larger) + 2 * larger),
        "buffers": 32.0 * 2**20 * n_threads,
    }


def memory_table(sizes: tuple[int, int, int], factors: Sequence[int], n_threads: int) -> list[str]:
    """Measured beside predicted, a fresh process each."""
    lines = ["| factors | predicted MB | measured MB | measured / predicted |", "|---|---|---|---|"]
    for n_factors in factors:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(_peak, (sizes, n_factors, n_threads))
        predicted = sum(predicted_bytes(*sizes, n_factors, n_threads).values())
        lines.append(
            f"| {n_factors} | {predicted / 1e6:.0f} | {measured / 1e6:.0f} | {measured / predicted:.2f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def _peak(sizes: tuple[int, int, int], n_factors: int, n_threads: int) -> float:
    """Growth of this process from before the shards are made to the peak of two passes, in bytes."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_pairs = sizes
    keys = np.unique(rng.integers(0, n_users * n_items, n_pairs))
    n_pairs = len(keys)
    settings = settings_for(n_factors, solver="cg")
    before = psutil.Process().memory_info().rss - keys.nbytes
    shards: dict[Side, als.RowShard] = {}
    for side, n, m in ((USER, n_users, n_items), (ITEM, n_items, n_users)):
        # random text and pairs: memory does not ask what they mean
        rows = keys // n_items if side == USER else np.sort(keys % n_items)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
        del rows
        shards[side] = als.RowShard(
            0, indptr, rng.integers(0, m, n_pairs, dtype=np.int32), np.full(n_pairs, 16, dtype=np.float32),
            *(rng.random((n, N_TEXT + 1), dtype=np.float32) for _ in range(2)),
        )  # fmt: skip
    del keys
    _reset_peak()
    runner = Threads(n_threads)
    gram = np.eye(N_TEXT + 1)
    with threadpool_limits(1, "blas"):
        sides: Sides = {side: (_pieces(shard, n_threads), gram) for side, shard in shards.items()}
        rival = Kindling(sides, settings, runner)
        rival.step()
        rival.step()
    return float(_peak_rss() - before)


def _pieces(shard: als.RowShard, n: int) -> list[als.RowShard]:
    """The shard in pieces that are views of it."""
    pieces = []
    for a, b in als.cut_rows(shard.indptr.astype(np.int64), n):
        entries = slice(shard.indptr[a], shard.indptr[b])
        pieces.append(
            replace(
                shard,
                start=a,
                indptr=shard.indptr[a : b + 1] - shard.indptr[a],
                indices=shard.indices[entries],
                confidences=shard.confidences[entries],
                features=shard.features[a:b],
                text_sums=shard.text_sums[a:b],
            )
        )
    return pieces


def _reset_peak() -> None:
    """Forget the peak of the preparation, where the system can."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_rss() -> int:
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
