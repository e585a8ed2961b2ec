"""Pairs and profiles in, factors out: ALS with the text's prediction as prior, over row shards on Ray.

Reads: sorted pairs and exposure of split, profiles of profile; in a rebuild, the factors in service.
Writes: for every model that is fitted: user and item factors in row parts, the text maps.

The loop is `pipelines.core.alternate`; here are the shards it works on and the tasks it runs in. A task fetches
the other side's factors one shard at a time and keeps the rows that its own pairs touch, so that no node has to hold
all of them; it writes its own factors to the object store. What comes back to the
driver is small: gramians (F, F) and the statistics of the maps (D, F). Tasks hold no state, so a lost worker or
node costs only the recomputation of the shards that were on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import ray

from pipelines.cluster import count_cpus
from pipelines.core import als
from pipelines.core.als import RowShard
from pipelines.core.alternate import SideState, alternate, begin, first_factors
from pipelines.core.bundle import BundlePaths
from pipelines.core.config import BlendConfig, Config, FactorizeConfig
from pipelines.core.errors import ConfigError
from pipelines.core.exposure import read_exposure
from pipelines.core.forgetting import Forgotten
from pipelines.core.ids import hash_ids
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout, ModelName, fitted_models
from pipelines.core.pairs import Side, read_pairs, row_offsets
from pipelines.core.schema import TableName
from pipelines.core.shards import item_shard, user_shard
from pipelines.core.storage import read_rows, write_rows, write_tensors
from pipelines.core.warm import Start, choose_start, known_factors
from pipelines.progress import Progress

__all__ = ["fingerprint", "run"]

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
_TABLE: dict[Side, TableName] = {"user": "users", "item": "items"}


def fingerprint(config: Config, layout: Layout, data: str) -> str:  # noqa: ARG001 - one shape for all stages
    """In a rebuild, which version factors start from, and for how many passes."""
    incumbent = Incumbent.read(layout)
    return f"{incumbent.version} {config.rebuild.iterations}" if incumbent and incumbent.is_warm else ""


def run(config: Config, layout: Layout, data: str, progress: Progress) -> dict[str, object]:  # noqa: ARG001
    """Fit the measured models and, unless `publish.refit` is off, the published one."""
    models = fitted_models(
        refit=config.publish.refit, newcomers=config.split.hides_users, held=layout.has_held()
    )
    starts = {model: choose_start(config, layout, model) for model in models}
    with progress.bar("ALS passes", sum(start.iterations for start in starts.values())) as advance:
        for model, start in starts.items():
            _fit(config, layout, model, start, advance)
    summary: dict[str, object] = {"models": list(models), "n_factors": config.factorize.n_factors}
    if Incumbent.read(layout) is not None:  # a plain build starts from nothing, and need not say so
        summary["starts"] = {model: start.words() for model, start in starts.items()}
    return summary


class OnRay:
    """Runs functions of shards as tasks; a reference is one of Ray's."""

    def submit(
        self, function: Callable[..., Any], *arguments: ray.ObjectRef, n_results: int = 1
    ) -> list[ray.ObjectRef]:
        """Start a task."""
        refs = _remote(function).options(num_returns=n_results).remote(*arguments)
        return [refs] if n_results == 1 else refs

    def fetch(self, refs: Sequence[ray.ObjectRef]) -> list[Any]:
        """Wait for results."""
        values: list[Any] = ray.get(list(refs))
        return values

    def share(self, value: object) -> ray.ObjectRef:
        """Put a value into the object store once."""
        return ray.put(value)

    def blocks(self, refs: Sequence[ray.ObjectRef]) -> Iterable[FloatArray]:
        """References that a task fetches as it comes to them."""
        return Streamed(tuple(refs))


@dataclass(frozen=True)
class Streamed:
    """Arrays in the object store, one of which a node holds for a task at a time.

    As arguments of the task all of them would have to fit the store of the node before it starts.
    """

    refs: tuple[ray.ObjectRef, ...]

    def __iter__(self) -> Iterator[FloatArray]:
        """Fetch, hand out, let go."""
        for ref in self.refs:
            yield ray.get(ref)


@cache
def _remote(function: Callable[..., Any]) -> ray.remote_function.RemoteFunction:
    return ray.remote(function)


