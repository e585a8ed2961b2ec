"""Exact ranking against a graph of neighbours: time, recall, memory, and where one should take over from the other.

    python benchmarks/ranking.py [--items 100000 1000000] [--width 192] [--quick] [--out FILE.md]

Vectors are generated: topics in 48 dimensions spread over all columns, noise of half their length, lengths that follow
popularity; users are means of a few items and noise. Random numbers without such structure have no neighbours to
speak of, and no index finds them. Single precision through BLAS, the screened exact ranker and the graph are asked in
turns, for one user and for 16 at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from quality import circumstances
from threadpoolctl import threadpool_limits

from pipelines.core.index import ApproximateRanker, build_index
from pipelines.core.ranking import ExactRanker, Ranked, Ranker, Wanted
from pipelines.core.screening import find_narrow

FloatArray = npt.NDArray[np.float32]
NOTHING = np.zeros(0, dtype=np.int64)
K = 20


@dataclass(frozen=True)
class Row:
    """One ranker on one matrix."""

    name: str
    p50: float
    p99: float
    batched: float
    recall: float
    build_seconds: float
    megabytes: float


def main() -> None:
    """Measure each size, print a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--width", type=int, nargs="+", default=[192])
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument(
        "--no-graph",
        dest="graph",
        action="store_false",
        help="exact only: a graph of 1,000,000 items takes minutes",
    )
    parser.add_argument("--quick", action="store_true", help="20,000 items and 50 users")
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    if options.quick:
        options.items, options.users = [20_000], 50
    sections = []
    for width in options.width:
        for n_items in options.items:
            sections.append(measure(n_items, width, options.users, options.graph))
            print(sections[-1], flush=True)
            if options.out:  # after each, for the last one may take long
                options.out.write_text(render(options, sections), encoding="utf-8")


def measure(n_items: int, width: int, n_users: int, with_graph: bool) -> str:
    """The section of one matrix."""
    threads = os.cpu_count() or 1
    vectors = make_vectors(n_items, width)
    users = make_users(vectors, n_users)
    plain = [Wanted(user, K, None, NOTHING) for user in users]
    rng = np.random.default_rng(2)
    condition = rng.random(n_items) < 0.1
    filtered = [Wanted(user, K, condition, NOTHING) for user in users]
    rows: list[Row] = []

    memory = psutil.Process().memory_info
    rankers: dict[str, Callable[[Sequence[Wanted]], list[Ranked]]] = {}
    costs = {"float32, BLAS": (0.0, 0.0)}
    makers: dict[str, Callable[[], Ranker]] = {
        "exact, screened in 8 bits": lambda: ExactRanker(vectors, threads)
    }
    if with_graph:
        makers["graph, 8 bits"] = lambda: ApproximateRanker(vectors, build_index(vectors, threads))
    for name, make in makers.items():
        before, begun = memory().rss, time.perf_counter()
        rankers[name] = make().best
        costs[name] = time.perf_counter() - begun, (memory().rss - before) / 1e6

    def through_blas(wanted: Sequence[Wanted]) -> list[Ranked]:
        scores = np.stack([w.user for w in wanted]) @ vectors.T
        found = []
        for w, s in zip(wanted, scores, strict=True):
            if w.allowed is not None:
                s[~w.allowed] = -np.inf
            best = np.argpartition(s, len(s) - w.n)[len(s) - w.n :]
            best = best[np.argsort(-s[best])]
            found.append(Ranked(best, s[best]))
        return found

    # through all of them in turns, a few users at a time, so that what else the machine does meets them alike
    rankers = {"float32, BLAS": through_blas} | rankers
    spent: dict[str, list[list[float]]] = {name: [[], []] for name in rankers}
    answers: dict[str, list[Ranked]] = {name: [] for name in rankers}
    for start in range(0, n_users - 16, 16):
        for name, best in rankers.items():
            with threadpool_limits(threads if best is through_blas else 1, "blas"):
                for w in plain[start : start + 16]:
                    begun = time.perf_counter()
                    answers[name] += best([w])
                    spent[name][0].append(1e3 * (time.perf_counter() - begun))
                begun = time.perf_counter()
                best(plain[start : start + 16])
                spent[name][1].append(1e3 * (time.perf_counter() - begun) / 16)
    for name, (alone, batched) in spent.items():
        rows.append(
            Row(
                name, statistics.median(alone), float(np.quantile(alone, 0.99)), statistics.median(batched),
                recall(answers[name], answers["float32, BLAS"]), *costs[name],
            )
        )  # fmt: skip
    narrow = find_narrow(vectors)
    columns = width if narrow is None else narrow.shorten(vectors[:1]).shape[1]
    text = section(vectors, columns, rows)
    return text + filtering(rankers, filtered, condition) if with_graph else text


