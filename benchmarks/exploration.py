"""Exploration where the truth is known: off-policy intervals, regret, and how soon new items meet their audience.

    python benchmarks/exploration.py [--seeds 1 2 ...] [--repeats N] [--kept FILE] [--quick] [--out FILE]
    python benchmarks/exploration.py --choose [--seeds 0]

--choose tries constants of every policy; what is reported is on other seeds than they were chosen on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from exploration_offline import measure
from exploration_world import (
    Served,
    Size,
    Visitor,
    World,
    candidates_of,
    make_world,
    publish,
    replace_settings,
    with_first_clicks,
    without_exploring,
)
from quality import circumstances
from scipy.stats import t as student

from pipelines.core.config import ExploreConfig
from pipelines.core.policies import rng_of, show

DoubleArray = npt.NDArray[np.float64]
FULL, QUICK = Size(), Size(users=600, interactions=9_000, items=500, visitors=20, visits=10, refit_every=5)
BASE = ExploreConfig(draws=64, log=True, passed_weight=5.0)
CHOSEN = "0 100"
ENOUGH = 20
"""Times shown after which a new item counts as tried."""


@dataclass(frozen=True)
class Course:
    """What one policy did in one world.

    Attributes:
        regret: (visits,) expected clicks of the best list less those of the list shown, mean over visitors.
        tried: (visits,) share of the new items that were shown `ENOUGH` times.
        audience: (visits,) of the new items that visitors want most, the share that was shown to them.

    """

    regret: DoubleArray
    tried: DoubleArray
    audience: DoubleArray


def watch(world: World, first: Served, size: Size, settings: ExploreConfig, seed: int) -> Course:
    """All visitors come in turn, `visits` times; what they click on counts at once, and in the next version."""
    visitors = [Visitor(row, np.zeros(size.items)) for row in range(size.visitors)]
    shown, came = np.zeros(size.items, dtype=np.int64), dict[int, list[DoubleArray]]()
    met = np.zeros(world.wants.shape, dtype=bool)
    regret, tried, audience = [], [], []
    wanted = _audience(world)
    for visit in range(size.visits):
        if visit and size.refit_every and visit % size.refit_every == 0:
            first, came = publish(world, _clicks(world, visitors)), {}
        served = with_first_clicks(world, first, came, met.sum(axis=0))
        lost = 0.0
        for visitor in visitors:
            chance = np.random.default_rng([seed, visit, visitor.row])
            rows, belief, is_cold, user = candidates_of(world, served, visitor, shown, settings, size.n)
            answer = show(belief, is_cold, size.n, settings, rng_of(seed, f"{visitor.row} {visit}"))
            items = rows[answer.places]
            left = world.wants[visitor.row].copy()
            left[visitor.clicked] = 0.0
            lost += float(world.looks @ (-np.sort(-left)[: size.n] - left[items]))
            # whoever is shown an item in this visit clicks on it or not, whichever policy shows it
            clicks = chance.random(size.items)[items] < world.looks * left[items]
            shown[items] += 1
            met[visitor.row, items] = True
            visitor.passed[items] += world.looks
            visitor.clicked.extend(items[clicks].tolist())
            for item in items[clicks].tolist():
                came.setdefault(item, []).append(user)
        regret.append(lost / len(visitors))
        tried.append((shown[world.is_new] >= ENOUGH).mean())
        audience.append(met[wanted].mean())
    return Course(np.array(regret), np.array(tried), np.array(audience))


def _audience(world: World) -> npt.NDArray[np.bool_]:
    """(V, I) the new items among the 30 items that a visitor wants most."""
    least = np.sort(world.wants, axis=1)[:, -30][:, None]
    return (world.wants >= least) & world.is_new


def _clicks(world: World, visitors: Sequence[Visitor]) -> sp.csr_matrix:
    rows = np.concatenate([np.full(len(v.clicked), world.n_users + v.row) for v in visitors])
    columns = np.concatenate([np.array(v.clicked, dtype=np.int64) for v in visitors])
    return sp.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), world.pairs.shape)


def policies(base: ExploreConfig = BASE) -> dict[str, ExploreConfig]:
    """What is reported; constants were chosen by --choose."""
    return {
        "greedy": without_exploring(base),
        "greedy, nothing passed over": replace_settings(without_exploring(base), passed_weight=0.0),
        "epsilon 0.2": replace_settings(base, policy="epsilon", epsilon=0.2),
        "thompson": replace_settings(base, policy="thompson"),
        "ucb": replace_settings(base, policy="ucb", noise=0.3),
        "cold places alone": replace_settings(base, policy="epsilon", epsilon=0.0, cold_share=0.2),
        "thompson, cold places": replace_settings(base, policy="thompson", cold_share=0.2),
    }


def grid(base: ExploreConfig = BASE) -> dict[str, ExploreConfig]:
    """What --choose tries."""
    tried = {"greedy": without_exploring(base)}
    for weight in (0.0, 1.0, 20.0):
        tried[f"greedy, passed {weight}"] = replace_settings(tried["greedy"], passed_weight=weight)
    for epsilon in (0.05, 0.1, 0.2):
        tried[f"epsilon {epsilon}"] = replace_settings(base, policy="epsilon", epsilon=epsilon)
    for noise in (0.05, 0.2, 0.4):
        for item_noise in (0.0, 1.0, 2.0):
            values = {"policy": "thompson", "noise": noise, "item_noise": item_noise}
            tried[f"thompson {noise} {item_noise}"] = replace_settings(base, **values)
    for cold in (0.1, 0.2):
        tried[f"epsilon 0 cold {cold}"] = replace_settings(
            base, policy="epsilon", epsilon=0.0, cold_share=cold
        )
        tried[f"thompson cold {cold}"] = replace_settings(base, policy="thompson", cold_share=cold)
    for noise in (0.1, 0.3):
        tried[f"ucb {noise}"] = replace_settings(base, policy="ucb", noise=noise)
    return tried


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % interval over worlds."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def regret_table(
    courses: dict[str, list[Course]], base: str = "greedy", rival: str = "epsilon 0.2"
) -> list[str]:
    """Of each policy, with what it differs from greedy and from epsilon by in the same worlds."""
    lines = [
        f"| policy | cumulative regret a visitor | less {base}'s | less {rival}'s | last ten visits, less {base}'s | "
        f"new items shown {ENOUGH} times | half-way | audience met | half-way |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in courses.items():
        total = [float(c.regret.sum()) for c in found]
        less = [a - float(b.regret.sum()) for a, b in zip(total, courses[base], strict=True)]
        beside = [a - float(b.regret.sum()) for a, b in zip(total, courses[rival], strict=True)]
        late = [
            float(a.regret[-10:].sum() - b.regret[-10:].sum())
            for a, b in zip(found, courses[base], strict=True)
        ]
        half = len(found[0].regret) // 2
        shares = [[float(values[at]) for values in (c.tried for c in found)] for at in (-1, half)]
        shares += [[float(values[at]) for values in (c.audience for c in found)] for at in (-1, half)]
        cells = [name, *(interval(values) for values in (total, less, beside, late, *shares))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def run(
    size: Size, seeds: Sequence[int], arms: dict[str, ExploreConfig], kept: Path | None
) -> dict[str, list[Course]]:
    """Every policy in every world; courses that are in the file `kept` are taken from it, others are added to it."""
    known = _read(kept) if kept is not None and kept.exists() else {}
    courses: dict[str, list[Course]] = {name: [] for name in arms}
    for seed in seeds:
        world = first = None
        for name, settings in arms.items():
            key = f"{seed} {name} {vars(size)} {settings.model_dump_json()}"
            if key not in known:
                world = world or make_world(size, seed)
                first = first or publish(world)
                known[key] = watch(world, first, size, settings, seed)
                if kept is not None:
                    with kept.open("a", encoding="utf-8") as file:
                        values = {field: value.tolist() for field, value in vars(known[key]).items()}
                        file.write(json.dumps({"key": key, **values}) + "\n")
            last = known[key]
            courses[name].append(last)
            print(
                f"seed {seed} {name}: regret {last.regret.sum():.3f} ({last.regret[0]:.3f} to {last.regret[-1]:.3f}), "
                f"tried {last.tried[-1]:.3f}, audience {last.audience[-1]:.3f}",
                flush=True,
            )
    return courses


def _read(kept: Path) -> dict[str, Course]:
    rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    return {
        row.pop("key"): Course(**{field: np.array(values) for field, values in row.items()}) for row in rows
    }


PAGE = """# Exploration where the truth is known

