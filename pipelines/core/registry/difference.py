"""What is different between two published versions: settings, figures, and whom and what they know."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.bundle import BundlePaths
from pipelines.core.errors import ArtefactError
from pipelines.core.evaluation import OURS
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import Registry
from pipelines.core.schema import ITEM_ID, USER_ID

_FILES = BundlePaths(Path())


@dataclass(frozen=True)
class Difference:
    """From version `a` to version `b`.

    Attributes:
        a: the one.
        b: the other.
        settings: `section.key` to its values in both; None where one does not have it.
        figures: `slice metric` of the model on test pairs to both values and their difference; only what changed.
        items: numbers of ids: `kept`, `added`, `removed`.
        users: the same.

    """

    a: str
    b: str
    settings: dict[str, tuple[object, object]]
    figures: dict[str, tuple[float | None, float | None, float | None]]
    items: dict[str, int]
    users: dict[str, int]


def compare_versions(registry: Registry, a: str, b: str) -> Difference:
    """Compare two versions. Reads the ids of both into memory.

    Raises:
        InputError: there is no such version.
        ArtefactError: one cannot be read.

    """
    first, second = registry.show(a), registry.show(b)
    place = registry.place
    return Difference(
        a,
        b,
        _changed(settings_of_version(place, a), settings_of_version(place, b)),
        _figures(figures_of(first.metrics), figures_of(second.metrics)),
        _ids(place, a, b, _FILES.items.name, ITEM_ID),
        _ids(place, a, b, _FILES.users.name, USER_ID),
    )


def settings_of_version(place: Place, version: str) -> dict[str, object]:
    """`section.key` to value, as it was built; settings that this program does not know are among them.

    Raises:
        ArtefactError: they cannot be read.

    """
    try:
        document = tomllib.loads(place.read(version, _FILES.config.name).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ArtefactError(f"{place.where(version)}/{_FILES.config.name} cannot be read: {e}.") from e
    return {
        f"{name}.{key}": value
        for name, section in document.items()
        if isinstance(section, dict)
        for key, value in section.items()
    }


def figures_of(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """`slice metric` to value, of the model itself on test pairs; empty where it was not measured."""
    slices = metrics.get("models", {}).get(OURS, {})
    return {f"{name} {metric}": value for name, values in slices.items() for metric, value in values.items()}


def headline(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """The figure that tells most in one: NDCG, or else the first there is, on all items, or else the first slice."""
    found = {name: value for name, value in figures_of(metrics).items() if value is not None}
    for part in ("all ndcg@", "all ", "ndcg@", ""):
        for name, value in found.items():
            if part in name:
                return name, value
    return None


def _changed(a: Mapping[str, object], b: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    return {k: (a.get(k), b.get(k)) for k in sorted({*a, *b}) if a.get(k) != b.get(k)}


def _figures(
    a: Mapping[str, float | None], b: Mapping[str, float | None]
) -> dict[str, tuple[float | None, float | None, float | None]]:
    found = {}
    for name in dict.fromkeys((*a, *b)):
        old, new = a.get(name), b.get(name)
        if old != new:
            found[name] = (old, new, None if old is None or new is None else new - old)
    return found


def _ids(place: Place, a: str, b: str, name: str, column: str) -> dict[str, int]:
    first, second = (pq.read_table(BytesIO(place.read(v, name)), columns=[column]).column(0) for v in (a, b))
    kept = int(pc.sum(pc.is_in(first, value_set=second.combine_chunks())).as_py() or 0)
    return {"kept": kept, "added": len(second) - kept, "removed": len(first) - kept}
