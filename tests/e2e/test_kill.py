"""A build killed at any moment is finished by the next one, with the same result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.bundle import BundlePaths, check_bundle, current_version
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, read_tensors
from tests.conftest import kill_group, kindling, start_kindling
from tests.processes import descendants

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def assert_same_result(out: Path, reference: Path) -> None:
    """Same figures and same published numbers; nothing half-written is left to be found."""
    ours, theirs = read_json(Layout(out).metrics), read_json(Layout(reference).metrics)
    assert ours["counts"]["items"] == theirs["counts"]["items"]
    assert ours["counts"]["interactions"] == theirs["counts"]["interactions"]
    for model, slices in theirs["models"].items():
        for name, figures in slices.items():
            assert ours["models"][model][name] == pytest.approx(figures, abs=2e-3), (model, name)
    paths, expected = (BundlePaths(Layout(o).bundle(current_version(Layout(o)))) for o in (out, reference))
    for a, b in ((paths.item_arrays, expected.item_arrays), (paths.user_arrays, expected.user_arrays)):
        arrays, wanted = read_tensors(a), read_tensors(b)
        for key, value in wanted.items():
            np.testing.assert_allclose(arrays[key], value, atol=2e-4, err_msg=f"{a.name} {key}")
    check_bundle(paths.root)
    assert not list(Layout(out).bundles.glob(".*")), "an unfinished bundle is lying about"


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def with_encoded_texts(out: Path, built: Path) -> Path:
    """An output directory in which embedding has nothing left to do: what is killed comes before or after it."""
    shutil.copytree(built / "cache", out / "cache")
    return out


MOMENTS = {
    "while reading": ("stages/ingest", 0.3),
    "while encoding": ("cache/embeddings", 0.5),
    "in the last passes": ("stages/factorize/train/text_maps.safetensors", 0.3),
    "while ranking": ("stages/evaluate", 0.5),
    "while publishing": ("bundles", 0.0),
    "between pointer and marker": ("CURRENT", 0.0),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_build_is_finished_by_the_next(
    moment: str, tmp_path: Path, built: Path, small_data: Path, small_config: Path
) -> None:
    encodes = moment == "while encoding"
    out = tmp_path / "out" if encodes else with_encoded_texts(tmp_path / "out", built)
    options = ("build", "--data", small_data, "--out", out, "--config", small_config)
    where, after = MOMENTS[moment]
    victim = start_kindling(*options)
    try:
        wait_for(out / where, victim)
        time.sleep(after)
    finally:
        kill_group(victim)
    if Layout(out).current.exists():  # whatever is pointed to is whole
        check_bundle(Layout(out).bundle(current_version(Layout(out))))
    finished = kindling(*options)
    assert finished.status == 0, finished.err
    assert_same_result(out, built)
    assert len(list(Layout(out).bundles.iterdir())) == 1, "published twice"


def is_victim(name: str, stage: str) -> bool:
    """Whether a process does a stage's work: an encoder, or a worker between or in the middle of its tasks."""
    if not name.startswith("ray::"):
        return False
    if stage == "embed":
        return "EncodeTexts" in name
    return name.startswith(("ray::IDLE", "ray::_")) and "Actor" not in name


@pytest.mark.parametrize(
    ("stage", "where", "after"),
    [
        ("embed", "cache/embeddings", 0.0),
        ("factorize", "stages/factorize", 0.0),
        ("evaluate", "stages/evaluate", 1.0),  # workers that are done, and what they hold, are lost too
    ],
)
def test_killed_workers_are_replaced_within_the_run(
    stage: str, where: str, after: float, tmp_path: Path, built: Path, small_data: Path, small_config: Path
) -> None:
    out = tmp_path / "out" if stage == "embed" else with_encoded_texts(tmp_path / "out", built)
    build = start_kindling("build", "--data", small_data, "--out", out, "--config", small_config)
    try:
        wait_for(out / where, build)
        time.sleep(after)
        victims = [pid for pid, name in descendants(build.pid) if is_victim(name, stage)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert victims, f"nobody was there to be killed in {stage}"
        assert build.wait(timeout=300) == 0
    finally:
        if build.poll() is None:
            kill_group(build)
    assert_same_result(out, built)
