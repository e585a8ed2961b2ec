"""The loop of ALS with text priors over row shards; where the shards are and who solves them is not known here.

Dimensions: F factors, D text features, n rows of one shard.

    repeat: rows of X given Y; map A of texts to X; rows of Y given X; map B of texts to Y

`Runner` is all that differs between one process (`Here`) and a cluster (`pipelines.factorize`): a function of one
shard is submitted, its result is a reference, and what is fetched is small: gramians (F, F) and cross products
(D, F).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.core import als
from pipelines.core.als import RowShard
from pipelines.core.config import FactorizeConfig
from pipelines.core.ids import normal_by_id
from pipelines.core.pairs import Side

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Ref = Any
"""What a runner hands out for a result: the result itself, or where it is."""

_START_SCALE = 0.01
"""Spread of the first item factors; small, so that the first pass over users is close to their priors."""


class Runner(Protocol):
    """Where functions of shards run."""

    def submit(self, function: Callable[..., Any], *arguments: Ref, n_results: int = 1) -> list[Ref]:
        """Run `function`; references to its results. References among the arguments arrive as their values."""

    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        """The values behind references."""

    def share(self, value: object) -> Ref:
        """A reference to a value that many calls take."""

    def blocks(self, refs: Sequence[Ref]) -> Iterable[FloatArray]:
        """An argument for `submit` whose values are looked at one after the other, never all at once."""


class Here:
    """Runs everything at once in this process."""

    def submit(self, function: Callable[..., Any], *arguments: Ref, n_results: int = 1) -> list[Ref]:
        """Call it; a reference is the value itself."""
        result = function(*arguments)
        return [result] if n_results == 1 else list(result)

    def fetch(self, refs: Sequence[Ref]) -> list[Any]:
        """Nothing to fetch."""
        return list(refs)

    def share(self, value: object) -> Ref:
        """Nothing to share."""
        return value

    def blocks(self, refs: Sequence[Ref]) -> Iterable[FloatArray]:
        """They are here."""
        return refs


@dataclass(frozen=True)
class SideState:
    """One side: references to its shards and what is known about them in sum.

    Attributes:
        side: "user" or "item".
        shards: references to `RowShard`s.
        factors: references to their factors.
        features_gram: (D, D) F'WF, the constant half of the ridge regression.
        gramian: (F, F) of the factors, by exposure.
        text_map: (D, F) from text to factors: A for users, B for items.

    """

    side: Side
    shards: list[Ref]
    factors: list[Ref]
    features_gram: DoubleArray
    gramian: DoubleArray
    text_map: FloatArray


def begin(
    side: Side,
    shards: list[Ref],
    starts: list[Ref],
    features_gram: DoubleArray,
    n_factors: int,
    runner: Runner,
) -> SideState:
    """A side before the first pass, from references to its shards and to their first factors."""
    gram = _sum(
        runner,
        [runner.submit(shard_gramian, *one)[0] for one in zip(shards, starts, strict=True)],
    )
    text_map = np.zeros((len(features_gram), n_factors), dtype=np.float32)
    return SideState(side, shards, starts, features_gram, gram, text_map)


def first_factors(
    hashes: npt.NDArray[np.uint64], evidence: npt.NDArray[np.int32], settings: FactorizeConfig
) -> FloatArray:
    """(n, F) drawn per id; cold rows are zero, so that they take no part in the other side's solves."""
    drawn = normal_by_id(hashes, settings.n_factors, settings.seed)
    return np.where((evidence > 0)[:, None], _START_SCALE * drawn, 0.0).astype(np.float32)