{where}

Command: `python benchmarks/exploration.py --seeds {seeds} --repeats {repeats}{quick}`. Constants were chosen on other
worlds: `--choose --seeds {chosen}`.

A generated shop of {items} items, a quarter of them never shown before, and {users} users with {interactions}
interactions. {visitors} visitors come with their own words, {visits} times each, and see {n} items, looking
at place k with probability 1 / log2(1 + k). A click counts in the next list, a new item's first clicks give it a
factor, and the model is fitted again every {refit_every} visits.
What is clicked on is not shown again, so the best that is left gets worse, and regret (expected clicks of the best list
that was possible, less those of the list shown) does not fall by itself. Texts are read by their words. In brackets
95 % intervals over worlds (Student's t); differences are between the same worlds, visitors and dice.

## Regret, and new items

{table}

Audience: of the pairs of a visitor and a new item that is among the 30 items they want most, the share that was shown.

## Intervals of off-policy estimates

{lists} lists are logged and estimated from, {repeats} times, in the first world. The mean weight should be 1; where the
target shows what the logged policy hardly draws it is less, no estimate can be relied on, and the last column says so:
it is how often the diagnostics call the target supported.

{offline}
"""
LOGGERS = {
    "epsilon 0.3": replace_settings(BASE, policy="epsilon", epsilon=0.3, margin=1.0, max_loss=1.0),
    "thompson": replace_settings(BASE, policy="thompson", margin=1.0, max_loss=1.0, protected=0),
}
"""What is logged to estimate others from: without bounds, for what is bounded is hardly drawn."""


def page(
    courses: dict[str, list[Course]], offline: list[str], options: argparse.Namespace, size: Size
) -> str:
    """The whole of the results."""
    seeds, quick = " ".join(map(str, options.seeds)), " --quick" if options.quick else ""
    values = vars(size) | {
        "where": circumstances(), "seeds": seeds, "repeats": options.repeats, "lists": options.lists, "quick": quick,
        "chosen": CHOSEN, "table": "\n".join(regret_table(courses)), "offline": "\n".join(offline),
    }  # fmt: skip
    return PAGE.format(**values)


def main() -> None:
    """Measure and print; with --out also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 13)))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--lists", type=int, default=200)
    parser.add_argument(
        "--kept", type=Path, help="file of courses: a run that was broken off goes on from it"
    )
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    if options.choose:
        print("\n".join(regret_table(run(size, options.seeds, grid(), options.kept))))
        return
    offline = measure(size, options.seeds[0], LOGGERS, options.lists, options.repeats)
    courses = run(size, options.seeds, policies(), options.kept)
    text = page(courses, offline, options, size)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
