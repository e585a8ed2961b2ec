"""What a lost worker or a lost node costs: each stage on a four-node cluster, undisturbed and disturbed.

    python benchmarks/faults.py [--items N --users N --interactions N] [--quick] [--out FILE.md]

Every run has a cluster of its own on this machine. The stages before the disturbed one are copied from the
undisturbed run, the ones after it follow, and the published numbers must be the undisturbed run's. The time lost is the
stage's own, less the undisturbed stage's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from quality import circumstances

from pipelines.cluster import set_environment
from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.catalogue import GeneratorConfig, generate, write
from pipelines.core.config import Config, load_config
from pipelines.core.layout import Layout
from pipelines.core.storage import read_tensors

STAGES = ("ingest", "split", "embed", "profile", "factorize", "evaluate", "publish")
FAULTS = ("worker", "node")
NODES = 4
CPUS_PER_NODE = 2
TOLERANCE = 2e-4
"""Largest difference allowed between published numbers: factors come from sums in single precision."""

CONFIG = """
[encoder]
dtype = "float32"      # so that a text's vector does not depend on its batch
max_tokens = 64
[embed]
texts_per_task = 256
[factorize]
n_factors = 64
shards = 8
[evaluate]
users_per_task = 500
"""


@dataclass(frozen=True)
class Case:
    """One run: where from, which stage is disturbed how, and how long after its beginning."""

    data: str
    out: str
    config: str
    stage: str | None = None
    fault: str | None = None
    after: float = 0.0


def main() -> None:
    """Run all cases, print a line each, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--interactions", type=int, default=300_000)
    parser.add_argument("--quick", action="store_true", help="a small catalogue, embed and factorize only")
    parser.add_argument("--out", type=Path, help="write the page here")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run(Case(**json.loads(options.case)))
        return
    if options.quick:
        options.items, options.users, options.interactions = 400, 1000, 12_000
    stages = ("embed", "factorize") if options.quick else STAGES
    with tempfile.TemporaryDirectory() as temporary:
        lines = measure(Path(temporary), options, stages)
    size = f"{options.items:,} items, {options.users:,} users, {options.interactions:,} interactions"
    page = [
        "# A worker or a node lost in each stage", "", circumstances(), "",
        f"Command: `python benchmarks/faults.py{' --quick' if options.quick else ''}`. {size}; {NODES} nodes of "
        f"{CPUS_PER_NODE} logical CPUs on one machine. A worker is killed with SIGKILL, a node with everything on it. "
        f"Published numbers are compared with the undisturbed run's to {TOLERANCE:g}.", "", *lines,
    ]  # fmt: skip
    if options.out:
        options.out.write_text("\n".join(page) + "\n", encoding="utf-8")


def measure(work: Path, options: argparse.Namespace, stages: tuple[str, ...]) -> list[str]:
    """Table rows of all cases; fails where a result differs or nothing was hit."""
    data, config, calm = work / "data", work / "config.toml", work / "calm"
    write(
        generate(
            GeneratorConfig(n_items=options.items, n_users=options.users, n_interactions=options.interactions)
        ),
        data,
    )
    config.write_text(CONFIG, encoding="utf-8")
    undisturbed = in_a_process(Case(str(data), str(calm), str(config)))["seconds"]
    lines = [
        "| stage | lost | undisturbed s | disturbed s | time lost s | result |",
        "|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n", flush=True)
    for stage in stages:
        for fault in FAULTS:
            out = work / f"{stage}-{fault}"
            copy_until(calm, out, stage)
            found = in_a_process(
                Case(str(data), str(out), str(config), stage, fault, 0.4 * undisturbed[stage])
            )
            worst = largest_difference(out, calm)
            if worst > TOLERANCE:
                raise SystemExit(f"{stage}, {fault} lost: published numbers differ by {worst:g}")
            before, after = undisturbed[stage], found["seconds"][stage]
            hit = found["hit"] or "the stage was over"
            lines.append(
                f"| {stage} | {fault}: {hit} | {before:.1f} | {after:.1f} | {after - before:+.1f} | "
                f"equal to {worst:.0e} |"
            )
            print(lines[-1], flush=True)
            shutil.rmtree(out)
    return lines


