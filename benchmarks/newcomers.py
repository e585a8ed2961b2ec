"""What a newcomer gets: users held out whole, met with their own words and 0, 1, 3 or 10 of their items.

    python benchmarks/newcomers.py NAME --out OUT

OUT is any finished build. An eighth of its users is held out, the model fitted on the others with the build's settings,
once as published (the user map fitted on single texts) and once with the map fitted on whole profiles
(docs/decisions/0003). Recall@20 over all items; content only is the same profiles without factors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp
from quality import ROOT, circumstances

from pipelines.core import als, blend
from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config, load_config
from pipelines.core.foldin import build_profile, fold_in
from pipelines.core.ids import hash_ids, normal_by_id
from pipelines.core.layout import Layout
from pipelines.core.metrics import bootstrap_interval
from pipelines.core.pairs import read_pairs, row_shard, signs, text_sums, wanted_counts
from pipelines.core.storage import read_rows

FloatArray = npt.NDArray[np.float32]
REVEALED = (0, 1, 3, 10)
K = 20


class Fitted:
    """A model of the users that were not held out."""

    def __init__(
        self, layout: Layout, config: Config, held_out: npt.NDArray[np.bool_], *, whole: bool
    ) -> None:
        """Alternate as factorize does; `whole` fits the user map on profiles instead of single texts."""
        self.config, settings = config, config.factorize
        items, users = read_rows(layout.text_embeddings("items")), read_rows(layout.text_embeddings("users"))
        pairs = read_pairs(layout.pairs("full", "user"), "user", 0, len(users), len(items))
        weights = sp.csr_matrix(sp.diags((~held_out).astype(np.float32)) @ pairs)
        weights.eliminate_zeros()
        by_item = weights.T.tocsr()
        hot_items, hot_users = np.diff(by_item.indptr) > 0, np.diff(weights.indptr) > 0
        self.profiles = blend.centre(items, _mean(items, hot_items))
        self.own = blend.centre(users, _mean(users, hot_users) if users.any() else _mean(items, hot_items))
        power = config.blend.history_power
        profile = blend.profiles(signs(weights), self.profiles, self.own, config.blend.own_text_items, power)
        f, g, own = blend.features(profile), blend.features(self.profiles), blend.own_features(self.own)
        liked, wanted = wanted_counts(by_item), wanted_counts(weights)
        single = text_sums(weights, g, own)
        user_shard = row_shard(weights, 0, f, f * wanted[:, None] if whole else single, settings.alpha)
        item_shard = row_shard(by_item, 0, g, g * liked[:, None], settings.alpha)
        gram_g = als.map_gram(g, liked)
        gram_f = als.map_gram(f, wanted) if whole else gram_g + als.map_gram(own, wanted)
        ids = pq.read_table(layout.ids("items")).column(0).to_pandas().to_numpy(dtype=object)
        y = (0.01 * normal_by_id(hash_ids(ids), settings.n_factors, settings.seed)).astype(np.float32)
        y[~hot_items] = 0.0
        self.a = np.zeros((f.shape[1], settings.n_factors), dtype=np.float32)
        b = np.zeros_like(self.a)
        for _ in range(settings.iterations):
            x = als.solve_rows(user_shard, y, als.gramian(y), f @ self.a, settings.user_regularization)
            self.a = als.ridge_map(gram_f, als.map_cross(user_shard, x), settings.user_ridge)
            y = als.solve_rows(item_shard, x, als.gramian(x), g @ b, settings.item_regularization)
            b = als.ridge_map(gram_g, als.map_cross(item_shard, y), settings.item_ridge)
        self.gram = als.gramian(y).astype(np.float32)
        self.y = als.fill_cold(y, item_shard.evidence, g @ b)
        self.pairs = pairs

    def scores(self, user: int, revealed: npt.NDArray[np.int64], *, content: bool) -> FloatArray:
        """All items for one newcomer."""
        settings = self.config
        words = self.own[user][None] if self.own[user].any() else np.zeros((0, self.own.shape[1]), np.float32)
        weights = np.full(len(words), settings.blend.own_text_items, dtype=np.float32)
        ones = np.ones(len(revealed), dtype=np.float32)
        power = settings.blend.history_power
        profile = build_profile(words, weights, self.profiles[revealed], ones, power)
        text = self.profiles @ profile.total.astype(np.float32)
        if content:
            return text
        confidence = als.confidences(ones, settings.factorize.alpha)
        regularization = settings.factorize.user_regularization
        folded = fold_in(profile, self.a, self.y[revealed], confidence, self.gram, regularization)
        return np.asarray(self.y @ folded.total.astype(np.float32) + settings.blend.gamma * text)


def _mean(rows: FloatArray, mask: npt.NDArray[np.bool_]) -> FloatArray:
    total, count = blend.mean_statistics(rows, mask)
    return np.asarray(total / max(count, 1), dtype=np.float32)


def recall(
    model: Fitted, users: npt.NDArray[np.int64], n_revealed: int, *, content: bool
) -> npt.NDArray[np.float64]:
    """Recall@20 of each newcomer who has enough left to find (and words, where words are all there is)."""
    rng, values = np.random.default_rng(1), []
    for user in users:
        row = model.pairs[user]
        items = rng.permutation(row.indices[row.data > 0]).astype(np.int64)
        if len(items) < n_revealed + 2 or (n_revealed == 0 and not model.own[user].any()):
            continue
        scores = model.scores(int(user), items[:n_revealed], content=content)
        scores[items[:n_revealed]] = -np.inf
        values.append(
            np.isin(np.argpartition(-scores, K)[:K], items[n_revealed:]).sum() / len(items[n_revealed:])
        )
    return np.array(values)


def main() -> None:
    """Measure and write benchmarks/results/newcomers_NAME.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    layout = Layout(options.out)
    config = load_config(BundlePaths(layout.bundle(current_version(layout))).config)
    n_users = pq.read_metadata(layout.ids("users")).num_rows
    users = np.random.default_rng(0).permutation(n_users)[: n_users // 8]
    held_out = np.zeros(n_users, dtype=bool)
    held_out[users] = True
    # the maps are compared by themselves, without the text-text term
    factors_only = config.model_copy(update={"blend": config.blend.model_copy(update={"gamma": 0.0})})
    models = {
        "content only": (Fitted(layout, config, held_out, whole=False), True),
        "whole-profile map": (Fitted(layout, factors_only, held_out, whole=True), False),
        "**single-text map**": (Fitted(layout, factors_only, held_out, whole=False), False),
        "**single-text map**, with text-text term": (Fitted(layout, config, held_out, whole=False), False),
    }
    command = f"python benchmarks/newcomers.py {options.name} --out OUT"
    lines = [f"# Newcomers: {options.name}", "", circumstances(), "", f"Command: `{command}`.", ""]
    lines += ["Recall@20 over all items [95 % interval] (users), by what a held-out user reveals.", ""]
    lines += [
        "| | " + " | ".join(f"{n} items" if n else "own words only" for n in REVEALED) + " |",
        "|---" * 5 + "|",
    ]
    for name, (model, content) in models.items():
        cells = []
        for n in REVEALED:
            values = recall(model, users, n, content=content)
            if not len(values):
                cells.append("–")
                continue
            low, high = bootstrap_interval(values, 1000, np.random.default_rng(0))
            cells.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}] ({len(values)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    page = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / f"newcomers_{options.name}.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
