"""A/B tests on simulated users: what is found that is not there, what is found that is, and what intervals cover.

    python benchmarks/ab_tests.py [--repetitions N] [--users N] [--seed N] [--quick] [--out FILE]

Three metrics of the kinds that a report has: a share of users who do something, a count that a few users have much of,
and a ratio of two counts of which the same users have much. Users come one after the other, half and half; one looks
after each of them from the moment an always-valid interval is given. The intervals computed for all looks at once are
those of `core.experiments`: the page is not written unless both give the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from quality import circumstances
from scipy import stats

from pipelines.core.experiments.assignment import N_SLOTS, slot_of
from pipelines.core.experiments.comparison import LEAST_SHARE_P, Sums, compare, estimate, sample_ratio_p
from pipelines.core.experiments.planning import users_needed
from pipelines.core.experiments.sequential import rho_squared
from serving.experiments.report import ALPHA, LEAST_USERS

DoubleArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int], float], tuple[DoubleArray, DoubleArray]]
"""Of a generator, a shape and a lift: what is above the line and what is below, of each user."""
_AT_ONCE = 50
_POWER = 0.8
RATE = 0.05


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    repetitions: int
    users: int
    seed: int


@dataclass(frozen=True)
class Looks:
    """What is seen after each user, (repetitions, looks): a difference, its standard error, users so far.

    `naive` is the standard error as if what is below the line were drawn by lot, and not the users.
    """

    difference: DoubleArray
    error: DoubleArray
    naive: DoubleArray
    n: npt.NDArray[np.int64]


def main() -> None:
    """Simulate and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = Sizes(options.repetitions, options.users, options.seed)
    if options.quick:
        sizes = Sizes(100, 4000, options.seed)
    page = "\n".join(
        [*head(sizes), *nothing_there(sizes), *growing(sizes), *something_there(sizes), *ratios(sizes)]
    )
    if options.out:
        options.out.write_text(page + "\n", encoding="utf-8")
    print(page)


def head(sizes: Sizes) -> list[str]:
    """What the page is."""
    return [
        "# A/B tests: simulated users",
        "",
        circumstances(),
        "",
        f"Command: `python benchmarks/ab_tests.py --repetitions {sizes.repetitions} --users {sizes.users} --seed "
        f"{sizes.seed}`.",
        "",
        f"{sizes.repetitions} experiments of {sizes.users} users each, half and half, intervals of 95 % that are "
        f"narrowest at {sizes.users // 2} users. One looks after every user from the moment each variant has "
        f"{LEAST_USERS}. A share of {RATE:.0%} among the experiments has a standard error of "
        f"{np.sqrt(RATE * (1 - RATE) / sizes.repetitions):.1%}.",
        "",
        f"- share: {RATE:.0%} of the users do it",
        "- rare: 0.5 % of the users do it",
        "- count: Poisson, its mean exponential among users, 0.5 on average",
        "- heavy: amounts, 20 % of the users have one, lognormal with sigma 1.2",
        "- ratio: clicks per impression; impressions as heavy as the count, 6 on average; click rates differ by user",
    ]


