"""ALS: time and CPU seconds of a pass, loss per second, shards on Ray and peak memory, beside implicit and irspack.

    python benchmarks/als.py [--quick] [--factors 64 128 256] [--ray] [--out FILE]

A generated catalogue: tastes and kinds of items in 24 dimensions, Zipf items, log-normal users; texts of 384 dimensions
that are a noisy linear image of the kinds, so that they predict a part of behaviour. Every competitor makes its passes
over users and items in turn with the others, in this process, on as many threads. Losses are computed between passes
and not counted. On a busy machine trust CPU seconds: they are of the whole process and hardly grow when it waits.

- The common objective: confidences 1 + alpha, one lam for all rows, no text. `implicit.cpu.als.calculate_loss` for all.
- Held out: Recall@20 of 2 % of the pairs, the training pairs masked.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import scipy.sparse as sp
from implicit.cpu import als as implicit_als
from implicit.cpu.als import AlternatingLeastSquares
from quality import circumstances
from threadpoolctl import threadpool_limits

from pipelines.core import als, alternate, blend
from pipelines.core.alternate import SideState
from pipelines.core.config import BlendConfig, FactorizeConfig, RayConfig
from pipelines.core.pairs import Side
from pipelines.core.shards import item_shard, user_shard

try:
    from irspack.recommenders import _ials_core as irspack
except ImportError:
    irspack = None

FloatArray = npt.NDArray[np.float32]
SHOWN = (0, 1, 3)
"""Passes whose figures are in the table, beside the last."""
ALPHA, LAM = 15.0, 20.0
N_TEXT, N_TASTE = 384, 24
START_SCALE = 0.01
USER: Side = "user"
ITEM: Side = "item"
Sides = dict[Side, tuple[list[als.RowShard], npt.NDArray[np.float64]]]
"""For each side, its shards and the constant half of its map's regression."""


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Data:
    """Training pairs (U, I) by user and by item, held-out pairs, item profiles (I, 384)."""

    train: sp.csr_matrix
    by_item: sp.csr_matrix
    held_out: sp.csr_matrix
    profiles: FloatArray


def generate(n_users: int, n_items: int, n_pairs: int, seed: int = 0) -> Data:
    """Pairs drawn by activity times popularity, kept by affinity; 2 % held out."""
    rng = np.random.default_rng(seed)
    taste, kind = (
        blend.normalize(rng.standard_normal((n, N_TASTE), dtype=np.float32)) for n in (n_users, n_items)
    )
    popularity = np.cumsum(rng.permutation(np.arange(1, n_items + 1) ** -0.8))
    activity = rng.lognormal(0, 1, n_users)
    keys = np.zeros(0, dtype=np.int64)
    while len(keys) < n_pairs:
        n = 2 * n_pairs
        u = np.repeat(np.arange(n_users), rng.multinomial(n, activity / activity.sum()))
        i = np.minimum(np.searchsorted(popularity, rng.random(n) * popularity[-1]), n_items - 1)
        kept = np.zeros(n, dtype=bool)
        for at in range(0, n, 1 << 20):
            block = slice(at, at + (1 << 20))
            affinity = np.einsum("nk,nk->n", taste[u[block]], kind[i[block]]) * np.sqrt(N_TASTE)
            kept[block] = rng.random(len(affinity)) < np.exp(1.5 * (np.minimum(affinity, 1.5) - 1.5))
        keys = np.unique(np.concatenate([keys, u[kept] * n_items + i[kept]]))
    keys = rng.permutation(keys)[:n_pairs]
    cut = n_pairs // 50
    held_out, train = (_csr(np.sort(part), n_users, n_items) for part in (keys[:cut], keys[cut:]))
    by_item = train.T.tocsr()
    by_item.sort_indices()
    noise = rng.standard_normal((n_items, N_TEXT), dtype=np.float32)
    image = kind @ rng.standard_normal((N_TASTE, N_TEXT), dtype=np.float32) + noise
    return Data(train, by_item, held_out, blend.normalize(image.astype(np.float32)))