def in_a_process(case: Case) -> dict[str, Any]:
    """Run one case in an interpreter of its own, for Ray starts once per process."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(vars(case))],
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def copy_until(calm: Path, out: Path, stage: str) -> None:
    """What the undisturbed run left of the stages before this one."""
    shutil.copytree(calm, out)
    for name in STAGES[STAGES.index(stage) :]:
        Layout(out).marker(name).unlink()
    if stage == "embed":
        shutil.rmtree(out / "cache")


def largest_difference(out: Path, calm: Path) -> float:
    """Between the published numbers of two builds."""
    found, expected = (BundlePaths(Layout(o).bundle(current_version(Layout(o)))) for o in (out, calm))
    worst = 0.0
    for a, b in (
        (found.item_arrays, expected.item_arrays),
        (found.user_arrays, expected.user_arrays),
        (found.text_maps, expected.text_maps),
    ):
        ours, theirs = read_tensors(a), read_tensors(b)
        if ours.keys() != theirs.keys():
            raise SystemExit(f"{a.name}: other arrays are published, {sorted(ours)} for {sorted(theirs)}")
        for name, values in theirs.items():
            if ours[name].shape != values.shape:
                raise SystemExit(f"{a.name}: {name} has another shape, {ours[name].shape} for {values.shape}")
            worst = max(worst, float(np.abs(ours[name] - values).max(initial=0.0)))
    return worst


def run(case: Case) -> None:
    """Build on a cluster of this process's own; the last line printed is what happened."""
    set_environment()
    import ray  # noqa: PLC0415 - reads its environment when imported
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    from pipelines.flow import build  # noqa: PLC0415
    from pipelines.progress import Progress  # noqa: PLC0415

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS_PER_NODE})
    others = [cluster.add_node(num_cpus=CPUS_PER_NODE) for _ in range(NODES - 1)]
    hit: list[str] = []

    def disturb() -> None:
        if case.fault == "node":
            cluster.remove_node(others[0], allow_graceful=False)
            hit.append("1 of 4")
        else:
            hit.append(kill_worker(str(case.stage)))

    class Disturbed(Progress):
        """Disturbs the stage some time after it began."""

        def begin(self, stage: str) -> None:
            """Start the clock."""
            if stage == case.stage:
                timer = threading.Timer(case.after, disturb)
                timer.daemon = True
                timer.start()

    settings: Config = load_config(Path(case.config))
    settings = settings.model_copy(
        update={"ray": settings.ray.model_copy(update={"address": cluster.address})}
    )
    outcomes = build(settings, case.data, Path(case.out), progress=Disturbed(quiet=True))
    print(json.dumps({"seconds": {o.stage: o.seconds for o in outcomes}, "hit": hit[0] if hit else ""}))
    sys.stdout.flush()
    ray.shutdown()
    cluster.shutdown()


def kill_worker(stage: str) -> str:
    """SIGKILL one process that works for the stage: an encoder while encoding, else one in the middle of a task."""
    import psutil  # noqa: PLC0415 - of the development extra

    wanted = re.compile("EncodeTexts" if stage == "embed" else r"ray::(?!IDLE)[a-z_]+$")
    for _ in range(100):
        for process in psutil.Process().children(recursive=True):
            try:
                name = next(iter(process.cmdline()), "")
            except psutil.Error:
                continue  # it ended by itself meanwhile
            if name.startswith("ray::") and wanted.search(name):
                process.kill()
                return name.removeprefix("ray::")
        time.sleep(0.02)
    return "no worker was busy"


if __name__ == "__main__":
    main()