def make_vectors(n_items: int, width: int) -> FloatArray:
    """(n_items, width)."""
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((48, width), dtype=np.float32) / np.sqrt(48)
    topics = rng.standard_normal((3000, 48), dtype=np.float32)
    popularity = rng.pareto(1.2, n_items)
    vectors = np.empty((n_items, width), dtype=np.float32)
    for a in range(0, n_items, 50_000):
        b = min(a + 50_000, n_items)
        latent = topics[rng.integers(0, 3000, b - a)] + 0.7 * rng.standard_normal(
            (b - a, 48), dtype=np.float32
        )
        rows = latent @ spread + 0.5 * rng.standard_normal((b - a, width), dtype=np.float32)
        lengths = (0.5 + 0.3 * np.log1p(popularity[a:b])).astype(np.float32)
        vectors[a:b] = rows / np.linalg.norm(rows, axis=1, keepdims=True) * lengths[:, None]
    return vectors


def make_users(vectors: FloatArray, n_users: int) -> FloatArray:
    """(n_users, width): five items each, and noise."""
    rng = np.random.default_rng(1)
    liked = vectors[rng.integers(0, len(vectors), (n_users, 5))].mean(axis=1)
    noise = rng.standard_normal(liked.shape, dtype=np.float32)
    noise *= 0.3 * np.linalg.norm(liked, axis=1, keepdims=True) / np.sqrt(liked.shape[1])
    return np.asarray(liked + noise, dtype=np.float32)


def recall(found: Sequence[Ranked], wanted: Sequence[Ranked]) -> float:
    """Share of the K best that were found."""
    return float(
        np.mean([len(np.intersect1d(f.rows, w.rows)) / K for f, w in zip(found, wanted, strict=True)])
    )


def filtering(
    rankers: dict[str, Callable[[Sequence[Wanted]], list[Ranked]]],
    filtered: Sequence[Wanted],
    condition: npt.NDArray[np.bool_],
) -> str:
    """What a filter that a tenth of the items meets costs the graph."""
    begun = time.perf_counter()
    found = rankers["graph, 8 bits"](filtered[:50])
    filter_ms = 1e3 * (time.perf_counter() - begun) / 50
    wanted = rankers["exact, screened in 8 bits"](filtered[:50])
    if not all(condition[r.rows].all() and len(r.rows) == K for r in found):
        raise RuntimeError("an answer does not meet its filter")
    return (
        f"With a filter that a tenth of the items meets the graph's recall is {recall(found, wanted):.4f}, "
        f"{filter_ms:.1f} ms a user; every answer met it.\n"
    )


def section(vectors: FloatArray, columns: int, rows: Sequence[Row]) -> str:
    """Table and remarks."""
    n_items, width = vectors.shape
    bandwidth = read_speed(vectors)
    lines = [
        f"## {n_items:,} items, {width} columns ({vectors.nbytes / 1e6:,.0f} MB in single precision)",
        "",
        f"| ranker | p50 ms | p99 ms | ms a user, 16 at once | recall@{K} | build s | MB beside the vectors |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.p50:.2f} | {r.p99:.2f} | {r.batched:.2f} | {r.recall:.4f} | {r.build_seconds:.1f} | "
        f"{r.megabytes:,.0f} |"
        for r in rows
    ]
    limit = n_items * columns / bandwidth / 1e6
    lines += [
        "",
        f"The screen reads {columns} columns. One thread reads {bandwidth:.1f} GB/s here, all codes of these once in "
        f"{limit:.2f} ms: the screened ranker "
        f"takes {rows[1].p50 / limit:.1f} times that. It is {rows[0].p50 / rows[1].p50:.1f} times as fast as BLAS for "
        f"one user and {rows[0].batched / rows[1].batched:.1f} times for 16.",
    ]
    if len(rows) > 2:
        lines[-1] += (
            f" The graph is {rows[1].p50 / rows[2].p50:.1f} and {rows[1].batched / rows[2].batched:.1f} times as fast "
            "as the screened ranker."
        )
    return "\n".join(lines) + "\n"


def read_speed(vectors: FloatArray) -> float:
    """GB/s of one thread that sums the vectors."""
    spent = []
    for _ in range(3):
        begun = time.perf_counter()
        vectors.sum()
        spent.append(time.perf_counter() - begun)
    return vectors.nbytes / min(spent) / 1e9


def render(options: argparse.Namespace, sections: Sequence[str]) -> str:
    """The page."""
    sizes = " ".join(map(str, options.items))
    widths = " ".join(map(str, options.width))
    head = [
        "# Ranking on CPU",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/ranking.py --items {sizes} --width {widths} --users {options.users}"
        f"{'' if options.graph else ' --no-graph'}`, all CPUs; "
        f"load average at the end {os.getloadavg()[0]:.1f}.",
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(sections)


if __name__ == "__main__":
    main()
