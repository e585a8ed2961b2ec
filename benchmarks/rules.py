"""What business rules cost a list: the ranking with and without them, by screening and from a graph of neighbours.

    python benchmarks/rules.py [--items 100000] [--users 200] [--quick] [--out FILE.md]

Vectors are those of benchmarks/ranking.py, metadata is drawn. Each request is what the service does between the user's
vector and the list: unit, additions, ranking, caps and pins, once more with a longer ranking where it was too short.
Lists are compared with those of scoring every item (the share of items they have in common).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from quality import circumstances
from ranking import make_users, make_vectors
from threadpoolctl import threadpool_limits

from pipelines.core.arrange import arrange
from pipelines.core.index import ApproximateRanker, build_index
from pipelines.core.ranking import ExactRanker, Ranker, Wanted
from pipelines.core.sections.rules import RulesConfig
from serving.catalogue import Catalogue, Items
from serving.rules import Ruled, Ruling

FloatArray = npt.NDArray[np.float32]
N, WIDTH = 20, 192
NOW = 1_780_000_000.0
_CAPPED_DEPTH, _DEEPER = 4, 4
"""As serving/recommender.py has them."""
BOOST = {
    "boost": [{"name": "own brand", "when": {"brand": "brand 1"}, "amount": 0.5}],
    "bury": [{"name": "outlet", "when": {"categories": ["category 2", "category 3"]}, "amount": 1.0}],
}
FRESH = {"freshness": {"column": "created_at", "half_life_days": 30, "amount": 0.5}}
CAP = {
    "cap": [{"column": "brand", "most": 2, "within": 20}],
    "pin": [{"item_id": "7", "place": 1}, {"item_id": "8", "place": 5}],
}
RULES: dict[str, dict[str, object]] = {
    "none": {},
    "stock": {"stock": "in_stock"},
    "boost, bury": BOOST,
    "boost, bury, freshness": BOOST | FRESH,
    "cap, pins": CAP,
    "all": BOOST | FRESH | CAP | {"stock": "in_stock"},
}


@dataclass(frozen=True)
class Row:
    """One set of rules on one ranker; times in milliseconds."""

    ranker: str
    rules: str
    p50: float
    p99: float
    in_common: float
    looked_up: float


def main() -> None:
    """Measure, print a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the metadata")
    parser.add_argument("--quick", action="store_true", help="20,000 items and 40 users")
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    if options.quick:
        options.items, options.users = 20_000, 40
    threadpool_limits(1, "blas")  # as a replica has it
    vectors = make_vectors(options.items, WIDTH)
    users = make_users(vectors, options.users)
    table = make_table(options.items, np.random.default_rng(options.seed))
    rankers: dict[str, Ranker] = {
        "exact": ExactRanker(vectors, 1),
        "graph": ApproximateRanker(vectors, build_index(vectors, 1)),
    }
    rows = [
        measure(name, ranker, rules, vectors, table, users)
        for name, ranker in rankers.items()
        for rules in RULES
    ]
    share = table.column("brand").to_pylist().count("brand 1") / options.items
    page = render(options, share, rows)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def make_table(n: int, rng: np.random.Generator) -> pa.Table:
    """Brands and categories by Zipf's law, dates over two years, nine of ten in stock."""
    brands, first, second = (np.minimum(rng.zipf(1.3, n), 2000) for _ in range(3))
    return pa.table(
        {
            "item_id": [str(row) for row in range(n)],
            "text": [""] * n,
            "brand": [f"brand {b}" for b in brands],
            "categories": [[f"category {a}", f"category {b}"] for a, b in zip(first, second, strict=True)],
            "created_at": NOW - rng.uniform(0, 730 * 86_400, n),
            "in_stock": rng.random(n) < 0.9,
            "is_hidden": [False] * n,
            "n_interactions": np.ones(n, dtype=np.int64),
            "n_wanted": np.ones(n, dtype=np.int64),
        }
    )


