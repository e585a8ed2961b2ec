"""Two measured builds side by side: what each reaches, slice by slice, and how sure the difference is.

Where the same users were asked for the same things, the difference is taken user by user and users are resampled
once for both: how hard they are then drops out. Elsewhere each build's users are resampled on their own.

Dimensions: n users of a slice, M metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.config import Config
from pipelines.core.errors import ConfigError
from pipelines.core.evaluation import OURS
from pipelines.core.intervals import bootstrap_means, percentile_interval
from pipelines.core.layout import HELD_OUT, HeldOut
from pipelines.core.per_user import TO_FIND, metric_columns
from pipelines.core.slices import SLICES, SliceName

_DIGITS = 6


@dataclass(frozen=True)
class Measured:
    """A build and its figures.

    Attributes:
        name: to call it by.
        version: in service, or None where nothing is.
        tables: hash of the tables it was made from.
        config: all its settings.
        evaluation: the contents of `evaluation.json`.
        users: those of `per_user.parquet`.

    """

    name: str
    version: str | None
    tables: str
    config: Config
    evaluation: Mapping[str, Any]
    users: pd.DataFrame


@dataclass(frozen=True)
class _Slice:
    """One slice of both builds, users in the order of their ids."""

    a: pd.DataFrame
    b: pd.DataFrame

    @property
    def shared(self) -> bool:
        """Whether both have users in it."""
        return bool(len(self.a) and len(self.b))

    @property
    def paired(self) -> bool:
        """Whether the same users were asked for the same things."""
        return len(self.a) == len(self.b) and all(
            np.array_equal(self.a[c].to_numpy(), self.b[c].to_numpy()) for c in ("user_id", TO_FIND)
        )

    @property
    def n_common(self) -> int:
        """Users in both, whatever they were asked for."""
        return int(self.a["user_id"].isin(self.b["user_id"]).sum())


def compare(a: Measured, b: Measured) -> dict[str, Any]:
    """What `render_comparison` draws: differences are `b` less `a`.

    Only metrics that both were measured by are in it; a slice without users in one of the two has that one's figures
    as None, one without users in both is left out. The resamples are those of `b`'s evaluation.

    Raises:
        ConfigError: no list length was measured in both.

    """
    ks = [k for k in b.evaluation["ks"] if k in a.evaluation["ks"]]
    if not ks:
        raise ConfigError(
            f"{a.name} was measured on lists of {_listed(a.evaluation['ks'])}, {b.name} on "
            f"{_listed(b.evaluation['ks'])}: no length is common to both. Measure one again with the evaluate.ks of "
            "the other: `kindling evaluate --out DIR --config FILE`."
        )
    parts = {which: _slices(a, b, which) for which in HELD_OUT}
    shared = [(which, name) for which, found in parts.items() for name, s in found.items() if s.shared]
    unpaired = [(which, name) for which, name in shared if not parts[which][name].paired]
    result: dict[str, Any] = {
        "builds": [{"name": m.name, "version": m.version, "split": m.evaluation["split"]} for m in (a, b)],
        "k": min(ks, key=lambda k: (abs(k - 20), k)),
        "ks": ks,
        "bootstrap": b.evaluation["bootstrap"],
        "config_differences": config_differences(a.config, b.config),
        "paired": bool(shared) and not unpaired,
        "why_unpaired": _why_unpaired(a, b, parts, shared, unpaired),
        "unpaired": {w: [name for which, name in unpaired if which == w] for w in HELD_OUT},
        "users": {w: {name: len(s.b) or len(s.a) for name, s in found.items()} for w, found in parts.items()},
        "users_in_common": {w: {name: s.n_common for name, s in found.items()} for w, found in parts.items()},
        "candidates_differ": _candidates(a, b, shared),
    }
    for which, found in parts.items():
        result[which] = {name: _figures(a, b, which, name, s) for name, s in found.items()}
    return result | {"models": [a.evaluation, b.evaluation]}


def config_differences(a: Config, b: Config) -> dict[str, list[Any]]:
    """Dotted setting to its values in `a` and `b`, of those that differ; None where one has no such entry."""
    first, second = _flat(a.model_dump(mode="json")), _flat(b.model_dump(mode="json"))
    names = dict.fromkeys([*first, *second])
    return {n: [first.get(n), second.get(n)] for n in names if first.get(n) != second.get(n)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _slices(a: Measured, b: Measured, which: HeldOut) -> dict[SliceName, _Slice]:
    """The slices of a held-out set in which either build has users."""
    first, second = _by_slice(a.users, which), _by_slice(b.users, which)
    return {s: _Slice(first[s], second[s]) for s in SLICES if len(first[s]) or len(second[s])}


def _by_slice(users_df: pd.DataFrame, which: HeldOut) -> dict[SliceName, pd.DataFrame]:
    mine_df = users_df[users_df["held_out"] == which].sort_values("user_id", ignore_index=True)
    return {s: mine_df[mine_df["slice"] == s] for s in SLICES}


def _figures(
    a: Measured, b: Measured, which: HeldOut, name: SliceName, part: _Slice
) -> dict[str, dict[str, Any]]:
    """Metric to `a`, `b`, `difference` and `interval`."""
    of_a, of_b = (m.evaluation[which][OURS].get(name) or {} for m in (a, b))
    common = [metric for metric in of_b if metric in of_a]
    bounds = _intervals(part, b.evaluation["bootstrap"])
    return {
        metric: {
            "a": of_a[metric],
            "b": of_b[metric],
            "difference": _difference(of_a[metric], of_b[metric]),
            "interval": bounds.get(metric),
        }
        for metric in common
    }


def _intervals(part: _Slice, bootstrap: Mapping[str, Any]) -> dict[str, list[float]]:
    """Metric to the bounds of the mean difference; coverage and gini are of no single user and have none."""
    metrics = [m for m in metric_columns(part.b) if m in metric_columns(part.a)]
    resamples, seed = int(bootstrap["resamples"]), int(bootstrap["seed"])
    if not part.shared or not resamples or not metrics:
        return {}
    of_a, of_b = (df[metrics].to_numpy(dtype=np.float64) for df in (part.a, part.b))
    if part.paired:
        means = bootstrap_means(of_b - of_a, resamples, seed)
    else:
        # another stream for the other users: equal numbers of users would be drawn alike, which they have no reason to
        means = bootstrap_means(of_b, resamples, seed) - bootstrap_means(of_a, resamples, seed + 1)
    found = (percentile_interval(column) for column in means.T)
    return {
        m: [round(low, _DIGITS), round(high, _DIGITS)] for m, (low, high) in zip(metrics, found, strict=True)
    }


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(b - a, _DIGITS)


def _candidates(a: Measured, b: Measured, shared: list[tuple[HeldOut, SliceName]]) -> dict[str, list[int]]:
    """`which.slice` to the numbers of candidates, where these differ: more of them make a harder question."""
    pairs = {f"{w}.{s}": [int(m.evaluation["candidates"][w][s]) for m in (a, b)] for w, s in shared}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _why_unpaired(
    a: Measured, b: Measured, parts: Mapping[HeldOut, Mapping[SliceName, _Slice]],
    shared: list[tuple[HeldOut, SliceName]], unpaired: list[tuple[HeldOut, SliceName]],
) -> str | None:  # fmt: skip
    """The first reason, and how many users are in common where there are fewest; None where all is paired."""
    if not shared:
        return "no slice has users in both builds"
    if not unpaired:
        return None
    counts = {(which, name): parts[which][name].n_common for which, name in unpaired}
    which, name = min(counts, key=lambda key: counts[key])
    worst = parts[which][name]
    told = f"{_reason(a, b)}; of {name} ({which}) {counts[which, name]} of {len(worst.b)} users are in both"
    if len(unpaired) == len(shared):
        return told
    concerned = Counter(s for _, s in unpaired)
    return f"{told}. This concerns {_listed(concerned)} alone"


def _reason(a: Measured, b: Measured) -> str:
    split_a, split_b = a.evaluation["split"], b.evaluation["split"]
    for key in ("kind", "seed"):
        if split_a.get(key) != split_b.get(key):
            return f"the splits differ in {key}, {split_a.get(key)} and {split_b.get(key)}"
    settings = config_differences(a.config, b.config)
    for setting, values in settings.items():
        if setting.startswith("split."):
            return f"the splits differ in {setting}, {values[0]} and {values[1]}"
    if a.tables != b.tables:
        return "the builds were made from different tables"
    if "evaluate.max_users" in settings:
        return "different samples of users were measured (evaluate.max_users)"
    return "different users were measured, or the same for different items"


def _listed(values: object) -> str:
    return ", ".join(str(v) for v in values)  # type: ignore[attr-defined]
