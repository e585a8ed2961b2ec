"""What comes next, by how long an item has been there: pairs that were not observed weighed by exposure, or all alike.

    python benchmarks/item_age.py [--seeds 3] [--out FILE.md]

Generated shops whose items arrive over eighteen months (`kindling data generate`). Everything up to a moment is learnt
from, and everybody is asked for what they do after it, when what came last is as much on sale as the rest. NDCG@20 of
each age is of lists as they are, with items of that age as the only hits, over the users who have some.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from quality import circumstances

from pipelines.core import blend, lexical
from pipelines.core.catalogue import GeneratorConfig, generate
from pipelines.core.config import BlendConfig, FactorizeConfig, LexicalConfig
from pipelines.core.exposure import exposure
from pipelines.core.ids import hash_ids, row_numbers
from pipelines.core.model import asked_of, fit
from pipelines.core.scoring import Training

POWERS = (0.0, 0.5, 0.75, 1.0)
AGES = {
    "there for most of it, e > 0.7": (0.7, 1.1),
    "e from 0.2 to 0.7": (0.2, 0.7),
    "young, e < 0.2": (0.0, 0.2),
}
SIZE = GeneratorConfig(n_items=1500, n_users=1500, n_interactions=30_000)
KNOWN = 0.85
"""Share of the interactions that is learnt from."""
K = 20
"""Length of a list."""
FIT = FactorizeConfig(n_factors=64)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write a Markdown page")
    options = parser.parse_args()
    found = np.array([measure(seed) for seed in range(options.seeds)])
    page = render(found, options.seeds)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf-8")


def measure(seed: int) -> npt.NDArray[np.float64]:
    """(powers, 1 + ages, 3): NDCG, share of the list, share of the hits that there were; the first is of all items."""
    shop = generate(SIZE.model_copy(update={"seed": seed}))
    items_df, users_df, pairs_df = shop.items_df, shop.users_df, shop.interactions_df
    user = row_numbers_of(pairs_df["user_id"], users_df["user_id"])
    item = row_numbers_of(pairs_df["item_id"], items_df["item_id"])
    moment = pairs_df["timestamp"].to_numpy(dtype=np.float64)
    is_known = moment <= np.quantile(moment, KNOWN)
    before, after = (matrix(user[m], item[m], len(users_df), len(items_df)) for m in (is_known, ~is_known))
    texts = (items_df["title"] + "\n" + items_df["description"]).tolist()
    words = lexical.fit(texts, LexicalConfig(), seed)
    items, own = words.transform(texts), words.transform(users_df["description"].tolist())
    seen = exposure(items_df["created_at"].to_numpy(dtype=np.float64), item[is_known], moment[is_known])
    training = Training(
        before, blend.centre(items, items.mean(axis=0)), blend.centre(own, own.mean(axis=0)), texts, seen
    )
    hashes = hash_ids(items_df["item_id"].to_numpy(dtype=object))
    rows = np.flatnonzero((np.diff(before.indptr) > 0) & (np.diff(after.indptr) > 0))
    asked, hits = asked_of(before[rows], training.own_profiles[rows]), after[rows].toarray() > 0
    of_age = [np.ones(len(seen), dtype=bool)]
    of_age += [training.knows_item & (seen >= low) & (seen < high) for low, high in AGES.values()]
    found = []
    for power in POWERS:
        model = fit(training, hashes, FIT.model_copy(update={"exposure_power": power}), BlendConfig())
        scores = model.scores(asked, np.arange(len(seen)))
        top = np.argsort(-np.where(before[rows].toarray() > 0, -np.inf, scores), axis=1)[:, :K]
        found.append([figures(top, hits, mask) for mask in of_age])
    return np.array(found)


def row_numbers_of(ids: pd.Series, known: pd.Series) -> npt.NDArray[np.int64]:
    """Row numbers of ids of a frame."""
    return row_numbers(pa.array(ids), pa.array(known))


def matrix(
    user: npt.NDArray[np.int64], item: npt.NDArray[np.int64], n_users: int, n_items: int
) -> sp.csr_matrix:
    """(U, I) with 1 for each pair."""
    found = sp.csr_matrix((np.ones(len(user), dtype=np.float32), (user, item)), (n_users, n_items))
    found.sort_indices()
    return found


def figures(
    top: npt.NDArray[np.int64], hits: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """NDCG of the items of an age, their share of the lists, and of the hits."""
    gains = 1 / np.log2(np.arange(2, K + 2))
    wanted = hits & mask
    has_some = wanted.any(axis=1)
    reached = np.take_along_axis(wanted, top, axis=1) @ gains
    best = np.cumsum(gains)[np.minimum(wanted.sum(axis=1), K) - 1]
    ndcg = (reached / best)[has_some].mean()
    return float(ndcg), float(mask[top].mean()), float(wanted.sum() / hits.sum())


def render(found: npt.NDArray[np.float64], n_seeds: int) -> str:
    """The page as Markdown, from (seeds, powers, 1 + ages, 3)."""
    mean, spread = found.mean(axis=0), found.std(axis=0)
    lines = [
        "# What comes next, by the age of an item", "", circumstances(), "",
        f"Command: `python benchmarks/item_age.py --seeds {n_seeds}`. {SIZE.n_items:,} items, {SIZE.n_users:,} users, "
        f"{SIZE.n_interactions:,} interactions, of which the first {KNOWN:.0%} are learnt from. Means of {n_seeds} "
        "shops, and the spread between them. A pair that was not observed weighs e to the power of "
        "`factorize.exposure_power`; e is the share of the interactions since an item came.", "",
        "| items | of what is wanted next |" + "".join(f" power {p:g}: NDCG@{K} | in lists |" for p in POWERS),
        "|---|---|" + "---|---|" * len(POWERS),
    ]  # fmt: skip
    for n, name in enumerate(["all", *AGES]):
        cells = "".join(
            f" {mean[p, n, 0]:.4f} ± {spread[p, n, 0]:.4f} | {mean[p, n, 1]:.1%} |"
            for p in range(len(POWERS))
        )
        lines.append(f"| {name} | {mean[0, n, 2]:.1%} |{cells}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
