"""ALS: time and CPU seconds of a pass, loss per second, shards on Ray and peak memory, beside implicit and irspack.

    python benchmarks/als.py [--quick] [--factors 64 128 256] [--ray] [--out FILE]

A generated catalogue: tastes and kinds of items in 24 dimensions, Zipf items, log-normal users; texts of 384 dimensions
that are a noisy linear image of the kinds, so that they predict a part of behaviour. Every competitor makes its passes
over users and items in turn with the others, in this process, on as many threads. Losses are computed between passes
and not counted. On a busy machine trust CPU seconds: they are of the whole process and hardly grow when it waits.

- The common objective: confidences 1 + alpha, one lam for all rows, no text. `implicit.cpu.als.calculate_loss` for all.
- Held out: Recall@20 of 2 % of the pairs, the training pairs masked.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from als_contenders import competitors, irspack, sides_of
from als_data import generate
from als_memory import memory_table
from als_race import limit, race, race_table
from als_ray import ray_table
from quality import circumstances


@contextmanager
def said(what: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    start = time.perf_counter()
    print(f"{what} ...", flush=True)
    yield
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Race, then Ray and memory where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="20,000 x 10,000, 1 M pairs, 64 factors, 4 passes"
    )
    parser.add_argument("--sizes", type=int, nargs=3, metavar=("USERS", "ITEMS", "PAIRS"))
    parser.add_argument("--factors", type=int, nargs="+")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-slow", action="store_true", help="leave the exact solvers out")
    parser.add_argument("--ray", action="store_true", help="tasks on Ray beside threads")
    parser.add_argument("--memory", action="store_true", help="peak memory beside its formula")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.sizes is None:
        options.sizes = (20_000, 10_000, 1_000_000) if options.quick else (100_000, 50_000, 5_000_000)
    options.factors = options.factors or ([64] if options.quick else [64, 128, 256])
    options.passes = options.passes or (4 if options.quick else 6)
    load, lines = os.getloadavg()[0], []
    for section in sections(options):
        print("\n".join(section), flush=True)
        lines += section
        if options.out:  # section by section: what was measured is kept if the next one fails
            options.out.write_text("\n".join([*head(options, load), *lines]), encoding="utf-8")


def sections(options: argparse.Namespace) -> Iterator[list[str]]:
    """The page's parts as they are measured."""
    with said("data"):
        data = generate(*options.sizes)
        sides = sides_of(data, options.threads)
    if irspack is None:
        yield ["irspack is not installed (`pip install kindling[bench]`): it takes no part.", ""]
    for n_factors in options.factors:
        rivals = competitors(data, sides, n_factors, options.threads)
        if options.no_slow:
            rivals = {name: rival for name, rival in rivals.items() if "exact" not in name}
        courses = race(rivals, data, options.passes, options.threads)
        yield [*race_table(n_factors, courses), limit(data, n_factors, courses), ""]
        del rivals
    if options.ray:
        yield ["## Shards on Ray", "", *ray_table(sides, options.factors[0], options.threads, options.passes)]
    if options.memory:
        yield ["## Memory", "", *memory_table(options.sizes, options.factors, options.threads)]


def head(options: argparse.Namespace, load: float) -> list[str]:
    """What was measured, where and how."""
    command = "python benchmarks/als.py " + " ".join(
        a for a in sys.argv[1:] if a not in ("--out", str(options.out))
    )
    n_users, n_items, n_pairs = options.sizes
    return [
        "# ALS on CPU", "", circumstances(), "",
        f"Command: `{command.strip()}`. {n_users:,} users, {n_items:,} items, {n_pairs:,} pairs, 2 % held out; "
        f"{options.threads} threads; load average {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end.",
        "",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
