"""Smaller encoders for serving: what each costs in quality and brings in speed, in one table.

    python benchmarks/compression.py NAME --data DIR --config FILE.toml [--steps N] [--quick]

FILE.toml is a build's configuration; the encoder is changed, nothing else. The distilled encoder is taught once, to
keep its meaning in its first 192 and 96 numbers too. Quality is of the test slices; nothing was chosen by it. Speed:
all encoders take turns on the same texts, the best of three rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune_quality import content_figures
from quality import ROOT, circumstances

from pipelines.compare import load_measured
from pipelines.core.comparison import compare
from pipelines.core.config import Config, EncoderConfig, load_config, parse_config, to_toml
from pipelines.core.encoder import Encoder, load_pretrained
from pipelines.core.finetune.pruning import keep_layers
from pipelines.core.layout import Layout
from pipelines.core.schema import TEXT
from pipelines.core.tables import read_parts

METRICS = ("ndcg@20", "recall@20")
SLICES = ("cold", "warm", "all")
LAYERS, LENGTHS = 3, (192, 96)
N_TEXTS, N_QUERIES, ROUNDS = 600, 60, 3
BASE = "as it is"


@dataclass(frozen=True)
class Variant:
    """One encoder: what is different in the configuration, by section."""

    name: str
    changes: dict[str, dict[str, Any]]


@dataclass
class Found:
    """What a variant reached, and its encoder for the race."""

    measured: Any
    content: dict[str, tuple[Any, dict[str, Any]]]
    encoder: EncoderConfig


def variants(pruned: Path, steps: int) -> list[Variant]:
    """In the order of the table; those that are distilled follow one another, for they share their training."""
    distilled = {
        "objective": "distillation", "keep_layers": LAYERS, "matryoshka": LENGTHS, "steps": steps,
        "evaluate_every": max(steps // 4, 1), "learning_rate": 5e-4, "train": "all",
    }  # fmt: skip
    fewer = f"{LAYERS} layers"
    return [
        Variant(BASE, {}),
        Variant("8 bits", {"encoder": {"dtype": "int8"}}),
        Variant(f"first {LENGTHS[1]} numbers, not taught", {"encoder": {"dimensions": LENGTHS[1]}}),
        Variant(f"{fewer}, not taught", {"encoder": {"model": str(pruned)}}),
        Variant(f"{fewer}, distilled", {"finetune": distilled}),
        *(
            Variant(f"{fewer}, distilled, {n} numbers", {"finetune": distilled, "encoder": {"dimensions": n}})
            for n in LENGTHS
        ),
        Variant(
            f"{fewer}, distilled, {LENGTHS[0]} numbers, 8 bits",
            {"finetune": distilled, "encoder": {"dimensions": LENGTHS[0], "dtype": "int8"}},
        ),
    ]


def main() -> None:
    """Build once for each variant, race their encoders, write benchmarks/results/compression_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300, help="of the distillation")
    parser.add_argument("--quick", action="store_true", help="10 steps; writes no page")
    options = parser.parse_args()
    steps = 10 if options.quick else options.steps
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = {v.name: reach(v, options, folder) for v in variants(pruned_encoder(options, folder), steps)}
        speeds = race({name: f.encoder for name, f in found.items()}, texts_of(folder / "out"))
        page = render(options, steps, found, speeds, load_before)
    print(page)
    if not options.quick:
        (ROOT / "benchmarks" / "results" / f"compression_{options.name}.md").write_text(
            page, encoding="utf-8"
        )


def pruned_encoder(options: argparse.Namespace, folder: Path) -> Path:
    """The encoder with fewer layers and nothing else done to it."""
    tokenizer, model = load_pretrained(load_config(options.config).encoder, "float32")
    keep_layers(model, LAYERS)
    model.save_pretrained(folder / "pruned")
    tokenizer.save_pretrained(folder / "pruned")
    return folder / "pruned"


