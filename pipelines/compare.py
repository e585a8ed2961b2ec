"""Two measured builds in, their comparison out.

Reads: `evaluation.json` and `per_user.parquet` of both, and what they were built with.
Writes: `comparisons/<the other one>/` of the first: `comparison.json`, `report.html`. The other one is only read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.bundle import current_version
from pipelines.core.comparison import Measured, compare
from pipelines.core.errors import ArtefactError, BusyError
from pipelines.core.layout import HELD_OUT, Layout
from pipelines.core.markers import read_marker
from pipelines.core.per_user import read_per_user
from pipelines.core.report import render_comparison
from pipelines.core.storage import read_json, write_json, write_text
from pipelines.flow import measured_with

__all__ = ["Compared", "compare_builds", "load_measured"]

_NEEDED = ("ks", "bootstrap", "split", "candidates", *HELD_OUT)
"""Of `evaluation.json`, for a comparison."""


@dataclass(frozen=True)
class Compared:
    """A comparison and where it was written."""

    comparison: dict[str, Any]
    file: Path
    report: Path


def load_measured(out: Path, name: str) -> Measured:
    """A build's figures; it is not locked, for it may be somebody else's.

    Args:
        out: its directory.
        name: to call it by.

    Raises:
        ArtefactError: it is not measured, or a file of it is spoilt.
        BusyError: it was measured again while it was read.

    """
    layout = Layout(out)
    config, marker = measured_with(out), read_marker(layout, "evaluate")
    try:
        version = current_version(layout)
    except ArtefactError:
        version = None
    tables = read_json(layout.marker("ingest"))["output"]
    evaluation = read_json(layout.evaluation)
    missing = [k for k in _NEEDED if k not in evaluation] if isinstance(evaluation, dict) else list(_NEEDED)
    if missing:
        raise ArtefactError(
            f"{layout.evaluation} has no {', '.join(missing)}: it is spoilt, or another version of Kindling wrote it. "
            f"Delete it and run `kindling evaluate --out {out}`."
        )
    found = Measured(name, version, tables, config, evaluation, read_per_user(layout.per_user))
    if marker is None or read_marker(layout, "evaluate") != marker:
        raise BusyError(f"{out} is being built or measured. Wait for it, then compare again.")
    return found


def compare_builds(out: Path, against: Measured, other: Path, report: Path | None = None) -> Compared:
    """Compare what is measured in `out` with an earlier one: a difference is what `out` has more.

    Args:
        out: directory of the build.
        against: the other one.
        other: its directory.
        report: file for the page, instead of the one beside the figures.

    Raises:
        ArtefactError: `out` is not measured.
        ConfigError: the two have no list length in common.

    """
    layout = Layout(out)
    name = out.name if out.name != against.name else str(out)
    comparison = compare(against, load_measured(out, name))
    # two builds of the same name may lie in different places
    place = f"{other.name}-{hashlib.blake2b(str(other).encode(), digest_size=4).hexdigest()}"
    page = report or layout.comparison_report(place)
    write_json(layout.comparison(place), comparison)
    write_text(page, render_comparison(comparison))
    return Compared(comparison, layout.comparison(place), page)
