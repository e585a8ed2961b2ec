"""The same build on clusters of one, two and four nodes, with other numbers of shards, and with a node lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.layout import Layout
from pipelines.core.storage import read_tensors
from tests.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import json, sys, threading, time
from pathlib import Path
import os
os.environ["RAY_AUTH_MODE"] = "disabled"
data, out, config, nodes, shards, lose = sys.argv[1:]
from pipelines.cluster import set_environment
set_environment()
import ray
from ray.cluster_utils import Cluster
from pipelines.core.config import load_config
from pipelines.flow import build
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2 if lose else 4 // int(nodes)})
others = [cluster.add_node(num_cpus=2 if lose else max(1, 4 // int(nodes))) for _ in range(int(nodes) - 1)]
settings = load_config(Path(config))
settings = settings.model_copy(update={
    "ray": settings.ray.model_copy(update={"address": cluster.address}),
    "factorize": settings.factorize.model_copy(update={"shards": int(shards)}),
})
lost = []
def lose_a_node():
    while not (Path(out) / lose).exists():
        time.sleep(0.01)
    time.sleep(0.3)
    cluster.remove_node(others[0], allow_graceful=False)
    lost.append(lose)
if lose:
    threading.Thread(target=lose_a_node, daemon=True).start()
build(settings, data, Path(out))
print(json.dumps({"nodes": sum(n["Alive"] for n in ray.nodes()), "lost": lost}))
ray.shutdown()
cluster.shutdown()
"""

Runner = Callable[[str, Sequence[str]], Finished]


def arrays(out: Path) -> dict[str, np.ndarray]:
    paths = BundlePaths(Layout(out).bundle(current_version(Layout(out))))
    return read_tensors(paths.item_arrays) | {
        f"user_{k}": v for k, v in read_tensors(paths.user_arrays).items()
    }


_UNEVEN = 7
"""Shards, of which some have more rows than others."""


@pytest.mark.parametrize(
    ("nodes", "shards", "lose"),
    [
        (1, _UNEVEN, ""),
        (2, 2, ""),
        (4, 4, ""),
        (3, 6, "cache/embeddings"),
        (3, 6, "stages/factorize/train"),
        (3, 6, "stages/evaluate"),
    ],
)
def test_any_cluster_gives_the_same_answer(
    nodes: int, shards: int, lose: str, tmp_path: Path, built: Path, small_data: Path, small_config: Path,
    run_python: Runner,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    if lose.startswith("stages/") or shards == _UNEVEN:  # others encode on all nodes
        shutil.copytree(built / "cache", out / "cache")
    finished = run_python(
        PROGRAM, [str(small_data), str(out), str(small_config), str(nodes), str(shards), lose]
    )
    assert finished.status == 0, finished.err[-3000:]
    said = json.loads(next(line for line in finished.out.splitlines() if line.startswith('{"nodes"')))
    assert said["lost"] == ([lose] if lose else [])
    # a lost node is noticed late, maybe after the build: that it was taken away is known from `lost`
    assert said["nodes"] in ({nodes, nodes - 1} if lose else {nodes})
    ours, reference = arrays(out), arrays(built)
    for name, expected in reference.items():
        np.testing.assert_allclose(ours[name], expected, atol=2e-4, err_msg=name)
