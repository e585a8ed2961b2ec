"""Pairs and text vectors in, factors out: ALS with the text's prediction as prior, over row shards on Ray.

Reads: sorted pairs of split, text embeddings of embed.
Writes: for the models `train` and `full`: user and item factors in row parts, the text maps.

Every half-step is one task per row shard. A task receives the other side's shards as references and writes
its own factors to the object store; what comes back to the driver is small: gramians (F, F) and the
statistics of the maps (D, F). Tasks hold no state, so a lost worker or node costs only the recomputation
of the shards that were on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray

from pipelines.cluster import count_cpus
from pipelines.core import als, blend
from pipelines.core.als import RowShard
from pipelines.core.config import BlendConfig, Config, FactorizeConfig
from pipelines.core.errors import ConfigError
from pipelines.core.ids import hash_ids, normal_by_id
from pipelines.core.layout import Layout, ModelName
from pipelines.core.pairs import Side, read_pairs, row_offsets, row_shard, signs, text_sums, wanted_counts
from pipelines.core.schema import TableName
from pipelines.core.storage import read_rows, write_rows, write_tensors
from pipelines.progress import Progress

__all__ = ["run"]

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
_TABLE: dict[Side, TableName] = {"user": "users", "item": "items"}
_START_SCALE = 0.01
"""Spread of the first item factors; small, so that the first pass over users is close to their priors."""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Fit the measured model and, unless `publish.refit` is off, the published one."""
    models: tuple[ModelName, ...] = ("train", "full") if config.publish.refit else ("train",)
    with progress.bar("ALS passes", config.factorize.iterations * len(models)) as advance:
        for model in models:
            _fit(config, layout, model, advance)
    return {"models": list(models), "n_factors": config.factorize.n_factors}


@dataclass(frozen=True)
class _SideState:
    """One side during the fit: references to its shards and what is known about them in sum.

    Attributes:
        shards: references to `RowShard`s.
        factors: references to their factors.
        features_gram: (D, D) evidence-weighted F'WF, the constant half of the ridge regression.
        gramian: (F, F) of the factors.
        text_map: (D, F) from text to factors: A for users, B for items.

    """

    shards: list[ray.ObjectRef]
    factors: list[ray.ObjectRef]
    features_gram: DoubleArray
    gramian: DoubleArray
    text_map: FloatArray


def _fit(config: Config, layout: Layout, model: ModelName, advance: Callable[[int], None]) -> None:
    settings = config.factorize
    n = {side: pq.read_metadata(layout.ids(_TABLE[side])).num_rows for side in _TABLE}
    n_shards = settings.shards or count_cpus()
    cuts = {side: ray.get(_cut.remote(layout, model, side, n[side], n_shards)) for side in _TABLE}
    item_mean = _mean([_text_sum.remote(layout, model, "item", *cut) for cut in cuts["item"]])
    user_mean = _mean([_text_sum.remote(layout, model, "user", *cut) for cut in cuts["user"]])
    if not user_mean.any():  # no user has written anything: words of theirs are then read as words of items
        user_mean = item_mean
    item_shards, profiles, item_grams = _columns(
        _load_items.options(num_returns=3).remote(layout, model, settings, cut, n["user"], item_mean)
        for cut in cuts["item"]
    )
    user_shards, own_grams = _columns(
        _load_users.options(num_returns=2).remote(
            layout, model, settings, config.blend, cut, user_mean, *profiles
        )
        for cut in cuts["user"]
    )
    items_gram = np.sum(ray.get(item_grams), axis=0)
    items = _begin(layout, "item", item_shards, settings, items_gram)
    # a user is known by liked items and by own words: single texts of both kinds
    users = _begin(layout, "user", user_shards, settings, items_gram + np.sum(ray.get(own_grams), axis=0))
    for _ in range(settings.iterations):
        users = _half_step(users, items, settings, settings.user_regularization)
        users = _fit_map(users, settings, settings.user_ridge)
        items = _half_step(items, users, settings, settings.item_regularization)
        items = _fit_map(items, settings, settings.item_ridge)
        advance(1)
    # once more over users, so that a stored factor is exactly what folding the same history in gives
    users = _half_step(users, items, settings, settings.user_regularization)
    _store(layout, model, settings, users, items, {"item_mean": item_mean, "user_mean": user_mean})