def _csr(keys: npt.NDArray[np.int64], n_users: int, n_items: int) -> sp.csr_matrix:
    ones = np.ones(len(keys), dtype=np.float32)
    return sp.csr_matrix((ones, (keys // n_items, keys % n_items)), shape=(n_users, n_items))


# ---------------------------------------------------------------- competitors


class Threads:
    """Shards as threads of this process: what `pipelines.factorize` does in tasks. A reference is a future."""

    def __init__(self, n: int) -> None:
        """Start `n` threads."""
        self.pool = ThreadPoolExecutor(n)

    def submit(self, function: Callable[..., Any], *arguments: object, n_results: int = 1) -> list[Any]:
        """Run it when its arguments are there; they were submitted earlier, so that waiting cannot be for ever."""
        done = self.pool.submit(lambda: function(*(_value(a) for a in arguments)))
        return [done] if n_results == 1 else [_Part(done, at) for at in range(n_results)]

    def fetch(self, refs: Sequence[Any]) -> list[Any]:
        """Wait."""
        return [_value(ref) for ref in refs]

    def share(self, value: object) -> object:
        """Nothing to share."""
        return value

    def blocks(self, refs: Sequence[Any]) -> _Each:
        """Values to be waited for one after the other."""
        return _Each(tuple(refs))


@dataclass(frozen=True)
class _Each:
    """Several values, in turn."""

    refs: tuple[Any, ...]

    def __iter__(self) -> Iterator[Any]:
        """Wait for the next."""
        return (_value(ref) for ref in self.refs)


@dataclass(frozen=True)
class _Part:
    """One of several results."""

    whole: Future[Any]
    at: int


def _value(ref: object) -> Any:  # noqa: ANN401 - whatever the function returns
    if isinstance(ref, _Part):
        return ref.whole.result()[ref.at]
    return ref.result() if isinstance(ref, Future) else ref


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


def sides_of(data: Data, settings: FactorizeConfig, n_shards: int) -> Sides:
    """Shards of each side, and the constant half of its map's regression."""
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


def confident(pairs: sp.csr_matrix) -> sp.csr_matrix:
    """C of wanted pairs."""
    return sp.csr_matrix((als.confidences(pairs.data, ALPHA), pairs.indices, pairs.indptr), pairs.shape)


def settings_for(n_factors: int, **other: object) -> FactorizeConfig:
    """One lam for all rows, as the peers have it."""
    same = {"user_frequency_power": 0.0, "item_frequency_power": 0.0, "alpha": ALPHA} | {
        "user_regularization": LAM, "item_regularization": LAM, "n_factors": n_factors,
    }  # fmt: skip
    return FactorizeConfig.model_validate(same | other)


def competitors(data: Data, n_factors: int, n_threads: int) -> dict[str, Any]:
    """Who takes part, by name; those with "exact" make one pass."""
    sides = sides_of(data, settings_for(n_factors), n_threads)
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


# ---------------------------------------------------------------- measuring


@dataclass
class Course:
    """What one competitor did, pass by pass."""

    wall: list[float]
    cpu: list[float]
    loss: list[float]
    recall: list[float]
    own_loss: list[float]


def race(rivals: dict[str, Any], data: Data, passes: int, n_threads: int) -> dict[str, Course]:
    """All in turn, one pass each; an exact peer whose pass takes long makes one pass only."""
    courses = {name: Course([], [], [], [], []) for name in rivals}
    pairs = confident(data.train)
    cells = float(pairs.data.sum()) + np.prod(pairs.shape, dtype=np.float64) - pairs.nnz
    for number in range(passes):
        for name, rival in rivals.items():
            if number and "exact" in name:
                continue
            course = courses[name]
            with threadpool_limits(1, "blas"):
                wall, cpu = time.perf_counter(), time.process_time()
                rival.step()
                course.wall.append(time.perf_counter() - wall)
                course.cpu.append(time.process_time() - cpu)
                x, y = rival.factors()
                loss = implicit_als._als.calculate_loss(pairs, x, y, LAM, num_threads=n_threads)
                course.loss.append(loss)
                course.recall.append(
                    recall(x, y, data) if number + 1 == passes or number in SHOWN else np.nan
                )
                if isinstance(rival, Kindling) and rival.settings.text_weight:
                    bare = implicit_als._als.calculate_loss(pairs, x, y, 0.0, num_threads=n_threads)
                    course.own_loss.append(bare + rival.penalty() / cells)
            print(
                f"pass {number + 1} {name}: {course.wall[-1]:.2f} s, {course.cpu[-1]:.2f} CPU s, "
                f"loss {loss:.6f}, recall {course.recall[-1]:.4f}",
                flush=True,
            )
    return courses


def limit(data: Data, n_factors: int, courses: dict[str, Course]) -> str:
    """What reading the opposite factors of every pair once costs, beside a pass of ours."""
    cpu = time.process_time()
    buffer = np.empty((4096, n_factors), dtype=np.float32)
    for pairs in (data.train, data.by_item):
        factors = np.ones((pairs.shape[1], n_factors), dtype=np.float32)
        for at in range(0, pairs.nnz, len(buffer)):
            few = pairs.indices[at : at + len(buffer)]
            np.take(factors, few, axis=0, out=buffer[: len(few)], mode="clip")
    cpu = time.process_time() - cpu
    ours = float(np.median(courses["kindling, CG 3, with text"].cpu))
    return (
        f"The limit: copying the opposite factors of every pair together once a side takes {cpu:.2f} CPU s; a pass of "
        f"ours (CG 3, with text) takes {ours / cpu:.1f} times that."
    )


def recall(x: FloatArray, y: FloatArray, data: Data, n_asked: int = 2000) -> float:
    """Recall@20 of held-out pairs, mean over the first users that have any."""
    asked = np.flatnonzero(np.diff(data.held_out.indptr))[:n_asked]
    total = 0.0
    for at in range(0, len(asked), 250):
        users = asked[at : at + 250]
        scores = x[users] @ y.T
        for row, user in enumerate(users):
            scores[row, data.train[user].indices] = -np.inf
        top = np.argpartition(-scores, 20, axis=1)[:, :20]
        for row, user in enumerate(users):
            wanted = data.held_out[user].indices
            total += np.isin(wanted, top[row]).sum() / len(wanted)
    return total / len(asked)


def race_table(n_factors: int, courses: dict[str, Course], base: str = "implicit, CG 3") -> list[str]:
    """Rows of one number of factors."""
    passes = max(len(c.loss) for c in courses.values())
    shown = [k for k in SHOWN if k < passes - 1] + [passes - 1]
    names = " | ".join(str(k + 1) for k in shown)
    lines = [
        f"## {n_factors} factors", "",
        f"| | s a pass | CPU s a pass | CPU, implicit's CG = 1 | loss x 1000 after pass {names} | passes to implicit's "
        f"last loss | CPU s to it | recall@20 after pass {names} | CPU s to implicit's last recall |",
        "|" + "---|" * (7 + 2 * len(shown)),
    ]  # fmt: skip
    goal = courses[base].loss[-1]
    found = courses[base].recall[-1]
    base_cpu = float(np.median(courses[base].cpu))
    for name, c in courses.items():
        as_good = next((k for k, value in enumerate(c.recall) if value >= found), None)
        reached = next((k + 1 for k, value in enumerate(c.loss) if value <= goal * (1 + 1e-6)), None)
        cells = [
            name, f"{np.median(c.wall):.2f}", f"{np.median(c.cpu):.2f}", f"{np.median(c.cpu) / base_cpu:.2f}",
            *(f"{1000 * c.loss[k]:.3f}" if k < len(c.loss) else "" for k in shown),
            str(reached or "–"), f"{sum(c.cpu[:reached]):.1f}" if reached else "–",
            *(f"{c.recall[k]:.4f}" if k < len(c.recall) else "" for k in shown),
            f"{sum(c.cpu[: as_good + 1]):.1f}" if as_good is not None else "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    falls = [
        f"{name}: {'falls in every pass' if np.all(np.diff(c.own_loss) < 0) else 'RISES in some pass'} "
        f"({c.own_loss[0]:.6f} to {c.own_loss[-1]:.6f})"
        for name, c in courses.items()
        if len(c.own_loss) > 1
    ]
    return [*lines, "", f"{passes} passes. The loss with priors, of DESIGN: {'; '.join(falls)}.", ""]


# ---------------------------------------------------------------- Ray


def ray_table(data: Data, n_factors: int, n_shards: int, passes: int) -> list[str]:
    """Two tasks beside two threads, in turn."""
    from pipelines.cluster import connect, shutdown  # noqa: PLC0415
    from pipelines.factorize import OnRay  # noqa: PLC0415

    connect(RayConfig(object_store_mb=3000))
    settings = settings_for(n_factors, solver="cg")
    sides = sides_of(data, settings, n_shards)
    rivals = {
        "threads": Kindling(sides, settings, Threads(n_shards)),
        "Ray": Kindling(sides, settings, OnRay()),
    }
    walls: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(passes):
        for name, rival in rivals.items():
            with threadpool_limits(1, "blas"):
                wall = time.perf_counter()
                rival.step()
                walls[name].append(time.perf_counter() - wall)
    gap = max(
        float(np.abs(a - b).max())
        for a, b in zip(rivals["threads"].factors(), rivals["Ray"].factors(), strict=True)
    )
    shutdown()
    ratio = np.median(np.array(walls["Ray"][1:]) / np.array(walls["threads"][1:]))
    return [
        f"{n_shards} tasks on Ray beside {n_shards} threads, {n_factors} factors, CG 3, with text: "
        f"{np.median(walls['Ray'][1:]):.2f} s and {np.median(walls['threads'][1:]):.2f} s a pass, "
        f"{ratio:.2f} times (median over passes after the first, which starts the workers); largest difference of a "
        f"factor {gap:.1e}.", "",
    ]  # fmt: skip


# ---------------------------------------------------------------- memory


def predicted_bytes(
    n_users: int, n_items: int, n_pairs: int, n_factors: int, n_threads: int
) -> dict[str, float]:
    """Peak of one process that holds both sides, see docs/decisions/0011."""
    rows, larger = n_users + n_items, max(n_users, n_items)
    text = N_TEXT + 1
    return {
        "pairs": 4.0 * (2 * 2 * n_pairs + rows),
        "text": 4.0 * 2 * rows * text,
        "factors": 4.0 * rows * n_factors,
        "half-step": 4.0 * n_factors * (2 * (rows - larger) + 2 * larger),
        "buffers": 16.0 * 2**20 * n_threads,
    }


def memory_table(sizes: tuple[int, int, int], factors: Sequence[int], n_threads: int) -> list[str]:
    """Measured beside predicted, a fresh process each."""
    lines = ["| factors | predicted MB | measured MB | measured / predicted |", "|---|---|---|---|"]
    for n_factors in factors:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(_peak, (sizes, n_factors, n_threads))
        predicted = sum(predicted_bytes(*sizes, n_factors, n_threads).values())
        lines.append(
            f"| {n_factors} | {predicted / 1e6:.0f} | {measured / 1e6:.0f} | {measured / predicted:.2f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, ""]


def _peak(sizes: tuple[int, int, int], n_factors: int, n_threads: int) -> float:
    """Growth of this process from before the shards are made to the peak of two passes, in bytes."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_pairs = sizes
    keys = np.unique(rng.integers(0, n_users * n_items, n_pairs))
    n_pairs = len(keys)
    settings = settings_for(n_factors, solver="cg")
    before = psutil.Process().memory_info().rss - keys.nbytes
    shards: dict[Side, als.RowShard] = {}
    for side, n, m in ((USER, n_users, n_items), (ITEM, n_items, n_users)):
        # random text and pairs: memory does not ask what they mean
        rows = keys // n_items if side == USER else np.sort(keys % n_items)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
        del rows
        shards[side] = als.RowShard(
            0, indptr, rng.integers(0, m, n_pairs, dtype=np.int32), np.full(n_pairs, 16, dtype=np.float32),
            *(rng.random((n, N_TEXT + 1), dtype=np.float32) for _ in range(2)),
        )  # fmt: skip
    del keys
    _reset_peak()
    runner = Threads(n_threads)
    gram = np.eye(N_TEXT + 1)
    with threadpool_limits(1, "blas"):
        sides: Sides = {side: (_pieces(shard, n_threads), gram) for side, shard in shards.items()}
        rival = Kindling(sides, settings, runner)
        rival.step()
        rival.step()
    return float(_peak_rss() - before)


def _pieces(shard: als.RowShard, n: int) -> list[als.RowShard]:
    """The shard in pieces that are views of it."""
    pieces = []
    for a, b in als.cut_rows(shard.indptr.astype(np.int64), n):
        entries = slice(shard.indptr[a], shard.indptr[b])
        pieces.append(
            replace(
                shard,
                start=a,
                indptr=shard.indptr[a : b + 1] - shard.indptr[a],
                indices=shard.indices[entries],
                confidences=shard.confidences[entries],
                features=shard.features[a:b],
                text_sums=shard.text_sums[a:b],
            )
        )
    return pieces


def _reset_peak() -> None:
    """Forget the peak of the preparation, where the system can."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_rss() -> int:
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# ---------------------------------------------------------------- the page


@contextmanager
def said(what: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    start = time.perf_counter()
    print(f"{what} ...", flush=True)
    yield
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Race, then Ray and memory where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="20,000 x 10,000, 1 M pairs, 64 factors, 4 passes"
    )
    parser.add_argument("--sizes", type=int, nargs=3, metavar=("USERS", "ITEMS", "PAIRS"))
    parser.add_argument("--factors", type=int, nargs="+")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-slow", action="store_true", help="leave the exact solvers out")
    parser.add_argument("--ray", action="store_true", help="tasks on Ray beside threads")
    parser.add_argument("--memory", action="store_true", help="peak memory beside its formula")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = tuple(
        options.sizes or ((20_000, 10_000, 1_000_000) if options.quick else (100_000, 50_000, 5_000_000))
    )
    factors = options.factors or ([64] if options.quick else [64, 128, 256])
    passes = options.passes or (4 if options.quick else 6)
    load = os.getloadavg()[0]
    with said("data"):
        data = generate(*sizes)
    lines = []
    for n_factors in factors:
        rivals = competitors(data, n_factors, options.threads)
        if options.no_slow:
            rivals = {name: rival for name, rival in rivals.items() if "exact" not in name}
        courses = race(rivals, data, passes, options.threads)
        lines += [*race_table(n_factors, courses), limit(data, n_factors, courses), ""]
        print("\n".join(lines[-len(rivals) - 8 :]), flush=True)
        del rivals
    if irspack is None:
        lines += ["irspack is not installed (`pip install kindling[bench]`): it took no part.", ""]
    if options.ray:
        lines += ["## Shards on Ray", "", *ray_table(data, factors[0], options.threads, passes)]
        print(lines[-2])
    if options.memory:
        lines += ["## Memory", "", *memory_table(sizes, factors, options.threads)]
    command = "python benchmarks/als.py " + " ".join(
        a for a in sys.argv[1:] if a not in ("--out", str(options.out))
    )
    head = [
        "# ALS on CPU", "", circumstances(), "",
        f"Command: `{command.strip()}`. {sizes[0]:,} users, {sizes[1]:,} items, {sizes[2]:,} pairs, 2 % held out; "
        f"{options.threads} threads; load average {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end.",
        "",
    ]  # fmt: skip
    if options.out:
        options.out.write_text("\n".join([*head, *lines]), encoding="utf-8")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
