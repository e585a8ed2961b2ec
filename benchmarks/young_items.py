"""What an item's first clicks are worth to a request, which folds them in, and to a build, which fits on them.

    python benchmarks/young_items.py [--seeds 3] [--out FILE.md]

The generated shops of `exploration.py`: a quarter of the items has never been shown. Visitors find items by their own
taste, new ones among them. Then everybody is asked again: what are ten items that they have not clicked on worth, in
expected clicks over those of the ten best? A request solves a new item's factor from its first clicks and weighs the
users' gramian, "everybody else did not want it", by w (docs/decisions/0023), in the service one over the mean number of
users of an item. A build weighs it by e, the share of the interactions since an item came (docs/decisions/0031); e = 1
is plain ALS, to which no item is young.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from exploration_world import Served, Size, World, make_world, publish, with_first_clicks
from quality import circumstances

from pipelines.core.model import asked_of
from serving.late import weight_of_others

DoubleArray = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
KNOWN, FINDS = 10, 4
"""Items that each visitor has from before, none of them new, and those that they click on."""
SHARES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""w."""
SIZE = Size(visitors=600)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    found = [measure(make_world(SIZE, seed), seed) for seed in range(options.seeds)]
    page = render(found, options.seeds)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def measure(world: World, seed: int) -> dict[str, tuple[float, float]]:
    """Way of placing new items to: worth of the lists, share of new items in them."""
    rng = np.random.default_rng([seed, 7])
    world = replace(world, pairs=add(world.pairs, draw_clicks(world, KNOWN, rng, ~world.is_new)))
    clicks = draw_clicks(world, FINDS, rng)
    built = publish(world)
    found = {"by their texts": worth(world, built, clicks)}
    for share in SHARES:
        late = with_first_clicks(world, built, rows_of(world, built, clicks), met(world, share))
        found[f"by a request, w = {share:g}"] = worth(world, late, clicks)
    own = weight_of_others(built.model.item_evidence)
    late = with_first_clicks(world, built, rows_of(world, built, clicks), met(world, own))
    found["by a request, w as the service has it"] = worth(world, late, clicks)
    for share in SHARES:
        rebuilt = publish(world, clicks, exposure=since_new(world, share))
        found[f"by a build, e = {share:g}"] = worth(world, rebuilt, clicks)
    share = clicks.nnz / (world.pairs.nnz + clicks.nnz)
    rebuilt = publish(world, clicks, exposure=since_new(world, share))
    found["by a build, e as it is"] = worth(world, rebuilt, clicks)
    best = np.argsort(-np.where(mine(world, clicks).toarray() > 0, 0.0, world.wants), axis=1)[:, : SIZE.n]
    found["the best lists"] = 1.0, float(world.is_new[best].mean())
    counts = np.diff(clicks.tocsc().indptr)[world.is_new]
    found["clicks of a new item, in the mean; items with none"] = (
        float(counts.mean()),
        float((counts == 0).mean()),
    )
    return found


def add(a: sp.csr_matrix, b: sp.csr_matrix) -> sp.csr_matrix:
    """Pairs of both, each once."""
    both = (a + b).tocsr()
    both.data[:] = 1.0
    both.sort_indices()
    return both


def draw_clicks(
    world: World, n: int, rng: np.random.Generator, among: npt.NDArray[np.bool_] | None = None
) -> sp.csr_matrix:
    """(U + V, I) of what visitors find by themselves, n items each."""
    chances = world.wants**2 if among is None else world.wants**2 * among
    chances /= chances.sum(axis=1, keepdims=True)
    n_visitors, n_items = world.wants.shape
    columns = np.stack([rng.choice(n_items, n, replace=False, p=row) for row in chances])
    rows = world.n_users + np.repeat(np.arange(n_visitors), n)
    values = np.ones(len(rows), dtype=np.float32)
    return sp.csr_matrix((values, (rows, columns.ravel())), (world.n_users + n_visitors, n_items))


def mine(world: World, clicks: sp.csr_matrix) -> sp.csr_matrix:
    """(V, I) of the visitors: what they did before, and the clicks."""
    return add(world.pairs, clicks)[world.n_users :]


def met(world: World, share: float) -> npt.NDArray[np.int64]:
    """(I,) users who are taken to have had a chance to see each item."""
    return np.full(world.wants.shape[1], round(share * world.n_users))


def rows_of(world: World, served: Served, clicks: sp.csr_matrix) -> dict[int, list[DoubleArray]]:
    """New item to the factors of who clicked on it, folded in as the version knows items."""
    theirs = mine(world, clicks)
    asked = asked_of(theirs, world.own_profiles[world.n_users :])
    factors = served.model.user_vectors(asked)[:, : served.model.factorize.n_factors].astype(np.float64)
    by_item = theirs.tocsc()
    new = np.flatnonzero(world.is_new & (np.diff(by_item.indptr) > 0))
    return {int(i): list(factors[by_item.indices[by_item.indptr[i] : by_item.indptr[i + 1]]]) for i in new}


def since_new(world: World, share: float) -> FloatArray:
    """(I,) e of new items as given, of all others 1."""
    return np.where(world.is_new, share, 1.0).astype(np.float32)


def worth(world: World, served: Served, clicks: sp.csr_matrix) -> tuple[float, float]:
    """Expected clicks of everybody's list over those of the best, in the mean; share of new items in lists."""
    theirs = mine(world, clicks)
    users = served.model.user_vectors(asked_of(theirs, world.own_profiles[world.n_users :]))
    seen = theirs.toarray() > 0
    top = np.argsort(-np.where(seen, -np.inf, users @ served.vectors.T), axis=1)[:, : SIZE.n]
    wants = np.where(seen, 0.0, world.wants)
    reached = (world.looks * np.take_along_axis(wants, top, axis=1)).sum(axis=1)
    best = (world.looks * -np.sort(-wants, axis=1)[:, : SIZE.n]).sum(axis=1)
    return float((reached / best).mean()), float(world.is_new[top].mean())


def render(found: list[Mapping[str, tuple[float, float]]], n_seeds: int) -> str:
    """The page as Markdown."""
    lines = [
        "# What an item's first clicks are worth", "", circumstances(), "",
        f"Command: `python benchmarks/young_items.py --seeds {n_seeds}`. {SIZE.items} items, a quarter of them new; "
        f"{SIZE.users} users with {SIZE.interactions} interactions; {SIZE.visitors} visitors with {KNOWN} interactions "
        f"from before and {FINDS} clicks. Means of {n_seeds} shops, and the spread between them.", "",
        "| new items are placed | lists are worth | new items in lists |", "|---|---|---|",
    ]  # fmt: skip
    for name in found[0]:
        pairs = np.array([one[name] for one in found])
        mean, spread = pairs.mean(axis=0), pairs.std(axis=0)
        lines.append(f"| {name} | {mean[0]:.3f} ± {spread[0]:.3f} | {mean[1]:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