def _fit(
    config: Config, layout: Layout, model: ModelName, start: Start, advance: Callable[[int], None]
) -> None:
    settings, runner = config.factorize.model_copy(update={"iterations": start.iterations}), OnRay()
    n = {side: pq.read_metadata(layout.ids(_TABLE[side])).num_rows for side in _TABLE}
    n_shards = settings.shards or count_cpus()
    cuts = {side: ray.get(_cut.remote(layout, model, side, n[side], n_shards)) for side in _TABLE}
    items, profiles, grams, item_grams = _columns(
        _load_items.options(num_returns=4).remote(layout, model, settings, cut, n["user"])
        for cut in cuts["item"]
    )
    users, own_grams = _columns(
        _load_users.options(num_returns=2).remote(layout, model, settings, config.blend, cut, *profiles)
        for cut in cuts["user"]
    )
    # a user is known by liked items and by own words: single texts of both kinds
    user_gram = _total(grams) + _total(own_grams)
    starts = {
        side: [_start.remote(layout, side, shard, settings, start.version) for shard in shards]
        for side, shards in (("user", users), ("item", items))
    }
    fitted = alternate(
        begin("user", users, starts["user"], user_gram, settings.n_factors, runner),
        begin("item", items, starts["item"], _total(item_grams), settings.n_factors, runner),
        settings, runner, lambda _number, _users, _items: advance(1), starts_warm=start.version is not None,
    )  # fmt: skip
    _store(layout, model, settings, *fitted)


def _total(refs: list[ray.ObjectRef]) -> DoubleArray:
    return np.asarray(np.sum(ray.get(refs), axis=0))


def _columns(results: Iterable[list[ray.ObjectRef]]) -> list[list[ray.ObjectRef]]:
    """References of tasks with several results, one list per result."""
    return [list(column) for column in zip(*results, strict=True)]


@ray.remote
def _cut(layout: Layout, model: ModelName, side: Side, n_rows: int, n_shards: int) -> list[tuple[int, int]]:
    return als.cut_rows(row_offsets(layout.pairs(model, side), side, n_rows), n_shards)


@ray.remote
def _load_items(
    layout: Layout, model: ModelName, settings: FactorizeConfig, cut: tuple[int, int], n_users: int
) -> tuple[RowShard, FloatArray, DoubleArray, DoubleArray]:
    """An item shard, the profiles that users' profiles are made of, and its shares of both maps' regressions."""
    profile = read_rows(layout.item_profiles(model), *cut)
    weights = read_pairs(layout.pairs(model, "item"), "item", *cut, n_users)
    exposure = read_exposure(layout, model, *cut)
    shard, by_count, weighed = item_shard(weights, profile, cut[0], settings, exposure)
    return shard, profile, by_count, weighed


@ray.remote
def _load_users(
    layout: Layout, model: ModelName, settings: FactorizeConfig, blending: BlendConfig, cut: tuple[int, int],
    *item_profiles: FloatArray,
) -> tuple[RowShard, DoubleArray]:  # fmt: skip
    """A user shard and its own words' share of the map's regression."""
    items = np.concatenate(item_profiles)
    weights = read_pairs(layout.pairs(model, "user"), "user", *cut, len(items))
    return user_shard(weights, items, read_rows(layout.own_profiles(model), *cut), cut[0], settings, blending)


@ray.remote
def _start(
    layout: Layout, side: Side, shard: RowShard, settings: FactorizeConfig, version: str | None
) -> FloatArray:
    """The first factors of a shard: those of a version where it knows the row, else drawn; cold rows are zero."""
    ids = pq.read_table(layout.ids(_TABLE[side])).column(0).slice(shard.start, shard.n_rows)
    drawn = first_factors(hash_ids(ids.to_pandas().to_numpy(dtype=object)), shard.evidence, settings)
    if version is None:
        return drawn
    known = known_factors(
        BundlePaths(layout.bundle(version)), side, ids, drawn, Forgotten.read(layout.forgotten)
    )
    known[shard.evidence == 0] = 0.0
    return known


def _store(
    layout: Layout, model: ModelName, settings: FactorizeConfig, users: SideState, items: SideState
) -> None:
    writes = [
        _write.remote(
            layout, model, state.side, shard, factors, state.text_map * np.float32(settings.text_weight)
        )
        for state in (users, items)
        for shard, factors in zip(state.shards, state.factors, strict=True)
    ]
    ray.get(writes)
    write_tensors(
        layout.text_maps(model),
        {
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
