"""Who takes part in `als.py`: Kindling, implicit and irspack, each one pass over users and items at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from als_data import ALPHA, N_TEXT, Data, FloatArray, confident
from als_threads import Threads
from implicit.cpu.als import AlternatingLeastSquares

from pipelines.core import als, alternate
from pipelines.core.alternate import SideState
from pipelines.core.config import BlendConfig, FactorizeConfig
from pipelines.core.pairs import Side
from pipelines.core.shards import item_shard, user_shard

try:
    from irspack.recommenders import _ials_core as irspack
except ImportError:
    irspack = None

LAM = 20.0
START_SCALE = 0.01
USER: Side = "user"
ITEM: Side = "item"
Sides = dict[Side, tuple[list[als.RowShard], npt.NDArray[np.float64]]]
"""For each side, its shards and the constant half of its map's regression."""


class Kindling:
    """One pass at a time of `alternate`: rows of users, their map, rows of items, their map."""

    def __init__(self, sides: Sides, settings: FactorizeConfig, runner: alternate.Runner) -> None:
        """Begin both sides."""
        self.settings, self.runner = settings, runner
        self.users, self.items = (self._begin(side, *sides[side]) for side in (USER, ITEM))

    def _begin(self, side: Side, shards: list[als.RowShard], gram: npt.NDArray[np.float64]) -> SideState:
        n, n_factors = sum(s.n_rows for s in shards), self.settings.n_factors
        start = first_factors(n, n_factors) if side == "item" else np.zeros((n, n_factors), dtype=np.float32)
        starts = [self.runner.share(start[s.start : s.start + s.n_rows]) for s in shards]
        refs = [self.runner.share(shard) for shard in shards]
        return alternate.begin(side, refs, starts, gram, n_factors, self.runner)

    def step(self) -> None:
        """One pass."""
        settings, runner = self.settings, self.runner
        self.users = alternate.half_step(self.users, self.items, settings, runner)
        self.users = alternate.fit_map(self.users, settings.user_ridge, settings, runner)
        self.items = alternate.half_step(self.items, self.users, settings, runner)
        self.items = alternate.fit_map(self.items, settings.item_ridge, settings, runner)

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """Users' and items'."""
        x, y = (np.concatenate(self.runner.fetch(side.factors)) for side in (self.users, self.items))
        return x, y

    def penalty(self) -> float:
        """Sum over both sides of lam |x - s A f|^2, and of the maps' ridges: what DESIGN's loss has beside the data."""
        total = 0.0
        ridges = {"user": self.settings.user_ridge, "item": self.settings.item_ridge}
        for side in (self.users, self.items):
            for shard, factors in zip(
                *(self.runner.fetch(r) for r in (side.shards, side.factors)), strict=True
            ):
                lam, share = alternate.pull(side.side, shard.evidence, self.settings)
                gap = factors - share[:, None] * (shard.features @ side.text_map)
                total += float(np.sum(lam * (shard.evidence > 0) * np.einsum("nf,nf->n", gap, gap)))
            total += ridges[side.side] * float(np.sum(side.text_map.astype(np.float64) ** 2))
        return total


def sides_of(data: Data, n_shards: int) -> Sides:
    """Shards of each side, and the constant half of its map's regression; the same for any number of factors."""
    settings = FactorizeConfig(alpha=ALPHA)
    items = [
        item_shard(data.by_item[a:b], data.profiles[a:b], a, settings)
        for a, b in als.cut_rows(data.by_item.indptr.astype(np.int64), n_shards)
    ]
    own = np.zeros((data.train.shape[0], N_TEXT), dtype=np.float32)
    users = [
        user_shard(data.train[a:b], data.profiles, own[a:b], a, settings, BlendConfig())
        for a, b in als.cut_rows(data.train.indptr.astype(np.int64), n_shards)
    ]
    by_count = np.sum([g for _, g, _ in items] + [g for _, g in users], axis=0)
    weighed = np.sum([g for _, _, g in items], axis=0)
    return {USER: ([s for s, _ in users], by_count), ITEM: ([s for s, _, _ in items], weighed)}