def alternate(
    users: SideState,
    items: SideState,
    settings: FactorizeConfig,
    runner: Runner,
    on_pass: Callable[[int, SideState, SideState], None] = lambda _number, _users, _items: None,
    *,
    starts_warm: bool = False,
) -> tuple[SideState, SideState]:
    """Fit both sides; the items' map is the one that places cold items (`settings.cold_ridge`).

    Args:
        users: as `begin` leaves them.
        items: likewise.
        settings: of the fit.
        runner: where shards are solved.
        on_pass: called after each pass with its number from 1, the users before their last solve and the items.
        starts_warm: the first factors are of an earlier fit, so that maps can be regressed on them before the first
            pass; not its maps, for the columns of the text need not mean what they meant to it.

    """
    if starts_warm:
        users = fit_map(users, settings.user_ridge, settings, runner)
        items = fit_map(items, settings.item_ridge, settings, runner)
    for number in range(1, settings.iterations + 1):
        users = half_step(users, items, settings, runner)
        users = fit_map(users, settings.user_ridge, settings, runner)
        items = half_step(items, users, settings, runner)
        items = fit_map(items, settings.item_ridge, settings, runner)
        on_pass(number, users, items)
    # once more over users, so that a stored factor is exactly what folding the same history in gives
    users = half_step(users, items, settings, runner)
    return users, place_cold(items, settings, runner)


def place_cold(items: SideState, settings: FactorizeConfig, runner: Runner) -> SideState:
    """Items with the map for cold ones: the prior's may have to be much stiffer than what a new item wants."""
    return fit_map(items, settings.cold_ridge, settings, runner) if settings.cold_ridge else items


def half_step(solved: SideState, fixed: SideState, settings: FactorizeConfig, runner: Runner) -> SideState:
    """Solve every row of one side."""
    gramian, text_map = runner.share(fixed.gramian), runner.share(solved.text_map)
    opposite = runner.blocks(fixed.factors)
    results = [
        runner.submit(
            solve_shard, solved.side, shard, start, gramian, text_map, settings, opposite, n_results=2
        )
        for shard, start in zip(solved.shards, solved.factors, strict=True)
    ]
    gram = _sum(runner, [g for _, g in results])
    return replace(solved, factors=[f for f, _ in results], gramian=gram)


def shard_gramian(shard: RowShard, factors: FloatArray) -> DoubleArray:
    """A shard's share of what the other side's rows take for the pairs that were not observed."""
    return als.gramian(factors, shard.exposure)


def solve_shard(
    side: Side, shard: RowShard, start: FloatArray, gramian: DoubleArray, text_map: FloatArray,
    settings: FactorizeConfig, opposite: Iterable[FloatArray],
) -> tuple[FloatArray, DoubleArray]:  # fmt: skip
    """Factors of one shard given the other side's, and their gramian."""
    lam, share = pull(side, shard.evidence, settings)
    factors = als.solve_rows(
        shard,
        opposite,
        gramian,
        share[:, None] * (shard.features @ text_map),
        lam,
        solver=settings.solver,
        cg_steps=settings.cg_steps,
        start=start,
    )
    return factors, shard_gramian(shard, factors)


def pull(
    side: Side, evidence: npt.NDArray[np.int32], settings: FactorizeConfig
) -> tuple[DoubleArray, FloatArray]:
    """Lam (n,) and the share (n,) of the text's prediction, for rows of one side with this many pairs."""
    if side == "user":
        strength, power, fade = (
            settings.user_regularization, settings.user_frequency_power, settings.user_text_fade,
        )  # fmt: skip
    else:
        strength, power, fade = (
            settings.item_regularization, settings.item_frequency_power, settings.item_text_fade,
        )  # fmt: skip
    share = np.float32(settings.text_weight) * als.prior_share(evidence, fade)
    return als.row_regularization(evidence, strength, power), share


def fit_map(side: SideState, ridge: float, settings: FactorizeConfig, runner: Runner) -> SideState:
    """Regress the new factors on text."""
    if settings.text_weight == 0:
        return side
    crosses = [
        runner.submit(als.map_cross, shard, factors)[0]
        for shard, factors in zip(side.shards, side.factors, strict=True)
    ]
    return replace(side, text_map=als.ridge_map(side.features_gram, _sum(runner, crosses), ridge))


def _sum(runner: Runner, refs: Sequence[Ref]) -> DoubleArray:
    return np.asarray(np.sum(runner.fetch(refs), axis=0), dtype=np.float64)
