"""How far a rebuild has drifted from the version in service, measured before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.core.config import Config
from pipelines.core.drift.comparing import compare
from pipelines.core.drift.findings import Comparison, Finding
from pipelines.core.drift.sources import encoder_columns, of_build, of_bundle
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.report.drift import render_drift
from pipelines.core.runs import running_ids
from pipelines.core.storage import write_json, write_text
from pipelines.progress import Progress


@dataclass(frozen=True)
class Drift:
    """What was found.

    Attributes:
        findings: everything that was compared; nothing in the first build.
        beyond: names of the findings that are farther than `[drift]` allows.
        report: the HTML page; `report.json` lies beside it.

    """

    findings: tuple[Finding, ...]
    beyond: list[str]
    report: Path


def measure_drift(config: Config, layout: Layout, incumbent: Incumbent | None, progress: Progress) -> Drift:
    """Compare what the stages have left in OUT with the version in service, and write both reports.

    No text is encoded and nothing is published.

    Args:
        config: of the rebuild.
        layout: of OUT.
        incumbent: what it is compared with, under `bundles`; None: this is the first build, and the report says so.
        progress: for people.

    Raises:
        ArtefactError: a stage as far as factorize is not done, or a file of either is missing or spoilt.

    """
    found = Comparison(config.drift)
    looked_at: dict[str, int] = {}
    if incumbent is not None:
        with progress.bar("measuring drift", 1) as advance:
            before, after = of_bundle(layout.bundle(incumbent.version)), of_build(layout, config)
            found = compare(before, after, config.drift, encoder_columns(layout), config.evaluate.k)
            looked_at = {
                "items looked at, at most": min(config.drift.sample_items, len(after.item_ids)),
                "users looked at, at most": min(config.drift.sample_users, len(after.user_ids)),
            }
            advance(1)
    report = {
        "incumbent": None if incumbent is None else incumbent.version,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **running_ids(),
        "looked_at": looked_at,
        **found.document(),
    }
    write_json(layout.drift, report)
    write_text(layout.drift_report, render_drift(report))
    return Drift(tuple(found.findings), found.beyond, layout.drift_report)
