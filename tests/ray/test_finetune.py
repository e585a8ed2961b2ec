"""Fine-tuning on a cluster of several nodes: each worker on a node of its own learns its part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipelines.core.config import load_config
from pipelines.core.finetune.checkpoint import Point
from pipelines.core.finetune.files import ExampleFiles
from pipelines.core.finetune.setup import prepare
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json
from tests.conftest import SMALL_CONFIG, Finished
from tests.unit.tiny_models import make_tiny
from tests.unit.trainings import Recorder

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# four nodes of one CPU: one CPU is left to others, and each of two workers wants half of the rest, so a node has room
# for one of them
PROGRAM = """
import os, sys
from pathlib import Path
os.environ["RAY_AUTH_MODE"] = "disabled"
data, out, config = sys.argv[1:]
from pipelines.cluster import set_environment
set_environment()
import ray
from ray.cluster_utils import Cluster
from pipelines.core.config import load_config
from pipelines.flow import build
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for _ in range(3):
    cluster.add_node(num_cpus=1)
settings = load_config(Path(config))
settings = settings.model_copy(update={
    "ray": settings.ray.model_copy(update={"address": cluster.address}),
    "finetune": settings.finetune.model_copy(update={"workers": 2}),
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


def alone(config: Path, layout: Layout) -> list[Point]:
    """The curve of the loop by itself on the same examples: one worker, no Ray."""
    settings, files = load_config(config), ExampleFiles(layout.examples)
    training = prepare(settings, files).training(settings.finetune, files, Recorder())
    return training.run(lambda first: map(files.take, training.order.steps(first))).curve


def test_workers_on_nodes_of_their_own_learn_what_one_does(
    tmp_path: Path, small_data: Path, run_python: Callable[[str, Sequence[str]], Finished]
) -> None:
    config, model, layout = (
        tmp_path / "tuning.toml",
        make_tiny("bert", tmp_path / "model"),
        Layout(tmp_path / "out"),
    )
    base = SMALL_CONFIG.replace("[encoder]", f'[encoder]\nmodel = "{model}"')
    config.write_text(base + TUNING, encoding="utf-8")
    finished = run_python(PROGRAM, [str(small_data), str(layout.root), str(config)])
    assert finished.status == 0, finished.err[-3000:]
    curve, expected = read_json(layout.finetune_report)["curve"], alone(config, layout)
    assert [p["step"] for p in curve] == [p.step for p in expected] == [0, 6, 12]
    for many, one in zip(curve[1:], expected[1:], strict=True):
        assert many["loss"] == pytest.approx(one.loss, abs=1e-3)
        assert many["figures"]["ndcg@20"] == pytest.approx(one.figures["ndcg@20"], abs=0.02)