def _columns(results: Iterable[list[ray.ObjectRef]]) -> list[list[ray.ObjectRef]]:
    """References of tasks with several results, one list per result."""
    return [list(column) for column in zip(*results, strict=True)]


@ray.remote
def _cut(layout: Layout, model: ModelName, side: Side, n_rows: int, n_shards: int) -> list[tuple[int, int]]:
    return als.cut_rows(row_offsets(layout.pairs(model, side), side, n_rows), n_shards)


@ray.remote
def _text_sum(layout: Layout, model: ModelName, side: Side, start: int, stop: int) -> tuple[DoubleArray, int]:
    """Sum and number of the texts of warm rows; of all rows when nothing is warm."""
    embeddings = read_rows(layout.text_embeddings(_TABLE[side]), start, stop)
    path = layout.pairs(model, side)
    if pq.read_metadata(path).num_rows == 0:
        return blend.mean_statistics(embeddings, np.ones(len(embeddings), dtype=bool))
    evidence = np.diff(read_pairs(path, side, start, stop, 1 << 31).indptr)
    return blend.mean_statistics(embeddings, evidence > 0)


def _mean(refs: Sequence[ray.ObjectRef]) -> FloatArray:
    sums = ray.get(list(refs))
    total, count = np.sum([s for s, _ in sums], axis=0), sum(c for _, c in sums)
    return np.asarray(total / max(count, 1), dtype=np.float32)


@ray.remote
def _load_items(
    layout: Layout,
    model: ModelName,
    settings: FactorizeConfig,
    cut: tuple[int, int],
    n_users: int,
    mean: FloatArray,
) -> tuple[RowShard, FloatArray, DoubleArray]:
    """An item shard, the centred embeddings that users' profiles are made of, and its share of G'WG."""
    profile = blend.centre(read_rows(layout.text_embeddings("items"), *cut), mean)
    weights = read_pairs(layout.pairs(model, "item"), "item", *cut, n_users)
    features = blend.features(profile)
    counts = wanted_counts(weights)
    shard = row_shard(weights, cut[0], features, features * counts[:, None], settings.alpha)
    return shard, profile, als.map_gram(features, counts)


@ray.remote
def _load_users(
    layout: Layout, model: ModelName, settings: FactorizeConfig, blending: BlendConfig, cut: tuple[int, int],
    mean: FloatArray, *item_profiles: FloatArray,
) -> tuple[RowShard, DoubleArray]:  # fmt: skip
    """A user shard with features from own words and liked items, and the own words' share of F'WF."""
    items = np.concatenate(item_profiles)
    weights = read_pairs(layout.pairs(model, "user"), "user", *cut, len(items))
    own = blend.centre(read_rows(layout.text_embeddings("users"), *cut), mean)
    profile = blend.profiles(signs(weights), items, own, blending.own_text_items, blending.history_power)
    own_features = blend.own_features(own)
    sums = text_sums(weights, blend.features(items), own_features)
    shard = row_shard(weights, cut[0], blend.features(profile), sums, settings.alpha)
    return shard, als.map_gram(own_features, wanted_counts(weights))


def _begin(
    layout: Layout,
    side: Side,
    shards: list[ray.ObjectRef],
    settings: FactorizeConfig,
    features_gram: DoubleArray,
) -> _SideState:
    started = [_start.options(num_returns=2).remote(layout, side, shard, settings) for shard in shards]
    text_map = np.zeros((len(features_gram), settings.n_factors), dtype=np.float32)
    gram = np.sum(ray.get([g for _, g in started]), axis=0)
    return _SideState(shards, [f for f, _ in started], features_gram, gram, text_map)