def nothing_there(sizes: Sizes) -> list[str]:
    """A/A: how often an effect is found."""
    lines = [
        "",
        "## Nothing is there: share of experiments in which an effect is found",
        "",
        "| metric | one look at the end | naive, looking all the time | always-valid, looking all the time | one look, "
        "as if impressions were drawn |",
        "|---|---|---|---|---|",
    ]
    for name, draw in METRICS.items():
        found = np.zeros(4)
        for looks in simulate(draw, sizes, 0.0):
            z = np.abs(looks.difference) / looks.error
            edge = float(stats.norm.ppf(1 - ALPHA / 2))
            last = looks.difference[:, -1]
            found += [
                np.sum(z[:, -1] > edge),
                np.sum(np.any(z > edge, axis=1)),
                np.sum(np.any(z > factors(looks.n, sizes.users // 2), axis=1)),
                np.sum(np.abs(last) > edge * looks.naive[:, -1]),
            ]
        cells = [f"{share:.1%}" for share in found / sizes.repetitions]
        lines.append(f"| {name} | {' | '.join(cells[:3])} | {cells[3] if name == 'ratio' else ''} |")
    return lines


def growing(sizes: Sizes) -> list[str]:
    """Why outcomes have a time: counts that go on growing, of the same users, are no sequence of users."""
    rng = np.random.default_rng(sizes.seed)
    n, looks, found = 2000, 1000, 0
    factor = factors(np.array([n]), n)[0]
    repetitions = max(100, sizes.repetitions // 4)
    for _ in range(repetitions):
        # of so many users of the same rate only sums matter, and users' counts are Poisson
        totals = rng.poisson(n / 2 * 0.02, (2, looks)).cumsum(axis=1)
        error = np.sqrt(totals.sum(axis=0)) / (n / 2)
        difference = (totals[1] - totals[0]) / (n / 2)
        found += bool(np.any(np.abs(difference) > factor * error))
    return [
        "",
        f"Counts that go on growing, of the same {n} users without end of time ({looks} looks, {repetitions} "
        f"experiments, everything so far counted at each look): an effect is found in {found / repetitions:.1%}. The "
        "promise is not made for such counts, and a report has none.",
    ]


def something_there(sizes: Sizes) -> list[str]:
    """Coverage, power and when one could stop."""
    lines = [
        "",
        "## Something is there: coverage and power",
        "",
        "The lift is what the planned number of users, half of all, should find with 80 % probability with "
        "always-valid intervals (`kindling experiments plan`), and twice that.",
        "",
        "| metric | lift | difference covered, one look | lift covered, one look | always-valid covers at all looks "
        "| found by half of the users: one look | the same, always-valid | found by all users, always-valid | median "
        "users when found |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    planned = sizes.users // 2
    for name, draw in METRICS.items():
        lift = detectable(draw, planned)
        for times in (1.0, 2.0):
            lines.append(row_of_effect(name, draw, sizes, times * lift))
    return lines


def row_of_effect(name: str, draw: Draw, sizes: Sizes, lift: float) -> str:
    """A line of that table."""
    planned, edge = sizes.users // 2, float(stats.norm.ppf(1 - ALPHA / 2))
    baseline = mean_of(draw)
    truth = lift * baseline
    counts, stops = np.zeros(6), []
    for looks in simulate(draw, sizes, lift):
        off = np.abs(looks.difference - truth) / looks.error
        z = np.abs(looks.difference) / looks.error
        allowed = factors(looks.n, planned)
        half = int(np.searchsorted(looks.n, planned))
        passed = z > allowed
        counts += [
            np.sum(off[:, -1] <= edge),
            0,
            np.sum(np.all(off <= allowed, axis=1)),
            np.sum(z[:, half] > edge),
            np.sum(np.any(passed[:, : half + 1], axis=1)),
            np.sum(np.any(passed, axis=1)),
        ]
        first = np.where(passed.any(axis=1), looks.n[passed.argmax(axis=1)], np.iinfo(np.int64).max)
        stops += first.tolist()
    counts[1] = lift_covered(draw, sizes, lift)
    cells = [f"{share:.1%}" for share in counts / sizes.repetitions]
    median = np.median(stops)
    when = f"{median:.0f}" if median <= sizes.users else "later"
    return f"| {name} | {lift:+.1%} | {' | '.join(cells)} | {when} |"


def lift_covered(draw: Draw, sizes: Sizes, lift: float) -> int:
    """Experiments whose lift interval, by the product's own function on all users, holds the truth."""
    covered = 0
    rng = np.random.default_rng([sizes.seed, 7])
    for _ in range(sizes.repetitions):
        arms = [draw(rng, (1, sizes.users // 2), extra) for extra in (0.0, lift)]
        control, treatment = (estimate(sums(x[0], d[0])) for x, d in arms)
        assert control is not None  # noqa: S101 - there are users
        assert treatment is not None  # noqa: S101
        found = compare(control, treatment, ALPHA, sizes.users // 2, LEAST_USERS).lift_interval
        covered += found is not None and found[0] <= lift <= found[1]
    return covered


def ratios(sizes: Sizes) -> list[str]:
    """The alarm for numbers of users: the product's own hash, and assignments that lose users of one variant."""
    rng = np.random.default_rng([sizes.seed, 3])
    n_salts, n_users = (40, 2000) if sizes.repetitions < 500 else (1000, 5000)
    values = []
    for salt in range(n_salts):
        slots = np.array([slot_of(f"salt {salt}", f"user {user}") for user in range(n_users)])
        first = int((slots < N_SLOTS // 2).sum())
        values.append(sample_ratio_p([first, n_users - first], [0.5, 0.5]))
    below = [np.mean(np.array(values) < level) for level in (0.05, 0.01, LEAST_SHARE_P)]
    lines = [
        "",
        "## Numbers of users that do not fit the shares",
        "",
        f"The hash in use, {n_salts} salts, {n_users} users: p below 0.05 in {below[0]:.1%}, below 0.01 in "
        f"{below[1]:.1%}, below {LEAST_SHARE_P} (the alarm) in {below[2]:.2%}.",
        "",
        f"Alarm where a share of one variant's users is lost, of {sizes.repetitions} experiments each:",
        "",
        "| users | none lost | 1 % | 2 % | 5 % | 10 % |",
        "|---|---|---|---|---|---|",
    ]
    for users in (1000, 10_000, 100_000, 1_000_000):
        cells = []
        for lost in (0.0, 0.01, 0.02, 0.05, 0.10):
            control = rng.binomial(users, 0.5, sizes.repetitions)
            kept = rng.binomial(users - control, 1 - lost)
            alarms = [
                sample_ratio_p([int(a), int(b)], [1, 1]) < LEAST_SHARE_P
                for a, b in zip(control, kept, strict=True)
            ]
            cells.append(f"{np.mean(alarms):.1%}")
        lines.append(f"| {users:,} | {' | '.join(cells)} |")
    return lines


# what users do


def _share(rate: float) -> Draw:
    def draw(
        rng: np.random.Generator, shape: tuple[int, int], lift: float
    ) -> tuple[DoubleArray, DoubleArray]:
        return (rng.random(shape) < rate * (1 + lift)).astype(np.float64), np.ones(shape)

    return draw


def _count(rng: np.random.Generator, shape: tuple[int, int], lift: float) -> tuple[DoubleArray, DoubleArray]:
    return rng.poisson(rng.exponential(0.5 * (1 + lift), shape)).astype(np.float64), np.ones(shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, int], lift: float) -> tuple[DoubleArray, DoubleArray]:
    amounts = rng.lognormal(0.0, 1.2, shape) * (1 + lift)
    return np.where(rng.random(shape) < 0.2, amounts, 0.0), np.ones(shape)


def _ratio(rng: np.random.Generator, shape: tuple[int, int], lift: float) -> tuple[DoubleArray, DoubleArray]:
    shown = 1 + rng.poisson(rng.exponential(5.0, shape))
    rate = np.minimum(1.0, rng.beta(2.0, 18.0, shape) * (1 + lift))
    return rng.binomial(shown, rate).astype(np.float64), shown.astype(np.float64)


METRICS: dict[str, Draw] = {
    "share": _share(RATE), "rare": _share(0.005), "count": _count, "heavy": _heavy, "ratio": _ratio,
}  # fmt: skip


# all looks at once


def simulate(draw: Draw, sizes: Sizes, lift: float) -> Iterator[Looks]:
    """Experiments, some at a time; the last look of each is checked against the product's own functions."""
    rng = np.random.default_rng(sizes.seed)
    for start in range(0, sizes.repetitions, _AT_ONCE):
        shape = min(_AT_ONCE, sizes.repetitions - start), sizes.users
        is_new = rng.random(shape) < 0.5
        control, treatment = draw(rng, shape, 0.0), draw(rng, shape, lift)
        x, d = (np.where(is_new, b, a) for a, b in zip(control, treatment, strict=True))
        arms = [_arm(x, d, mask) for mask in (~is_new, is_new)]
        # the same look for all, late enough for each
        enough = np.minimum(*(arm[0] for arm in arms)) >= LEAST_USERS
        begin = int(enough.argmax(axis=1).max())
        (_, a, var_a, naive_a), (_, b, var_b, naive_b) = arms
        looks = Looks(
            (b - a)[:, begin:],
            np.sqrt(np.maximum(var_a + var_b, 1e-300))[:, begin:],
            np.sqrt(np.maximum(naive_a + naive_b, 0.0))[:, begin:],  # of a ratio alone it means something
            np.arange(begin + 1, sizes.users + 1),
        )
        _check(looks, x, d, is_new, sizes)
        yield looks


def _arm(
    x: DoubleArray, d: DoubleArray, mask: npt.NDArray[np.bool_]
) -> tuple[DoubleArray, DoubleArray, DoubleArray, DoubleArray]:
    """Users, value, its variance and its naive variance after each user."""
    n, s_x, s_d = (np.where(mask, v, 0.0).cumsum(axis=1) for v in (np.ones_like(x), x, d))
    s_xx, s_xd, s_dd = (np.where(mask, v, 0.0).cumsum(axis=1) for v in (x * x, x * d, d * d))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = s_x / s_d
        squares = np.maximum(s_xx - 2 * value * s_xd + value**2 * s_dd, 0.0)
        return n, value, squares / (n - 1) * n / s_d**2, value * (1 - value) / s_d


def _check(looks: Looks, x: DoubleArray, d: DoubleArray, is_new: npt.NDArray[np.bool_], sizes: Sizes) -> None:
    control, treatment = (estimate(sums(x[0][m], d[0][m])) for m in (~is_new[0], is_new[0]))
    assert control is not None  # noqa: S101 - there are users
    assert treatment is not None  # noqa: S101
    planned = sizes.users // 2
    found = compare(control, treatment, ALPHA, planned, LEAST_USERS)
    half = factors(looks.n[-1:], planned)[0] * looks.error[0, -1]
    expected = (looks.difference[0, -1] - half, looks.difference[0, -1] + half)
    if found.always is None or not np.allclose(found.always, expected, rtol=1e-6, atol=1e-9):
        raise RuntimeError(f"the product says {found.always}, the simulation {expected}")


def factors(n: npt.NDArray[np.int64], planned: int) -> DoubleArray:
    """`always_valid_factor` of many n."""
    x = n * rho_squared(planned, ALPHA)
    return np.sqrt((x + 1) / x * np.log((x + 1) / ALPHA**2))


def sums(x: DoubleArray, d: DoubleArray) -> Sums:
    """As the store has them."""
    return Sums(len(x), x.sum(), (x * x).sum(), d.sum(), (d * d).sum(), (x * d).sum())


def mean_of(draw: Draw) -> float:
    """Of the control, from many users."""
    x, d = draw(np.random.default_rng(0), (1, 4_000_000), 0.0)
    return float(x.sum() / d.sum())


def detectable(draw: Draw, users: int) -> float:
    """The lift that so many users should show."""
    x, d = draw(np.random.default_rng(0), (1, 4_000_000), 0.0)
    ratio = float(x.sum() / d.sum())
    deviation = float(np.std((x - ratio * d) / d.mean()))
    low, high = 1e-4 * ratio, 10 * ratio
    for _ in range(60):
        middle = (low * high) ** 0.5
        enough = users_needed(deviation, middle, (1, 1), ALPHA, _POWER, peeking=True) <= users
        low, high = (low, middle) if enough else (middle, high)
    return high / ratio


if __name__ == "__main__":
    main()
