"""Shards on Ray give what shards in one process give, also where all factors are more than a node's object store."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest

from tests.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# 200,000 x 128 factors of one side are 102 MB; the store has 80
PROGRAM = """
import json
import numpy as np
from pipelines.cluster import connect
from pipelines.core import als, alternate
from pipelines.core.config import FactorizeConfig, RayConfig
from pipelines.factorize import OnRay
N_ROWS, N_SHARDS, N_TEXT = 200_000, 8, 2
settings = FactorizeConfig(n_factors=128, solver="cg", iterations=1)

def shards(seed):
    rng = np.random.default_rng(seed)
    for start in range(0, N_ROWS, N_ROWS // N_SHARDS):
        n = N_ROWS // N_SHARDS
        text = rng.standard_normal((n, N_TEXT), dtype=np.float32)
        yield als.RowShard(
            start, np.arange(0, 2 * n + 1, 2, dtype=np.int32), rng.integers(0, N_ROWS, 2 * n, dtype=np.int32),
            np.full(2 * n, 16, dtype=np.float32), text, text,
        )

def fit(runner):
    sides = []
    for seed, side in enumerate(("user", "item")):
        made = list(shards(seed))
        rng = np.random.default_rng(9 + seed)
        starts = [
            runner.share(np.float32(0.01) * rng.standard_normal((s.n_rows, 128), dtype=np.float32)) for s in made
        ]
        sides.append(alternate.begin(
            side, [runner.share(s) for s in made], starts, np.eye(N_TEXT), 128, runner
        ))
    return [runner.fetch(side.factors) for side in alternate.alternate(*sides, settings, runner)]

here = fit(alternate.Here())
connect(RayConfig(num_cpus=2, object_store_mb=80))
there = fit(OnRay())
print(json.dumps({
    "difference": max(float(np.abs(a - b).max()) for x, y in zip(here, there) for a, b in zip(x, y)),
    "size": min(float(np.abs(a).max()) for x in here for a in x),
}))
"""


def test_factors_larger_than_the_object_store(run_python: Callable[[str, Sequence[str]], Finished]) -> None:
    finished = run_python(PROGRAM, [])
    assert finished.status == 0, finished.err[-3000:]
    found = json.loads(next(line for line in finished.out.splitlines() if line.startswith('{"difference"')))
    assert found["size"] > 1e-4
    assert found["difference"] < 1e-4 * found["size"]