def first_factors(n: int, n_factors: int) -> FloatArray:
    """The same for all who let us say where to start."""
    rng = np.random.default_rng(1)
    return (START_SCALE * rng.standard_normal((n, n_factors))).astype(np.float32)


class Implicit:
    """The solver that `AlternatingLeastSquares.fit` calls, one pass at a time."""

    def __init__(self, data: Data, n_factors: int, n_threads: int, *, use_cg: bool) -> None:
        """Take the same start."""
        self.n_threads = n_threads
        self.model = AlternatingLeastSquares(
            n_factors, regularization=LAM, use_cg=use_cg, num_threads=n_threads
        )
        self.pairs = confident(data.train), confident(data.by_item)
        self.x = np.zeros((data.train.shape[0], n_factors), dtype=np.float32)
        self.y = first_factors(data.train.shape[1], n_factors)

    def step(self) -> None:
        """One pass."""
        by_user, by_item = self.pairs
        self.model.solver(by_user, self.x, self.y, LAM, num_threads=self.n_threads)
        self.model.solver(by_item, self.y, self.x, LAM, num_threads=self.n_threads)

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """Users' and items'."""
        return self.x, self.y


class Irspack:
    """iALS with the original loss: unobserved weight 1, observed 1 + alpha, frequency power 0."""

    def __init__(self, data: Data, n_factors: int, n_threads: int, solver: str) -> None:
        """Its own random start, of the same size."""
        config = (
            irspack.IALSModelConfigBuilder()
            .set_K(n_factors).set_alpha0(1.0).set_reg(LAM).set_nu(0.0)
            .set_init_stdev(START_SCALE * n_factors**0.5)
            .set_loss_type(irspack.LossType.ORIGINAL).set_random_seed(1).build()
        )  # fmt: skip
        self.solver = (
            irspack.IALSSolverConfigBuilder()
            .set_n_threads(n_threads).set_solver_type(getattr(irspack.SolverType, solver)).set_max_cg_steps(3)
            .set_ialspp_iteration(1).set_ialspp_subspace_dimension(64).build()
        )  # fmt: skip
        self.trainer = irspack.IALSTrainer(config, data.train * np.float32(ALPHA))

    def step(self) -> None:
        """One pass."""
        self.trainer.step(self.solver)

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """Users' and items'."""
        return self.trainer.user, self.trainer.item


def settings_for(n_factors: int, **other: object) -> FactorizeConfig:
    """One lam for all rows, as the peers have it."""
    same = {"user_frequency_power": 0.0, "item_frequency_power": 0.0, "alpha": ALPHA} | {
        "user_regularization": LAM, "item_regularization": LAM, "n_factors": n_factors,
    }  # fmt: skip
    return FactorizeConfig.model_validate(same | other)


def competitors(data: Data, sides: Sides, n_factors: int, n_threads: int) -> dict[str, Any]:
    """Who takes part, by name; those with "exact" make one pass."""
    runner = Threads(n_threads)

    def kindling(**other: object) -> Kindling:
        return Kindling(sides, settings_for(n_factors, **other), runner)

    found: dict[str, Any] = {"implicit, CG 3": Implicit(data, n_factors, n_threads, use_cg=True)}
    if irspack is not None:
        found["irspack, CG 3"] = Irspack(data, n_factors, n_threads, "CG")
    for steps in (3, 2):
        found[f"kindling, CG {steps}, with text"] = kindling(solver="cg", cg_steps=steps)
        found[f"kindling, CG {steps}, no text"] = kindling(solver="cg", cg_steps=steps, text_weight=0.0)
    found["kindling, CG 3, with text, lam by frequency"] = kindling(
        solver="cg", user_frequency_power=0.5, item_frequency_power=0.25
    )
    found["implicit, exact"] = Implicit(data, n_factors, n_threads, use_cg=False)
    if irspack is not None:
        found["irspack, exact"] = Irspack(data, n_factors, n_threads, "CHOLESKY")
    found["kindling, exact, with text"] = kindling()
    found["kindling, exact, no text"] = kindling(text_weight=0.0)
    return found
