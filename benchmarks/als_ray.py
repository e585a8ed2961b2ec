"""Shards as tasks on Ray beside the same shards as threads, in turn."""

from __future__ import annotations

import time

import numpy as np
from als_contenders import Kindling, Sides, settings_for
from als_threads import Threads
from threadpoolctl import threadpool_limits

from pipelines.cluster import connect, shutdown
from pipelines.core.config import RayConfig
from pipelines.factorize import OnRay


def ray_table(sides: Sides, n_factors: int, n_shards: int, passes: int) -> list[str]:
    """Two tasks beside two threads, in turn."""
    connect(RayConfig(object_store_mb=3000))
    settings = settings_for(n_factors, solver="cg")
    rivals = {
        "threads": Kindling(sides, settings, Threads(n_shards)),
        "Ray": Kindling(sides, settings, OnRay()),
    }
    walls: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(passes):
        for name, rival in rivals.items():
            with threadpool_limits(1, "blas"):
                wall = time.perf_counter()
                rival.step()
                walls[name].append(time.perf_counter() - wall)
    gap = max(
        float(np.abs(a - b).max())
        for a, b in zip(rivals["threads"].factors(), rivals["Ray"].factors(), strict=True)
    )
    shutdown()
    ratio = np.median(np.array(walls["Ray"][1:]) / np.array(walls["threads"][1:]))
    return [
        f"{n_shards} tasks on Ray beside {n_shards} threads, {n_factors} factors, CG 3, with text: "
        f"{np.median(walls['Ray'][1:]):.2f} s and {np.median(walls['threads'][1:]):.2f} s a pass, "
        f"{ratio:.2f} times (median over passes after the first, which starts the workers); largest difference of a "
        f"factor {gap:.1e}.", "",
    ]  # fmt: skip
