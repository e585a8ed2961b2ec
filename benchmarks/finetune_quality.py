"""What contrastive fine-tuning of the encoder brings: the same build with and without it, user by user.

    python benchmarks/finetune_quality.py NAME --data DIR --config FILE.toml [--settings JSON] [--out DIR] [--quick]

FILE.toml is a build's configuration; --settings are those of its [finetune], for example '{"learning_rate": 1e-4}',
chosen on validation. Content only: candidates ranked by cosine with the user's text profile, nothing learnt from
behaviour but the encoder. Full: the whole model. A difference is with less without, over the same users; in brackets
95 % bootstrap intervals. --quick: 20 steps, to see that it runs. Builds in --out are reused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from quality import ROOT, circumstances

from pipelines.compare import load_measured
from pipelines.core.baselines import fit_baseline
from pipelines.core.baselines.settings import baseline_settings
from pipelines.core.comparison import compare
from pipelines.core.config import Config, load_config, parse_config, to_toml
from pipelines.core.intervals import bootstrap_means, percentile_interval
from pipelines.core.layout import HELD_OUT, Layout
from pipelines.core.measure import measure
from pipelines.core.slices import KNOWN_SLICES, ask, load_slices, load_training
from pipelines.core.storage import read_json

DoubleArray = npt.NDArray[np.float64]
K = 20
METRICS = (f"recall@{K}", f"ndcg@{K}")
WITHOUT, WITH = "without", "with"
SHOWN = (
    "steps", "batch_size", "max_tokens", "learning_rate", "layer_decay", "train", "temperature", "history_share",
    "popularity_correction", "hard_negatives", "validation_rows", "evaluate_every",
)  # fmt: skip


def main() -> None:
    """Build twice, compare, write benchmarks/results/finetuning_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={}, help="of [finetune], as JSON")
    parser.add_argument("--out", type=Path, help="folder of the two builds, kept; default a temporary one")
    parser.add_argument("--quick", action="store_true", help="20 steps; writes no page")
    options = parser.parse_args()
    settings = {"objective": "contrastive", **options.settings}
    if options.quick:
        settings |= {"steps": 20, "evaluate_every": 20, "validation_rows": 300}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        configs = {
            n: _build(n, options, settings if n == WITH else {"objective": "none"}, out)
            for n in (WITHOUT, WITH)
        }
        page = render(options, configs, out, load_before)
    print(page)
    if not options.quick:
        target = ROOT / "benchmarks" / "results" / f"finetuning_{options.name}.md"
        target.write_text(page, encoding="utf-8")


def _build(name: str, options: argparse.Namespace, settings: dict[str, Any], out: Path) -> Config:
    raw = load_config(options.config).model_dump(mode="json", exclude_unset=True)
    raw["finetune"] = settings
    raw["evaluate"] = {**raw.get("evaluate", {}), "baselines": ["content"]}
    config = parse_config(raw, str(options.config))
    path = out / f"{name}.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    command = ["build", "--data", options.data, "--out", str(out / name), "--config", str(path)]
    subprocess.run([str(Path(sys.executable).parent / "kindling"), *command], check=True)
    return config


def render(options: argparse.Namespace, configs: dict[str, Config], out: Path, load_before: float) -> str:
    """The page."""
    report = read_json(Layout(out / WITH).finetune_report)
    settings = configs[WITH].finetune
    extra = f" --settings '{json.dumps(options.settings)}'" if options.settings else ""
    lines = [
        f"# Contrastive fine-tuning: {options.name}", "", circumstances(), "",
        f"Command: `python benchmarks/finetune_quality.py {options.name} --data DIR --config {options.config}{extra}`. "
        f"Load of the machine at the start: {load_before:.1f}.", "",
        "Settings: " + ", ".join(f"{name} = {getattr(settings, name)}" for name in SHOWN) + ".", "",
        "Without: the encoder as it is. With: the same one, taught on training pairs; all other settings are the same, "
        "and were chosen for the build without. Means over users; a difference is with less without, user by user, in "
        "brackets its 95 % bootstrap interval.",
    ]  # fmt: skip
    for which in reversed(HELD_OUT):
        lines += [
            "",
            f"## {which}",
            "",
            "| model | slice (users) | metric | without | with | difference |",
            "|---|---|---|---|---|---|",
        ]
        lines += [*_content_rows(configs, out, which), *_full_rows(out, which)]
    return "\n".join([*lines, "", "## The training", "", *_training_lines(report)]) + "\n"


