"""The page of `fortnight.py`: what became of each night, what callers noticed, and what the nights were worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from fortnight_world import Size, Traffic
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from quality import circumstances

from jobs.nights import Night


@dataclass(frozen=True)
class Life:
    """All that there is to tell.

    Attributes:
        days: of the simulation.
        size: of the shop.
        traffic: what callers saw.
        kept: ids of the events in the store, in the end.
        nights: their records, the newest first.
        bad: number of a night to what went wrong.
        kills: stages in which a rebuild was killed.
        versions: that answered.
        out: directory of the build, which is no part of a reason.
        seconds: in all.

    """

    days: int
    size: Size
    traffic: Traffic
    kept: Sequence[str]
    nights: Sequence[Night]
    bad: Mapping[int, str]
    kills: Sequence[str]
    versions: set[str]
    out: str
    seconds: float


def render(life: Life) -> str:
    """As Markdown."""
    traffic, kept = life.traffic, Counter(life.kept)
    lost = sum(kept[event] == 0 for event in traffic.acknowledged)
    doubled = sum(n > 1 for n in kept.values())
    requests = ", ".join(f"{n:,} with {status}" for status, n in traffic.answers.most_common())
    pairs = [pair for day in traffic.reached.values() for pair in day]
    served, frozen = np.mean(pairs, axis=0)
    late = [pair for day, some in traffic.reached.items() if day > life.days // 2 for pair in some]
    served_late, frozen_late = np.mean(late, axis=0)
    lines = [
        "# A fortnight of a shop", "", circumstances(), "",
        f"Command: `python benchmarks/fortnight.py --days {life.days}`. {life.size.items:,} items and "
        f"{life.size.users:,} users in all, of which 20 and 30 % arrive day by day; half of the users change their "
        f"tastes; {life.size.visits} visits a day over HTTP. {life.seconds / 60:.0f} minutes in all.", "",
        f"- Requests: {requests}. {len(life.versions)} versions answered.",
        f"- Events: {len(traffic.acknowledged):,} acknowledged, {lost} lost, {doubled} there twice.",
        f"- Rebuilds killed in {' and in '.join(life.kills)}, each gone on with by the same command.",
        f"- A list was worth {served:.3f} of the best one; of the first version, with all that came since folded in, "
        f"{frozen:.3f}. In the second week {served_late:.3f} and {frozen_late:.3f} ({len(late)} visits).", "",
    ]  # fmt: skip
    lines += [f"Not answered: {failure}" for failure in traffic.failures]
    lines += _table(life)
    return "\n".join(lines) + "\n"


def _table(life: Life) -> list[str]:
    lines = [
        "| night | what went wrong | outcome | tries | seconds | texts encoded | items | interactions | warm | cold |"
        " new users | a list is worth, the day after | never rebuilt |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = date.fromisoformat(life.nights[-1].date)
    for night in reversed(life.nights):
        number = (date.fromisoformat(night.date) - first).days + 1
        figures = night.figures
        reached = life.traffic.reached.get(number + 1, [])
        worth = [f"{m:.3f}" for m in np.mean(reached, axis=0)] if reached else ["", ""]
        gate = [_difference(figures, name) for name in ("warm", "cold", "new_users")]
        seconds = "" if night.ended is None else f"{night.ended - night.started:.0f}"
        counts = figures.get("counts", {})
        cells = [
            night.date, life.bad.get(number, ""), night.state, str(night.tries), seconds,
            str(figures.get("texts_encoded", "")), str(counts.get("items", "")), str(counts.get("interactions", "")),
            *gate, *worth,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Why nights were not published:", ""]
    for night in reversed(life.nights):
        lines += [f"- {night.date}: {reason.replace(life.out, 'OUT')}" for reason in night.reasons]
    return lines


def _difference(figures: Mapping[str, Any], name: str) -> str:
    """NDCG of the version in service and of the new one, as the gate found them."""
    pair = figures.get("ndcg", {}).get(name)
    return "" if pair is None else f"{pair[0]:.3f} → {pair[1]:.3f}"


def draw(reached: Mapping[int, Sequence[tuple[float, float]]], bad: Mapping[int, str], path: Path) -> None:
    """What a list was worth on each day, as served and without rebuilds; the bad nights are marked."""
    days = sorted(reached)
    means = np.array([np.mean(reached[day], axis=0) for day in days])
    errors = np.array([np.std(reached[day], axis=0) / np.sqrt(len(reached[day])) for day in days])
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 10, "svg.hashsalt": "fortnight"}):
        figure, axes = plt.subplots(figsize=(8, 4))
        for k, (name, colour) in enumerate(
            [("rebuilt every night", "#0b6e4f"), ("never rebuilt", "#9a6a00")]
        ):
            axes.plot(days, means[:, k], "o-" if k == 0 else "s--", color=colour, label=name)
            axes.fill_between(
                days, *(means[:, k] + s * errors[:, k] for s in (-1, 1)), color=colour, alpha=0.15
            )
        low = axes.get_ylim()[0]
        for night, what in bad.items():
            axes.axvline(night + 0.5, color="#888888", linewidth=0.8)
            axes.text(night + 0.55, low, what, rotation=90, va="bottom", fontsize=7, color="#555555")
        axes.set_xlabel("day")
        axes.set_ylabel("expected clicks of a list\nover those of the best one")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
