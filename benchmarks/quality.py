"""Quality of one build beside its baselines, as a Markdown file with everything needed to repeat it.

    python benchmarks/quality.py NAME --data DIR --config FILE.toml [--out DIR]

Baselines run on the same split, masks, candidates and text profiles in the same build. Settings in the config were
chosen on the validation slices; the test slices are what is printed first.
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

from pipelines.core.baselines import BASELINES
from pipelines.core.config import load_config, parse_config, to_toml
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json

ROOT = Path(__file__).parent.parent
BEYOND = ("coverage", "gini", "novelty", "diversity", "cold_share", "popularity_bias")


def main() -> None:
    """Build, then write benchmarks/results/quality_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    raw = load_config(options.config).model_dump(mode="json")
    raw["evaluate"]["baselines"] = list(BASELINES)
    with tempfile.TemporaryDirectory() as temporary:
        config = Path(temporary) / "config.toml"
        config.write_text(to_toml(parse_config(raw, str(options.config))), encoding="utf-8")
        out = options.out or Path(temporary) / "out"
        command = ["build", "--data", options.data, "--out", str(out), "--config", str(config)]
        subprocess.run([str(Path(sys.executable).parent / "kindling"), *command], check=True)
        evaluation, metrics = read_json(Layout(out).evaluation), read_json(Layout(out).metrics)
    page = render(options.name, options.config, evaluation, metrics["seconds"])
    target = ROOT / "benchmarks" / "results" / f"quality_{options.name}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    print(page)


def render(name: str, config: Path, evaluation: dict[str, Any], seconds: dict[str, float]) -> str:
    """The page: circumstances, then tables per held-out set."""
    resamples, seed = evaluation["bootstrap"]["resamples"], evaluation["bootstrap"]["seed"]
    lines = [
        f"# Quality: {name}",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/quality.py {name} --data DIR --config {config}`.",
        "",
        f"Means over users; in brackets 95 % bootstrap intervals over users ({resamples} resamples, seed {seed}), of "
        "coverage and Gini 95 % jackknife intervals. A difference is Kindling less the baseline that is best on that "
        "figure, over the same resamples. What slices and metrics are: docs/metrics.md.",
    ]
    lines += [f"\nNot measured: {model} ({reason})." for model, reason in evaluation["absent"].items()]
    for which in ("test", "validation"):
        lines += ["", f"## {which}", *differences(evaluation, which)]
        for metric in ("recall", "ndcg"):
            lines += models_table(evaluation, which, f"{metric}@{evaluation['k']}")
    lines += ["", f"## Beyond accuracy, test, all items, k = {evaluation['k']}", *beyond(evaluation)]
    spent = ", ".join(f"{k} {v:.1f}" for k, v in seconds.items())
    return "\n".join([*lines, "", f"Seconds: {spent}."]) + "\n"


def measured(evaluation: dict[str, Any], which: str) -> list[str]:
    """Slices with users."""
    return [s for s, n in evaluation["users"][which].items() if n]


def differences(evaluation: dict[str, Any], which: str) -> list[str]:
    """Kindling against the best baseline of each slice."""
    k = evaluation["k"]
    lines = [
        "",
        "| slice (users) | metric | Kindling | best baseline | difference |",
        "|---|---|---|---|---|",
    ]
    for s in measured(evaluation, which):
        for metric in (f"recall@{k}", f"ndcg@{k}"):
            found = evaluation["differences"][which][s][metric]
            ours = cell(evaluation, which, "kindling", s, metric)
            theirs = f"{found['baseline']} {evaluation[which][found['baseline']][s][metric]:.4f}"
            low, high = found.get("interval", (float("nan"),) * 2)
            difference = f"{found['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
            difference = f"**{difference}**" if low > 0 else difference
            lines.append(
                f"| {s} ({evaluation['users'][which][s]}) | {metric} | {ours} | {theirs} | {difference} |"
            )
    return lines


def models_table(evaluation: dict[str, Any], which: str, metric: str) -> list[str]:
    """Every model on every slice."""
    slices = measured(evaluation, which)
    lines = ["", f"| {metric} | " + " | ".join(slices) + " |", "|" + "---|" * (len(slices) + 1)]
    for model in evaluation["models"]:
        lines.append(
            f"| {model} | " + " | ".join(cell(evaluation, which, model, s, metric) for s in slices) + " |"
        )
    return lines


def beyond(evaluation: dict[str, Any]) -> list[str]:
    """Coverage, novelty and the like of every model."""
    names = [f"{b}@{evaluation['k']}" for b in BEYOND]
    lines = ["", "| model | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for model in evaluation["models"]:
        lines.append(
            f"| {model} | " + " | ".join(cell(evaluation, "test", model, "all", n) for n in names) + " |"
        )
    return lines


def cell(evaluation: dict[str, Any], which: str, model: str, slice_name: str, metric: str) -> str:
    """A figure with its interval."""
    value = evaluation[which][model][slice_name][metric]
    bounds = evaluation["intervals"][which][model][slice_name].get(metric)
    if value is None:
        return "–"
    return f"{value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")


def circumstances() -> str:
    """Date, hardware and commit of a measurement."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}, commit {commit}."


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
