"""Contrastive fine-tuning on a GPU: the largest batch that fits, examples and tokens a second, how busy the GPU is.

    python benchmarks/finetuning_gpu.py [--data DIR | --items N] [--model NAME] [--batch N] [--steps N] [--out FILE]

Batches are doubled from --batch on until memory or the examples are at their end; at each size the loop of
pipelines/core/finetune runs 2 steps to warm up and --steps that count, in bfloat16 with weights in single precision.
Tokens are those computed: a text that occurs twice in a batch counts once. Of the product's FLOP/s: three times the
forward pass over those tokens, over those of a large bfloat16 product on the same GPU. Needs no Ray.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from embedding import MATRIX, matmul_flops, model_flops
from finetuning import Pairs, Unmeasured, settings_of
from quality import circumstances

from pipelines.core.config import EncoderConfig
from pipelines.core.encoder import PACKAGED, load_pretrained
from pipelines.core.finetune.loop import Training
from pipelines.core.finetune.network import Learner, TextNetwork
from pipelines.core.finetune.parallel import Workers
from pipelines.core.finetune.trainable import set_dropout

WARM = 2


@dataclass(frozen=True)
class Speed:
    """Of one size of batch: seconds of a step, lengths of the texts computed in it, most memory in GB."""

    seconds: float
    lengths: np.ndarray
    gigabytes: float


class Clock:
    """Notes when each step ended."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.ends: list[float] = []

    def on_step(self, step: int, loss: float) -> None:  # noqa: ARG002 - of Watch; the loss was waited for
        """Now."""
        self.ends.append(time.perf_counter())

    def on_validation(self, point: object, state: object) -> None:
        """Nothing."""


def attempt(pairs: Pairs, options: argparse.Namespace, batch: int) -> Speed | None:
    """Train with one size of batch; None where it does not fit."""
    sized = argparse.Namespace(**{**vars(options), "batch": batch})
    steps = WARM + options.steps
    settings = settings_of(sized, steps=steps, evaluate_every=steps)
    _, model = load_pretrained(EncoderConfig(model=options.model), "float32")
    set_dropout(model, 0.0)
    network = TextNetwork(model.to(options.device), "mean", pairs.tokenizer.pad_token_id or 0)
    made = pairs.objective(settings)
    objective = Unmeasured(made.items, made.template, made.popularity, None, settings)
    learner, clock = Learner(network, torch.nn.Identity()), Clock()
    order = pairs.order(settings)

    def rows_from(first: int) -> Iterator[pa.Table]:
        return pairs.batches(settings, first)

    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        Training(learner, objective, settings, order, pairs.rows.slice(0, 1), Workers(), clock).run(rows_from)
    except torch.cuda.OutOfMemoryError:
        return None
    memory = torch.cuda.max_memory_allocated() / 1e9 if options.device == "cuda" else float("nan")
    prepared = objective.prepare(next(rows_from(0)), None)
    lengths = np.array([len(s) for s in {tuple(s) for s in prepared.sequences}])
    return Speed((clock.ends[-1] - clock.ends[WARM - 1]) / options.steps, lengths, memory)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with items and interactions; else generated")
    parser.add_argument("--items", type=int, help="of the generated data; 50,000, on a CPU 2,000")
    parser.add_argument("--model", default=PACKAGED)
    parser.add_argument("--batch", type=int, default=256, help="the first size")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sizes", type=int, default=12, help="at most so many")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu shows that it runs")
    options.items = options.items or (50_000 if options.device == "cuda" else 2000)
    pairs = Pairs(options, n_items=options.items)
    found: dict[int, Speed] = {}
    batch = options.batch
    while len(found) < options.sizes and batch <= len(pairs.rows):
        speed = attempt(pairs, options, batch)
        if speed is None:
            break
        found[batch] = speed
        print(f"{batch}: {batch / speed.seconds:.0f} examples/s, {speed.gigabytes:.1f} GB", flush=True)
        batch *= 2
    page = "\n".join(_page(options, found, len(pairs.rows))) + "\n"
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def _page(options: argparse.Namespace, found: dict[int, Speed], n_rows: int) -> list[str]:
    peak = matmul_flops(options.device)[0]
    where = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    data = "--data DIR " if options.data else f"--items {options.items} "
    lines = [
        "# Fine-tuning on a GPU", "", f"{circumstances()} {where}.", "",
        f"Command: `python benchmarks/finetuning_gpu.py {data}--model {options.model} --batch {options.batch} --sizes "
        f"{options.sizes} --steps {options.steps} --max-tokens {options.max_tokens} --device {options.device}`. "
        f"{n_rows} examples of two texts. A product of {MATRIX[options.device]} squared in bfloat16: "
        f"{peak / 1e12:.2f} TFLOP/s.", "",
        "| batch | examples/s | tokens/s | step, s | memory, GB | of the product's FLOP/s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for batch, speed in found.items():
        work = 3 * model_flops(speed.lengths, options.model)
        lines.append(
            f"| {batch} | {batch / speed.seconds:.0f} | {speed.lengths.sum() / speed.seconds:.0f} | "
            f"{speed.seconds:.3f} | {speed.gigabytes:.1f} | {work / speed.seconds / peak:.0%} |"
        )
    return lines


if __name__ == "__main__":
    main()
