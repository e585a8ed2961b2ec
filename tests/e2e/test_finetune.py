"""Fine-tuning as a stage of a build: what it learns and leaves, what a kill costs, who has learnt with how many."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.catalogue.reviews import SENTIMENTS, ReviewConfig, generate_reviews
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_rows
from tests.conftest import SMALL_CONFIG, kill_group, kindling, start_kindling
from tests.processes import descendants
from tests.unit.tiny_models import make_tiny

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TUNING = """
[finetune]
objective = "contrastive"
steps = 160
evaluate_every = 20
batch_size = 16
max_tokens = 24
precision = "float32"
learning_rate = 1e-3
token_dropout = 0.1
validation_rows = 100
workers = {workers}
"""


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Settings with a tiny encoder, by number of workers."""
    folder = tmp_path_factory.mktemp("tuning")
    model = make_tiny("bert", folder / "model")
    base = SMALL_CONFIG.replace("[encoder]", f'[encoder]\nmodel = "{model}"')
    for workers in (1, 2):
        (folder / f"{workers}.toml").write_text(base + TUNING.format(workers=workers), encoding="utf-8")
    return {workers: folder / f"{workers}.toml" for workers in (1, 2)}


@pytest.fixture(scope="module")
def tuned(small_data: Path, configs: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build whose encoder has learnt, undisturbed, on one worker."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    finished = kindling("build", "--data", small_data, "--out", out, "--config", configs[1])
    assert finished.status == 0, finished.err
    return out


def steps_of(layout: Layout) -> list[dict[str, Any]]:
    """Lines of the training log; the last may be half written."""
    logs = list(layout.finetune_run("x").parent.glob("*/training.jsonl"))
    lines = [line for log in logs for line in log.read_text(encoding="utf-8").split("\n")[:-1]]
    return [told for told in map(json.loads, lines) if "loss" in told]


def wait_for_step(layout: Layout, step: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while not any(told["step"] >= step for told in steps_of(layout)):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline, f"no step {step}"
        time.sleep(0.02)


def test_a_build_embeds_with_what_it_has_learnt(tuned: Path) -> None:
    layout = Layout(tuned)
    report = read_json(layout.finetune_report)
    assert report["steps"] == 160
    assert [point["step"] for point in report["curve"]] == list(range(0, 161, 20))
    assert report["curve"][0]["loss"] is None
    assert report["after"]["ndcg@20"] >= report["before"]["ndcg@20"]
    assert report["curve"][-1]["figures"]["forgetting"] > 0
    assert [told["step"] for told in steps_of(layout)] == list(range(1, 161))
    assert list(layout.finetune_run("x").parent.glob("*/tensorboard/events*"))
    assert not list(layout.finetune_run("x").parent.glob("*/checkpoint_*"))
    # published with the bundle, and the base model is what the build remembers
    bundle = BundlePaths(layout.bundle(current_version(layout)))
    assert (bundle.encoder / "model.safetensors").read_bytes() == (
        layout.tuned_encoder / "model.safetensors"
    ).read_bytes()
    assert str(layout.tuned_encoder) not in layout.config.read_text(encoding="utf-8")
    answered = kindling("recommend", "--out", tuned, "--text", "a tent for two", "-n", "3")
    assert answered.status == 0, answered.err


def test_a_second_run_has_nothing_to_do(tuned: Path, small_data: Path, configs: dict[int, Path]) -> None:
    # nor has one with another number of workers: it would learn the same
    again = kindling("finetune", "--data", small_data, "--out", tuned, "--config", configs[2])
    assert again.status == 0, again.err
    assert "finetune unchanged" in again.err
    assert "ndcg@20 *" in again.out


def test_killed_and_gone_on_with_two_workers_it_learns_the_same(
    tuned: Path, small_data: Path, configs: dict[int, Path], tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "out")
    first = start_kindling("finetune", "--data", small_data, "--out", layout.root, "--config", configs[1])
    wait_for_step(layout, 50, first)
    kill_group(first)
    reached = max(told["step"] for told in steps_of(layout))
    assert reached < 160
    second = start_kindling("finetune", "--data", small_data, "--out", layout.root, "--config", configs[2])
    wait_for_step(layout, reached + 30, second)
    workers = [pid for pid, command in descendants(second.pid) if "RayTrainWorker" in command]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert second.wait(timeout=300) == 0
    told = [line["step"] for line in steps_of(layout)]
    assert told.count(160) == 1
    assert 0 < told.count(21) < 3, "the second run began anew, or the first never went that far"
    ours, expected = (read_json(x.finetune_report) for x in (layout, Layout(tuned)))
    assert [p["step"] for p in ours["curve"]] == [p["step"] for p in expected["curve"]]
    for a, b in zip(ours["curve"][1:], expected["curve"][1:], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-3)


def test_what_cannot_be_learnt_is_told_before_anything_is_trained(
    small_data: Path, configs: dict[int, Path], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.toml"
    text = configs[1].read_text(encoding="utf-8")
    labels = 'objective = "classification"\nlabels = "nowhere/labels.csv"'
    wrong.write_text(text.replace('objective = "contrastive"', labels), encoding="utf-8")
    failed = kindling("finetune", "--data", small_data, "--out", tmp_path / "out", "--config", wrong)
    assert failed.status == 3
    assert "nowhere/labels.csv" in failed.err
    assert "Traceback" not in failed.err


def test_a_few_labels_become_classes_of_any_text(
    tuned: Path, small_data: Path, configs: dict[int, Path], tmp_path: Path
) -> None:
    refused = kindling("predict", "--out", tuned, "--text", "a tent")
    assert refused.status == 5
    assert "left an encoder" in refused.err
    out, config, labels = (
        Path(shutil.copytree(tuned, tmp_path / "out")),
        tmp_path / "labels.toml",
        tmp_path / "标签.csv",
    )
    generate_reviews(ReviewConfig(n_reviews=60)).to_csv(labels, index=False)
    text = configs[1].read_text(encoding="utf-8").replace("steps = 160", "steps = 4")
    told = f'objective = "classification"\nlabels = "{labels}"'
    config.write_text(text.replace('objective = "contrastive"', told), encoding="utf-8")
    taught = kindling("finetune", "--data", small_data, "--out", out, "--config", config)
    assert taught.status == 0, taught.err
    asked = kindling("predict", "--out", out, "--text", "I love it", "--text", "很失望")
    assert asked.status == 0, asked.err
    for name in SENTIMENTS:
        assert asked.out.count(name) == 2
    assert "很失望" in asked.out


def test_a_smaller_encoder_is_taught_again_when_asked(
    tuned: Path, small_data: Path, configs: dict[int, Path], tmp_path: Path
) -> None:
    layout, config = Layout(Path(shutil.copytree(tuned, tmp_path / "out"))), tmp_path / "smaller.toml"
    text = configs[1].read_text(encoding="utf-8").replace("[encoder]", "[encoder]\ndimensions = 8")
    text = text.replace("steps = 160", "steps = 6").replace("evaluate_every = 20", "evaluate_every = 3")
    smaller = 'objective = "distillation"\nkeep_layers = 1\nmatryoshka = [8]'
    config.write_text(text.replace('objective = "contrastive"', smaller), encoding="utf-8")
    options = ("build", "--data", small_data, "--out", layout.root, "--config", config, "--until-stage")
    finished = kindling(*options, "embed")
    assert finished.status == 0, finished.err
    report = read_json(layout.finetune_report)
    assert report["metric"] == "neighbours@10"
    assert "neighbours@10 of 8" in report["after"]
    assert read_json(layout.tuned_encoder / "config.json")["num_hidden_layers"] == 1
    assert read_rows(layout.text_embeddings("items"), 0, 240).shape == (240, 8)
    # what an earlier training left is not gone on from
    again = kindling(*options, "finetune", "--from-stage", "finetune")
    assert again.status == 0, again.err
    assert [told["step"] for told in steps_of(layout)] == list(range(1, 7))
    assert read_json(layout.finetune_report)["after"] == pytest.approx(report["after"], abs=1e-3)
