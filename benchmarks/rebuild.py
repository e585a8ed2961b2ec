"""What a rebuild saves, and whether that costs anything: one change, built anew and from the version in service.

    python benchmarks/rebuild.py [--items N] [--users N] [--interactions N] [--out FILE]

A generated catalogue is built; then 1 % of its items get another title and the newest 1 % of its interactions come.
That is built in two copies of the directory, caches included: as a rebuild that starts anew, and as one that starts
from the version in service. A third fit starts anew from other random factors: what it differs by is no difference. 5 %
of the items and 10 % of the other pairs are hidden from every build; the published factors are compared on these.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import scipy.sparse as sp
from quality import circumstances

from pipelines.core import als
from pipelines.core.als import RowShard
from pipelines.core.alternate import pull
from pipelines.core.bundle import current_version
from pipelines.core.catalogue import GeneratorConfig, generate, write
from pipelines.core.config import Config, load_config, parse_config, to_toml
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.measure import SliceResult, measure
from pipelines.core.model import asked_of
from pipelines.core.pairs import Side
from pipelines.core.shards import item_shard, user_shard
from pipelines.core.slices import Slice, SliceName, load_training
from pipelines.core.storage import read_json, read_rows, read_tensors

CHANGED = 0.01
HIDDEN_ITEMS, HIDDEN_PAIRS = 0.05, 0.1
K = 20
_LEAST_SECONDS = 0.1
"""Of a stage, for a line of its own."""
SLICES: tuple[SliceName, ...] = ("cold", "warm", "all")
DoubleArray = npt.NDArray[np.float64]


def write_tables(root: Path, shape: GeneratorConfig) -> pd.DataFrame:
    """Tables of before and after under `root`; the pairs that both lack."""
    catalogue = generate(shape)
    rng = np.random.default_rng(shape.seed)
    items_df, pairs_df = catalogue.items_df, catalogue.interactions_df
    cold = items_df["item_id"].sample(frac=HIDDEN_ITEMS, random_state=shape.seed)
    is_hidden = pairs_df["item_id"].isin(cold) | (rng.random(len(pairs_df)) < HIDDEN_PAIRS)
    after_df = pairs_df[~is_hidden]
    write(replace(catalogue, interactions_df=after_df), root / "after")
    changed = items_df.sample(frac=CHANGED, random_state=shape.seed + 1).index
    old_df = items_df.copy()
    old_df.loc[changed, "title"] = "Formerly " + old_df.loc[changed, "title"]
    before_df = after_df.iloc[: round(len(after_df) / (1 + CHANGED))]
    write(replace(catalogue, items_df=old_df, interactions_df=before_df), root / "before")
    return pairs_df[is_hidden]


def build(data: Path, out: Path, config: Path, until: str = "publish") -> None:
    """Run the stages in a process of their own, with a Ray of its own."""
    arguments = [str(data), str(out), str(config), until]
    subprocess.run([sys.executable, __file__, "--build", *arguments], check=True)


@dataclass(frozen=True)
class Built:
    """One build of what came after.

    Attributes:
        name: for the page.
        seconds: by stage.
        texts: texts, those encoded, those from the cache.
        start: where the published model's fit started.
        objective: of that fit.
        results: of its lists, by slice.

    """

    name: str
    seconds: dict[str, float]
    texts: dict[str, Any]
    start: str
    objective: float
    results: dict[SliceName, SliceResult]


def look_at(name: str, layout: Layout, config: Config, hidden_df: pd.DataFrame) -> Built:
    """Measure what lies there."""
    record = {o["stage"]: o for o in read_json(layout.run_record)}
    return Built(
        name,
        {stage: o["seconds"] for stage, o in record.items() if not o["reused"]},
        read_json(layout.embed_report),
        record["factorize"]["summary"]["starts"]["full"],
        objective(layout, config),
        lists(layout, config, hidden_df),
    )


def objective(layout: Layout, config: Config) -> float:
    """What ALS minimises, of the model `full` (see `core.als`), without the ridges of the maps."""
    s, training = config.factorize, load_training(layout, "full")
    by_item = training.pairs.T.tocsr()
    by_item.sort_indices()
    items, _, item_gram = item_shard(by_item, training.item_profiles, 0, s, training.item_exposure)
    users, _ = user_shard(training.pairs, training.item_profiles, training.own_profiles, 0, s, config.blend)
    x, y = hot_factors(layout, "user", users), hot_factors(layout, "item", items)
    rows = np.repeat(np.arange(users.n_rows), users.evidence)
    scores = np.concatenate(
        [
            np.einsum("nf,nf->n", x[rows[at : at + 65536]], y[users.indices[at : at + 65536]])
            for at in range(0, len(rows), 65536)
        ]
    )
    c, p = np.abs(users.confidences), users.confidences > 0
    unseen = (x.T @ x) * als.gramian(y.astype(np.float32), items.exposure)
    total = float(unseen.sum() + (c * (p - scores) ** 2 - scores**2).sum())
    # the map that is stored for items is the one for cold ones
    item_map = als.ridge_map(item_gram, als.map_cross(items, y.astype(np.float32)), s.item_ridge)
    user_map = read_tensors(layout.text_maps("full"))["user_map"] / s.text_weight
    sides: list[tuple[Side, RowShard, DoubleArray, npt.NDArray[np.floating[Any]]]] = [
        ("user", users, x, user_map), ("item", items, y, item_map)
    ]  # fmt: skip
    for side, shard, factors, text_map in sides:
        lam, share = pull(side, shard.evidence, s)
        away = factors - share[:, None] * (shard.features @ text_map)
        total += float((lam * (away**2).sum(axis=1))[shard.evidence > 0].sum())
    return total


def hot_factors(layout: Layout, side: Side, shard: RowShard) -> DoubleArray:
    """Of rows with evidence; the others took no part in the fit, and are zero."""
    is_hot = (shard.evidence > 0)[:, None]
    return np.where(is_hot, read_rows(layout.factors("full", side)), np.float32(0)).astype(np.float64)


def lists(layout: Layout, config: Config, hidden_df: pd.DataFrame) -> dict[SliceName, SliceResult]:
    """What the model `full` ranks for the users of hidden pairs."""
    from pipelines.evaluate import load_model  # noqa: PLC0415 - Ray, which the rest of this has no use for

    model, training = load_model(config, layout, "full"), load_training(layout, "full")
    row = {
        t: pd.Index(pq.read_table(layout.ids(f"{t}s")).column(0).to_pandas()).get_indexer(
            hidden_df[f"{t}_id"]
        )
        for t in ("user", "item")
    }
    found = (row["user"] >= 0) & (row["item"] >= 0)
    at = row["user"][found], row["item"][found]
    hidden = sp.csr_matrix((np.ones(len(at[0]), np.float32), at), shape=training.pairs.shape)
    known = training.knows_item
    results: dict[SliceName, SliceResult] = {}
    for name, chosen in zip(SLICES, (~known, known, np.ones_like(known)), strict=True):
        wanted = sp.csr_matrix(hidden @ sp.diags(chosen.astype(np.float32)))
        wanted.eliminate_zeros()
        users = np.flatnonzero(np.diff(wanted.indptr))
        history = training.pairs[users]
        part = Slice(name, "full", users, history, wanted[users], history, np.flatnonzero(chosen))
        results[name] = measure(model, part, asked_of(history, training.own_profiles[users]), [K])
    return results


def overlap(ours: SliceResult, others: SliceResult) -> float:
    """Mean share of a list that is in the other one too."""
    pairs = zip(ours.listed, others.listed, strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in pairs]))


def page(anew: Built, warm: Built, other: Built, sizes: str) -> list[str]:
    """The tables."""
    lines = [
        f"{sizes}; {CHANGED:.0%} of the items changed, {CHANGED:.0%} interactions more.",
        "",
        "| stage | anew s | warm s | warm / anew |",
        "|---|---|---|---|",
    ]
    seconds = [{**b.seconds, "all": sum(b.seconds.values())} for b in (anew, warm)]
    lines += [
        f"| {stage} | {a:.1f} | {seconds[1][stage]:.1f} | {seconds[1][stage] / a:.2f} |"
        for stage, a in seconds[0].items()
        if a >= _LEAST_SECONDS
    ]
    builds = (anew, warm, other)
    lines += ["", f"| | {' | '.join(b.name for b in builds)} |", "|---|---|---|---|"]
    rows = {
        "start of the published model": [b.start for b in builds],
        "texts encoded": [f"{b.texts['to_encode']:,} of {b.texts['texts']:,}" for b in (anew, warm)] + ["–"],
        "objective against anew": [f"{b.objective / anew.objective - 1:+.3%}" for b in builds],
    }
    for s in SLICES:
        title = f"NDCG@{K} {s} ({len(anew.results[s].users):,} users)"
        rows[title] = [f"{b.results[s].values[f'ndcg@{K}'].mean():.4f}" for b in builds]
    for s in SLICES:
        shares = [overlap(b.results[s], anew.results[s]) for b in builds]
        rows[f"top-{K} in common with anew, {s}"] = [f"{share:.3f}" for share in shares]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


def main() -> None:
    """Build three times, compare, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--interactions", type=int, default=200_000)
    parser.add_argument("--scratch", type=Path, help="folder for tables and builds; default: the system's")
    parser.add_argument("--out", type=Path, help="Markdown page to write")
    parser.add_argument(
        "--build", nargs=4, metavar=("DATA", "OUT", "CONFIG", "UNTIL"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.build:
        from pipelines import flow  # noqa: PLC0415 - the process that compares needs no Ray

        data, out, config, until = options.build
        flow.build(load_config(Path(config)), data, Path(out), until_stage=until)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        body = compare(Path(folder), options.items, options.users, options.interactions)
    sizes = f"--items {options.items} --users {options.users} --interactions {options.interactions}"
    command = f"Command: `python benchmarks/rebuild.py {sizes}`."
    head = ["# Rebuild: anew and from the version in service", "", circumstances(), "", command, ""]
    text = "\n".join([*head, *body]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def compare(root: Path, n_items: int, n_users: int, n_pairs: int) -> list[str]:
    """The body of the page."""
    hidden_df = write_tables(root, GeneratorConfig(n_items=n_items, n_users=n_users, n_interactions=n_pairs))
    configs = {}
    for seed in (0, 1):
        raw = {"evaluate": {"baselines": [], "ks": [K]}, "factorize": {"seed": seed}}
        configs[seed] = parse_config(raw, "rebuild.py")
        (root / f"{seed}.toml").write_text(to_toml(configs[seed]), encoding="utf-8")
    build(root / "before", root / "anew", root / "0.toml")
    version = current_version(Layout(root / "anew"))
    for name in ("warm", "other"):
        shutil.copytree(root / "anew", root / name)
    for name, seed, is_warm in (("anew", 0, False), ("warm", 0, True), ("other", 1, False)):
        Incumbent(version, is_warm=is_warm).write(Layout(root / name))
        until = "factorize" if name == "other" else "publish"
        build(root / "after", root / name, root / f"{seed}.toml", until)
    anew, warm, other = (
        look_at(title, Layout(root / name), configs[seed], hidden_df)
        for title, name, seed in (("anew", "anew", 0), ("warm", "warm", 0), ("anew, other seed", "other", 1))
    )
    sizes = (
        f"{n_items:,} items, {n_users:,} users, {n_pairs:,} interactions, {len(hidden_df):,} of them hidden"
    )
    return page(anew, warm, other, sizes)


if __name__ == "__main__":
    main()