def _full_rows(out: Path, which: str) -> Iterator[str]:
    found = compare(load_measured(out / WITHOUT, WITHOUT), load_measured(out / WITH, WITH))
    for name in (name for name in KNOWN_SLICES if name in found[which]):
        for metric in METRICS:
            figure = found[which][name][metric]
            yield _row(
                "full",
                f"{name} ({found['users'][which][name]})",
                metric,
                figure["a"],
                figure["b"],
                figure["interval"],
            )


def _content_rows(configs: dict[str, Config], out: Path, which: str) -> Iterator[str]:
    values = {name: content_figures(configs[name], Layout(out / name), which) for name in (WITHOUT, WITH)}
    evaluate = configs[WITH].evaluate
    for name, (users, per_metric) in values[WITH].items():
        other_users, other = values[WITHOUT][name]
        if not np.array_equal(users, other_users):
            raise SystemExit(f"the builds in {out} ask different users; delete them and run again")
        for metric in METRICS:
            a, b = other[metric], per_metric[metric]
            means = bootstrap_means((b - a)[:, None], evaluate.bootstrap, evaluate.seed)
            interval = percentile_interval(means[:, 0])
            yield _row("content only", f"{name} ({len(a)})", metric, a.mean(), b.mean(), interval)


def content_figures(
    config: Config, layout: Layout, which: str
) -> dict[str, tuple[npt.NDArray[np.int64], dict[str, DoubleArray]]]:
    """Slice to its users and what ranking by text alone reaches for each of them."""
    scorer = fit_baseline("content", load_training(layout, "train"), baseline_settings(config), 0)
    slices = load_slices(layout, which, config.evaluate.max_users)  # type: ignore[arg-type]
    parts = {name: slices[name] for name in KNOWN_SLICES if len(slices[name].users)}
    results = {name: measure(scorer, part, ask(layout, part), (K,)) for name, part in parts.items()}
    return {name: (result.users, result.values) for name, result in results.items()}


def _row(model: str, part: str, metric: str, a: float, b: float, interval: Any) -> str:  # noqa: ANN401 - from JSON
    text = f"{b - a:+.4f}"
    if interval is not None:
        text += f" [{interval[0]:+.4f}, {interval[1]:+.4f}]"
        text = f"**{text}**" if interval[0] > 0 else text
    return f"| {model} | {part} | {metric} | {a:.4f} | {b:.4f} | {text} |"


def _training_lines(report: dict[str, Any]) -> list[str]:
    curve = report["curve"]
    names = sorted({name for point in curve for name in point["figures"]})
    lines = [
        f"{report['steps']} steps, the best at {report['best_step']} by {report['metric']} of validation; at best "
        f"{report['examples_per_second']:.0f} examples/s. What forgetting, agreement and anisotropy are: "
        "pipelines/core/finetune/forgetting.py.", "",
        "| step | training loss | examples/s | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 3),
    ]  # fmt: skip
    for point in curve:
        loss = "–" if point["loss"] is None or point["step"] == 0 else f"{point['loss']:.3f}"
        rate = f"{point['rate']:.0f}" if point["step"] else "–"
        figures = " | ".join(f"{point['figures'].get(name, float('nan')):.4f}" for name in names)
        lines.append(f"| {point['step']} | {loss} | {rate} | {figures} |")
    return lines


if __name__ == "__main__":
    main()
