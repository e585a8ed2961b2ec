"""`kindling experiments`: begin, look at and end A/B tests."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from jobs.places import place_of
from jobs.stores import store_of
from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import load_config
from pipelines.core.errors import InputError
from pipelines.core.experiments.planning import detectable_effect, users_needed
from pipelines.core.layout import Layout
from serving.experiments.checking import begin, check_version
from serving.experiments.definition import Definition
from serving.experiments.report import ALPHA, Difference, Interval, Report
from serving.store.experiments import Experiment

console = Console(highlight=False, soft_wrap=True, markup=False)
_POWER = 0.8


def start_experiment(path: Path, out: Path, config: Path | None) -> Experiment:
    """Begin an experiment from a TOML file, checked against the build and its versions.

    Raises:
        InputError: the file is none, or says what cannot be; every problem is named.

    """
    definition, layout = _read_definition(path), Layout(out.resolve())
    kinds = load_config(_config_of(layout)).data.event_weights
    with store_of(out, config) as (store, _):
        return begin(store.experiments, definition, kinds, partial(check_version, place_of(str(out), config)))


def _read_definition(path: Path) -> Definition:
    try:
        return Definition.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise InputError(
            f"cannot read the experiment {path}: {e}. docs/experiments.md has a complete one."
        ) from e
    except ValidationError as e:
        lines = [
            f"  {'.'.join(str(p) for p in error['loc']) or 'experiment'}: {error['msg'].removeprefix('Value error, ')}"
            for error in e.errors()
        ]
        raise InputError("\n".join([f"{path}: {len(lines)} value(s) cannot be used:", *lines])) from e


def print_experiments(found: list[Experiment]) -> None:
    """A table of them."""
    table = Table("experiment", "variants", "decides", "users", "started", "stopped", "winner")
    for e in found:
        table.add_row(
            e.name, ", ".join(variant.name for variant in e.definition.variants), e.definition.metrics[0].name,
            f"{e.traffic:.2%}" if e.stopped_at is None else "", _date(e.started_at),
            "" if e.stopped_at is None else _date(e.stopped_at), e.winner or "",
        )  # fmt: skip
    console.print(table)


def print_stopped(found: Experiment) -> None:
    """What is left to do where there is a winner."""
    winner = next((v for v in found.definition.variants if v.name == found.winner), None)
    console.print(f"{found.name} is stopped; within seconds everybody is answered as the service is set.")
    if winner is None:
        return
    settings = winner.settings.model_dump(exclude_none=True)
    if not settings:
        console.print(f"The winner is {winner.name}, which is how the service is set: nothing is to be done.")
        return
    for name, where in (
        ("diversity", "serve.diversity"), ("gamma", "blend.gamma"), ("version", "the version in OUT/CURRENT")
    ):  # fmt: skip
        if name in settings:
            console.print(f"To keep {winner.name}: {where} = {settings[name]}")


def print_report(report: Report) -> None:
    """Users, then a table for each metric."""
    console.print(f"{report.name}, until {_date(report.until)}")
    for users in report.users:
        merged = f", {users.merged} of them under two ids" if users.merged else ""
        console.print(f"  {users.variant}: {users.users} users{merged}")
    if "mismatch" in report.verdicts.values():
        console.print(
            f"THE NUMBERS OF USERS DO NOT FIT THE SHARES (p = {report.sample_ratio_p:.2g}): who is counted depends on "
            "the variant. Find out why; nothing below is to be believed."
        )
    for number, metric in enumerate(report.metrics):
        title = f"{metric.name} (decides)" if not number else metric.name
        table = Table(
            "variant",
            "users",
            "value",
            "less control",
            "always-valid",
            "p, always-valid",
            "lift",
            title=title,
        )
        differences = {d.variant: d for d in metric.differences}
        for figure in metric.figures:
            value = "" if figure.value is None else f"{figure.value:.5g} {_interval(figure.interval)}"
            table.add_row(figure.variant, str(figure.users), value, *_cells(differences.get(figure.variant)))
        console.print(table)
    for variant, verdict in report.verdicts.items():
        console.print(f"{variant}: {verdict}")


def print_plan(mean: float, deviation: float | None, lift: float, users: int | None, share: float) -> None:
    """How many users an effect needs, or what so many users can show.

    Raises:
        InputError: no deviation is given, and the mean is no share of users.

    """
    if deviation is None:
        if not 0 < mean < 1:
            raise InputError(
                f"--mean {mean:g} is no share of users: give --deviation, the standard deviation among users, as well."
            )
        deviation = (mean * (1 - mean)) ** 0.5
    shares = (1 - share, share)
    for name, peeking in (("one look at the end", False), ("always-valid, looking at any time", True)):
        if users is None:
            n = users_needed(deviation, abs(lift * mean), shares, ALPHA, _POWER, peeking=peeking)
            console.print(f"{name}: {n} users find {lift:+.1%} with {_POWER:.0%} probability")
        else:
            effect = detectable_effect(deviation, users, shares, ALPHA, _POWER, peeking=peeking)
            console.print(f"{name}: {users} users find {effect / mean:+.1%} with {_POWER:.0%} probability")


def _cells(found: Difference | None) -> list[str]:
    if found is None:
        return ["", "", "", ""]
    lift = "" if found.lift is None else f"{found.lift:+.1%}"
    return [
        f"{found.difference:+.4g} {_interval(found.interval)}",
        _interval(found.always_interval),
        "" if found.always_p is None else f"{found.always_p:.3g}",
        lift,
    ]


def _interval(bounds: Interval | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.4g}, {bounds[1]:.4g}]"


def _config_of(layout: Layout) -> Path:
    return BundlePaths(layout.bundle(current_version(layout))).config


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
