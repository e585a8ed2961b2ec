"""Quality of one build beside its baselines, as a Markdown file with everything needed to repeat it.

    python benchmarks/quality.py NAME --data DIR --config FILE.toml [--out DIR]

Baselines run on the same split, masks and candidates in the same build. Settings in the config were chosen on the
validation slices; the test slices are what is printed first.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.layout import Layout
from pipelines.core.storage import read_json

ROOT = Path(__file__).parent.parent
METRICS = ("recall@20", "ndcg@20", "coverage@20")


def main() -> None:
    """Build, then write benchmarks/results/quality_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        command = ["build", "--data", options.data, "--out", str(out), "--config", str(options.config)]
        subprocess.run([str(Path(sys.executable).parent / "kindling"), *command], check=True)
        metrics = read_json(Layout(out).metrics)
    page = render(options.name, options.config, metrics)
    target = ROOT / "benchmarks" / "results" / f"quality_{options.name}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    print(page)


def render(name: str, config: Path, metrics: dict[str, Any]) -> str:
    """The page: circumstances, then a table per held-out set."""
    lines = [
        f"# Quality: {name}",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/quality.py {name} --data DIR --config {config}`.",
        "",
        "Means over users, 95 % bootstrap intervals over users in brackets.",
    ]
    for which in ("test", "validation"):
        models = metrics["models"] if which == "test" else metrics["validation"]
        users = metrics["users_measured"][which]
        header = [f"{m} {s} ({users[s]})" for m in METRICS for s in ("cold", "warm", "all")]
        lines += [
            "",
            f"## {which}",
            "",
            "| model | " + " | ".join(header) + " |",
            "|" + "---|" * (len(header) + 1),
        ]
        for model, slices in models.items():
            cells = [
                cell(slices[s][m], metrics["intervals"][which][model][s].get(m))
                for m in METRICS
                for s in ("cold", "warm", "all")
            ]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
    seconds = ", ".join(f"{k} {v:.1f}" for k, v in metrics["seconds"].items())
    return "\n".join([*lines, "", f"Seconds: {seconds}."]) + "\n"


def circumstances() -> str:
    """Date, hardware and commit of a measurement."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}, commit {commit}."


def cell(value: float | None, bounds: list[float] | None) -> str:
    """A figure with its interval."""
    if value is None:
        return "–"
    return f"{value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")


def processor() -> str:
    """What the machine says it computes with."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