@ray.remote
def _start(
    layout: Layout, side: Side, shard: RowShard, settings: FactorizeConfig
) -> tuple[FloatArray, DoubleArray]:
    """First factors, drawn per id; cold rows are zero, so that they take no part in the other side's solves."""
    ids = pq.read_table(layout.ids(_TABLE[side])).column(0).slice(shard.start, shard.n_rows)
    drawn = normal_by_id(hash_ids(ids.to_pandas().to_numpy(dtype=object)), settings.n_factors, settings.seed)
    factors = np.where((shard.evidence > 0)[:, None], _START_SCALE * drawn, 0.0).astype(np.float32)
    return factors, als.gramian(factors)


def _half_step(
    solved: _SideState, fixed: _SideState, settings: FactorizeConfig, regularization: float
) -> _SideState:
    """Solve every row of one side."""
    gramian, text_map = ray.put(fixed.gramian), ray.put(solved.text_map)
    results = [
        _solve.options(num_returns=2).remote(
            shard, start, gramian, text_map, settings, regularization, *fixed.factors
        )
        for shard, start in zip(solved.shards, solved.factors, strict=True)
    ]
    gram = np.sum(ray.get([g for _, g in results]), axis=0)
    return _SideState(solved.shards, [f for f, _ in results], solved.features_gram, gram, solved.text_map)


@ray.remote
def _solve(
    shard: RowShard, start: FloatArray, gramian: DoubleArray, text_map: FloatArray, settings: FactorizeConfig,
    regularization: float, *opposite: FloatArray,
) -> tuple[FloatArray, DoubleArray]:  # fmt: skip
    factors = als.solve_rows(
        shard,
        np.concatenate(opposite),
        gramian,
        settings.text_weight * (shard.features @ text_map),
        regularization,
        solver=settings.solver,
        cg_steps=settings.cg_steps,
        start=start,
    )
    return factors, als.gramian(factors)


def _fit_map(side: _SideState, settings: FactorizeConfig, ridge: float) -> _SideState:
    """Regress the new factors on text."""
    if settings.text_weight == 0:
        return side
    crosses = ray.get([_cross.remote(s, f) for s, f in zip(side.shards, side.factors, strict=True)])
    text_map = als.ridge_map(side.features_gram, np.sum(crosses, axis=0), ridge)
    return _SideState(side.shards, side.factors, side.features_gram, side.gramian, text_map)


@ray.remote
def _cross(shard: RowShard, factors: FloatArray) -> DoubleArray:
    return als.map_cross(shard, factors)


def _store(
    layout: Layout, model: ModelName, settings: FactorizeConfig, users: _SideState, items: _SideState,
    means: dict[str, FloatArray],
) -> None:  # fmt: skip
    writes = [
        _write.remote(layout, model, side, shard, factors, state.text_map * np.float32(settings.text_weight))
        for side, state in (("user", users), ("item", items))
        for shard, factors in zip(state.shards, state.factors, strict=True)
    ]
    ray.get(writes)
    write_tensors(
        layout.text_maps(model),
        means
        | {
            "user_map": users.text_map * np.float32(settings.text_weight),
            "item_map": items.text_map * np.float32(settings.text_weight),
            "user_gramian": users.gramian.astype(np.float32),
            "item_gramian": items.gramian.astype(np.float32),
        },
    )


@ray.remote
def _write(
    layout: Layout, model: ModelName, side: Side, shard: RowShard, factors: FloatArray, text_map: FloatArray
) -> None:
    """Store a shard; from here on a cold row holds what its text predicts."""
    rows = als.fill_cold(factors, shard.evidence, shard.features @ text_map)
    if not np.isfinite(rows).all():
        raise ConfigError(
            f"{side} factors are not finite: the settings of [factorize] are too large for these weights. Lower "
            "factorize.alpha, or raise the regularization."
        )
    write_rows(layout.factors(model, side), shard.start, rows)
