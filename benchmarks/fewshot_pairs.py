"""Ratings and purchases of the generated shop, where the truth behind each of them is known, and ratings of a build.

A rating is 3 plus 0.6 for every standard deviation of affinity, and chance; a purchase is more likely with it. The
shop's text tells of most of that affinity and hides the rest. What nobody can know without being the shop is given as
the best: what is expected by the affinity itself, and by the part of it that text could tell of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, logit

from pipelines.core.catalogue import Catalogue, GeneratorConfig, generate
from pipelines.core.catalogue.tastes import N_HIDDEN
from pipelines.core.config import Config, FinetuneConfig, load_config
from pipelines.core.finetune.examples import HISTORY, LABEL, field_starts, load_examples
from pipelines.core.finetune.tokens import TokenTable, tokenize
from pipelines.core.layout import Layout
from pipelines.core.schema import ITEM_IDX, TEXT, USER_IDX
from pipelines.core.storage import part_paths
from pipelines.core.tables import read_parts
from pipelines.core.text import compose_text

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Task = Literal["rating", "purchase"]
COLUMNS = ("title", "description", "brand", "categories")

_UNSEEN = 0.25
_NOISE = 0.5
"""Standard deviation of a rating's chance."""
_STEP = 0.6
"""Ratings of one standard deviation of affinity."""
_BUYS = 0.25
"""Share of the pairs that are bought."""
_LONGEST = 20


@dataclass(frozen=True)
class Pairs:
    """Rows of one task on one shop.

    Attributes:
        train: users and items that are seen in training.
        test: of users and items that are not.
        best: (n_test,) expected label of each test row, given all affinity; a logit for purchases. None where nobody
            knows.
        told: the same given what text could tell of.

    """

    train: pa.Table
    test: pa.Table
    best: DoubleArray | None = None
    told: DoubleArray | None = None


@dataclass(frozen=True)
class Texts:
    """What items and users say; `spans` is where an item's later fields begin."""

    item_texts: list[str]
    spans: list[list[int]]
    user_texts: list[str]

    def tables(self, tokenizer: Any, most: int) -> tuple[TokenTable, TokenTable]:  # noqa: ANN401
        """Tokens of items and users."""
        items = tokenize(tokenizer, self.item_texts, self.spans, most)
        users = tokenize(tokenizer, self.user_texts, [[]] * len(self.user_texts), most)
        return tuple(TokenTable(pa.Table.from_batches([part])) for part in (items, users))  # type: ignore[return-value]


@dataclass(frozen=True)
class Shop:
    """A generated shop and its texts."""

    catalogue: Catalogue
    texts: Texts


def ratings_of(out: Path, config: Path | None, n_test: int) -> tuple[Texts, Pairs]:
    """Texts and ratings of a build, up to its stage split, that keeps ratings as weights (no `like_threshold`).

    `config` is what it was built with; None: the defaults.
    """
    layout = Layout(out)
    columns = Config().data.item_text if config is None else load_config(config).data.item_text
    names = pq.read_schema(part_paths(layout.tables / "items")[0]).names
    present = [c for c in columns if c in names]
    records = read_parts(layout.tables / "items", list(dict.fromkeys([TEXT, *present]))).to_pylist()
    spans = [field_starts(r, r[TEXT], present) for r in records]
    users = read_parts(layout.tables / "users", [TEXT]).column(0).to_pylist()
    found = load_examples(layout, FinetuneConfig(objective="rating", validation_rows=n_test))
    train, test = (found.histories.beside(rows, before=False) for rows in (found.train, found.validation))
    return Texts([r[TEXT] for r in records], spans, users), Pairs(train, test)


def make_shop(n_items: int, n_users: int, seed: int) -> Shop:
    """Generate one."""
    catalogue = generate(
        GeneratorConfig(n_items=n_items, n_users=n_users, n_interactions=15 * n_users, seed=seed)
    )
    records = catalogue.items_df.to_dict("records")
    texts = [compose_text(r, COLUMNS) for r in records]
    spans = [field_starts(r, t, COLUMNS) for r, t in zip(records, texts, strict=True)]
    return Shop(catalogue, Texts(texts, spans, catalogue.users_df["description"].tolist()))


def make_pairs(shop: Shop, task: Task, a_user: int, n_test: int, seed: int) -> Pairs:
    """Label `a_user` pairs of each user: half of what they used, half at random; histories are what they used."""
    rng = np.random.default_rng(seed)
    used = _used(shop.catalogue)
    n_items, n_users = len(shop.texts.item_texts), len(shop.texts.user_texts)
    users = np.repeat(np.arange(n_users), a_user)
    items = rng.integers(n_items, size=len(users))
    for user, theirs in enumerate(used):
        some = rng.permutation(theirs)[: a_user // 2]
        items[user * a_user : user * a_user + len(some)] = some
    full, told = _affinities(shop.catalogue, users, items)
    labels, best, by_text = _label(task, full, told, rng)
    new_user, new_item = rng.random(n_users) < _UNSEEN, rng.random(n_items) < _UNSEEN
    seen = np.flatnonzero(~new_user[users] & ~new_item[items])
    unseen = rng.permutation(np.flatnonzero(new_user[users] & new_item[items]))[:n_test]
    histories = [
        [int(i) for i in rng.permutation(used[u]) if i != j][:_LONGEST]
        for u, j in zip(users, items, strict=True)
    ]
    table = pa.table(
        {
            USER_IDX: users,
            ITEM_IDX: items,
            LABEL: labels,
            HISTORY: pa.array(histories, pa.list_(pa.int64())),
        }
    )
    return Pairs(
        table.take(pa.array(rng.permutation(seen))),
        table.take(pa.array(unseen)),
        best[unseen],
        by_text[unseen],
    )


def _used(catalogue: Catalogue) -> list[IntArray]:
    """Items of each user."""
    item = pd.Index(catalogue.items_df["item_id"]).get_indexer(catalogue.interactions_df["item_id"])
    user = pd.Index(catalogue.users_df["user_id"]).get_indexer(catalogue.interactions_df["user_id"])
    return [item[user == u] for u in range(len(catalogue.users_df))]


def _affinities(catalogue: Catalogue, users: IntArray, items: IntArray) -> tuple[DoubleArray, DoubleArray]:
    """(n,) standardised affinity, and the part that text could tell of, in the same unit."""
    parts = catalogue.user_tastes[users] * catalogue.item_tastes[items]
    full = parts.sum(axis=1).astype(np.float64)
    told = parts[:, :-N_HIDDEN].sum(axis=1).astype(np.float64)
    return (full - full.mean()) / full.std(), (told - full.mean()) / full.std()


def _label(
    task: Task, full: DoubleArray, told: DoubleArray, rng: np.random.Generator
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Labels, and what is expected of them by affinity and by its told part."""
    if task == "rating":
        ratings = 3 + _STEP * full + _NOISE * rng.standard_normal(len(full))
        return (
            np.clip(np.round(2 * ratings) / 2, 1, 5),
            np.clip(3 + _STEP * full, 1, 5),
            np.clip(3 + _STEP * told, 1, 5),
        )
    steep, offset = 2.0, float(logit(_BUYS)) - 0.5
    bought = rng.random(len(full)) < expit(steep * full + offset)
    return bought.astype(np.float64), steep * full + offset, steep * told + offset
