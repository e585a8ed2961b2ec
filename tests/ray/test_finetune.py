"""Fine-tuning on a cluster of several nodes: each worker on a node of its own learns its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from tests.conftest import SMALL_CONFIG, Finished
from tests.unit.tiny_models import make_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# a node has room for one worker: of four CPUs one is left to others, and two workers want half of the rest each
PROGRAM = """
import os, sys
from pathlib import Path
os.environ["RAY_AUTH_MODE"] = "disabled"
data, out, config, nodes, workers = sys.argv[1:]
from pipelines.cluster import set_environment
set_environment()
import ray
from ray.cluster_utils import Cluster
from pipelines.core.config import load_config
from pipelines.flow import build
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4 // int(nodes)})
for _ in range(int(nodes) - 1):
    cluster.add_node(num_cpus=4 // int(nodes))
settings = load_config(Path(config))
settings = settings.model_copy(update={
    "ray": settings.ray.model_copy(update={"address": cluster.address}),
    "finetune": settings.finetune.model_copy(update={"workers": int(workers)}),
})
build(settings, data, Path(out), until_stage="finetune")
ray.shutdown()
cluster.shutdown()
"""

TUNING = """
[finetune]
objective = "contrastive"
steps = 12
evaluate_every = 6
batch_size = 16
max_tokens = 24
precision = "float32"
learning_rate = 1e-3
validation_rows = 100
"""


def test_two_nodes_learn_what_one_does(
    tmp_path: Path, small_data: Path, run_python: Callable[[str, Sequence[str]], Finished]
) -> None:
    config, model = tmp_path / "tuning.toml", make_tiny("bert", tmp_path / "model")
    base = SMALL_CONFIG.replace("[encoder]", f'[encoder]\nmodel = "{model}"')
    config.write_text(base + TUNING, encoding="utf-8")
    curves = {}
    for nodes, workers in ((1, 1), (4, 2)):
        out = tmp_path / f"{nodes}"
        finished = run_python(PROGRAM, [str(small_data), str(out), str(config), str(nodes), str(workers)])
        assert finished.status == 0, finished.err[-3000:]
        curves[nodes] = read_json(Layout(out).finetune_report)["curve"]
    assert [p["step"] for p in curves[1]] == [0, 6, 12]
    for one, many in zip(curves[1][1:], curves[4][1:], strict=True):
        assert many["loss"] == pytest.approx(one["loss"], abs=1e-3)
        assert many["figures"]["ndcg@20"] == pytest.approx(one["figures"]["ndcg@20"], abs=0.02)