def measure(
    name: str, ranker: Ranker, rules: str, vectors: FloatArray, table: pa.Table, users: FloatArray
) -> Row:
    """One list for each user, and the same by scoring every item."""
    empty = np.zeros((len(vectors), 0), dtype=np.float32)
    items = Items(table, empty, empty, vectors, np.zeros(len(vectors), dtype=np.float32))
    catalogue = Catalogue.of(items, ranker)
    started = time.perf_counter()
    ruling = Ruling(RulesConfig.model_validate(RULES[rules]), [], lambda: NOW)
    if (found := ruling.over(catalogue)) is not None:
        found.raised()
    looked_up = time.perf_counter() - started
    seconds, shares = [], []
    ask(ruling, catalogue, users[0])
    for user in users:
        started = time.perf_counter()
        answer = ask(ruling, catalogue, user)
        seconds.append(time.perf_counter() - started)
        shares.append(len(set(answer) & set(slowly(ruling, catalogue, user))) / len(answer))
    return Row(
        name,
        rules,
        1e3 * statistics.median(seconds),
        1e3 * float(np.quantile(seconds, 0.99)),
        float(np.mean(shares)),
        1e3 * looked_up,
    )


def ruled_wanted(ruling: Ruling, catalogue: Catalogue, user: FloatArray) -> tuple[Ruled, Wanted]:
    """What is asked of the ranker."""
    ruled, allowed, left_out = Ruled(), None, np.zeros(0, dtype=np.int64)
    rules = ruling.over(catalogue)
    if rules is not None:
        ruled, allowed, left_out = ruling.rule(rules, user, allowed, left_out, whole=False)
    depth = N * (_CAPPED_DEPTH if ruled.caps else 1)
    return ruled, Wanted(user, depth, allowed, left_out, ruled.additions, ruled.unit)


def ask(ruling: Ruling, catalogue: Catalogue, user: FloatArray) -> list[int]:
    """The list as it is served."""
    ruled, wanted = ruled_wanted(ruling, catalogue, user)
    while True:
        (best,) = catalogue.best([wanted])
        if not ruled.caps and not ruled.pins:
            return [int(row) for row in best.rows]
        is_all = len(best.rows) < wanted.n
        found = arrange(best.rows.tolist(), N, ruled.caps, ruled.pins, is_all=is_all)
        if found is not None:
            return found
        wanted = Wanted(
            user, _DEEPER * wanted.n, wanted.allowed, wanted.left_out, wanted.additions, wanted.unit
        )


def slowly(ruling: Ruling, catalogue: Catalogue, user: FloatArray) -> list[int]:
    """The list by scoring every item."""
    ruled, wanted = ruled_wanted(ruling, catalogue, user)
    scores = catalogue.bundle.vectors @ user
    if wanted.additions is not None:
        scores += np.float32(wanted.unit) * wanted.additions.values
    may = np.ones(len(scores), dtype=bool) if wanted.allowed is None else wanted.allowed.copy()
    may[wanted.left_out] = False
    order = np.argsort(-scores, kind="stable")
    ranking: Sequence[int] = order[may[order]].tolist()
    return arrange(ranking, N, ruled.caps, ruled.pins, is_all=True) or []


def render(options: argparse.Namespace, share: float, rows: Sequence[Row]) -> str:
    """The page."""
    arguments = f"--items {options.items} --users {options.users} --seed {options.seed}"
    lines = [
        "# What business rules cost a list",
        "",
        circumstances(),
        "",
        f"    python benchmarks/rules.py {arguments}",
        "",
        f"{options.items:,} items of {WIDTH} columns, {options.users} users one after the other, lists of {N}, one",
        "thread. Between the user's vector and the list; neither the encoder nor HTTP. Brands follow Zipf's law (the",
        f"raised one has {share:.0%} of the items). The machine was busy: differences of a millisecond say nothing.",
        "",
        "| ranker | rules | p50 ms | p99 ms | list as by scoring every item | rules looked up, ms |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r.ranker} | {r.rules} | {r.p50:.2f} | {r.p99:.2f} | {r.in_common:.2%} | {r.looked_up:.0f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