def reach(variant: Variant, options: argparse.Namespace, folder: Path) -> Found:
    """Build with a variant in the place of the one before, of which what is the same is reused."""
    raw = load_config(options.config).model_dump(mode="json", exclude_unset=True)
    for section, values in variant.changes.items():
        raw[section] = {**raw.get(section, {}), **values}
    raw["evaluate"] = {**raw.get("evaluate", {}), "baselines": ["content"]}
    config: Config = parse_config(raw, str(options.config))
    path, out = folder / "config.toml", folder / "out"
    path.write_text(to_toml(config), encoding="utf-8")
    command = [
        "build",
        "--data",
        options.data,
        "--out",
        str(out),
        "--config",
        str(path),
        "--until-stage",
        "evaluate",
    ]
    subprocess.run([str(Path(sys.executable).parent / "kindling"), *command], check=True)
    encoder = config.encoder
    if "finetune" in variant.changes:
        kept = folder / "distilled"
        shutil.copytree(Layout(out).tuned_encoder, kept, dirs_exist_ok=True)
        encoder = encoder.model_copy(update={"model": str(kept)})
    return Found(load_measured(out, variant.name), content_figures(config, Layout(out), "test"), encoder)


def texts_of(out: Path) -> list[str]:
    """Texts of items, the first ones that have any."""
    texts = read_parts(Layout(out).tables / "items", [TEXT]).column(0).to_pylist()
    return [text for text in texts if text][:N_TEXTS]


def race(configs: dict[str, EncoderConfig], texts: list[str]) -> dict[str, tuple[float, float, float]]:
    """Texts a second, milliseconds of one query (median), and MB of weights."""
    encoders = {name: Encoder(config, device="cpu") for name, config in configs.items()}
    best = dict.fromkeys(encoders, 0.0)
    waits: dict[str, list[float]] = {name: [] for name in encoders}
    queries = [text[:40] for text in texts[:N_QUERIES]]
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode(texts)
            best[name] = max(best[name], len(texts) / (time.perf_counter() - started))
            for query in queries:
                started = time.perf_counter()
                encoder.encode([query])
                waits[name].append(1e3 * (time.perf_counter() - started))
    return {n: (best[n], float(np.median(waits[n])), megabytes(e.model)) for n, e in encoders.items()}


def megabytes(model: torch.nn.Module) -> float:
    """Weights in memory; those of a rounded layer, which are no parameters, at a byte each."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if callable(weight):
            total += weight().numel()
    return total / 1e6


def render(
    options: argparse.Namespace,
    steps: int,
    found: dict[str, Found],
    speeds: dict[str, tuple[float, float, float]],
    load_before: float,
) -> str:
    """The page."""
    base = found[BASE]
    heads = ["encoder", "weights, MB", "texts/s", "one query, ms"]
    heads += [*(f"content only, {s}" for s in SLICES[:2]), *(f"full model, {s}" for s in SLICES)]
    lines = [
        f"# Smaller encoders: {options.name}", "", circumstances(), "",
        f"Command: `python benchmarks/compression.py {options.name} --data DIR --config {options.config} --steps "
        f"{options.steps}`. Load of the machine at the start: {load_before:.1f}.", "",
        f"The encoder alone is changed; all other settings were chosen for it as it is. Distilled: {steps} steps of "
        "128 of the catalogue's texts, taught by the whole encoder. Test slices, NDCG@20; in brackets the 95 % "
        "interval of the paired difference from the encoder as it is. Numbers: of a vector, before words are added.",
        "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads),
    ]  # fmt: skip
    rate = speeds[BASE][0]
    for name, one in found.items():
        fast, wait, size = speeds[name]
        cells = [name, f"{size:.0f}", f"{fast:.0f} ({fast / rate:.2f})", f"{wait:.1f}"]
        cells += [f"{one.content[s][1][METRICS[0]].mean():.4f}" for s in SLICES[:2]]
        differences = compare(base.measured, one.measured)["test"]
        for s in SLICES:
            figure = differences[s][METRICS[0]]
            low, high = figure["interval"]
            text = f"{figure['b']:.4f}"
            cells.append(text if name == BASE else f"{text} [{low:+.4f}, {high:+.4f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
