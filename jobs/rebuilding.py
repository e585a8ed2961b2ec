"""`kindling rebuild`: what came since the last build, built as a difference, and published only through the gate.

    store and tables -> stages -> drift, release gate -> publish, or the version in service stays

Nothing here is lost when it is killed: the same command goes on with the stages that are done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from jobs import alerting
from jobs.collecting import collect
from jobs.drifting import measure_drift
from jobs.forgetting import forget_beside_service
from jobs.models import prune_after_build
from jobs.release import check_release
from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import Config, to_toml
from pipelines.core.drift.findings import Finding
from pipelines.core.errors import ArtefactError, BusyError, ReleaseRefused
from pipelines.core.incumbent import Incumbent
from pipelines.core.layout import Layout
from pipelines.core.registry.registry import open_place
from pipelines.core.storage import read_json, write_json
from pipelines.flow import as_published, build, exclusive
from pipelines.progress import Progress
from serving.mirroring import fetch_current

Result = Literal["published", "unchanged", "refused"]


@dataclass(frozen=True)
class Rebuilt:
    """What became of a rebuild.

    Attributes:
        outcome: unchanged: tables, store and settings are those of the version in service.
        version: in service now.
        candidate: what was built, by the hash of its factors; empty: nothing was.
        former: in service before; None: there was none, and nothing was compared.
        is_full: whether factors started from nothing.
        reasons: why it was refused.
        seconds: in all.
        figures: `texts_encoded` that no earlier build had, `counts` of clean rows by table, and of the release gate
            `ndcg`: slice to that of the version in service and of the new one, see `OUT/release/report.json`.

    """

    outcome: Result
    version: str
    candidate: str
    former: str | None
    is_full: bool
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


def rebuild(
    config: Config,
    data: str,
    out: Path,
    *,
    night: date | None = None,
    full: bool | None = None,
    progress: Progress | None = None,
) -> Rebuilt:
    """Build what is new, measure it against the version in service, and publish it if nothing speaks against that.

    The caller has Ray shut down afterwards.

    Args:
        config: of the build.
        data: the caller's tables.
        out: directory of the build.
        night: that it is done for; None: now.
        full: whether factors start from nothing; None: every `rebuild.full_every_days`.
        progress: for people.

    Raises:
        BusyError: another build is running there.
        KindlingError: whatever a stage has to say about its input; the version in service stays.

    """
    layout, progress, began = Layout(out), progress or Progress(quiet=True), time.monotonic()
    with exclusive(layout):
        try:
            found = _Rebuild(config, data, layout, progress).run(_moment(night), full)
        except BusyError:
            raise
        except Exception as e:
            facts = {"data": data, "error": f"{type(e).__name__}: {e}"}
            alerting.send(config.alerts, layout, "build_failed", f"the rebuild in {out.name} failed", facts)
            raise
        found = replace(found, seconds=round(time.monotonic() - began, 1))
        _tell(config, layout, found)
        write_json(layout.rebuild_record, asdict(found))
    return found


def _told(finding: Finding) -> str:
    return (
        f"drift, {finding.name} is {finding.value:.2g}, at most {finding.bound:g}: {finding.says.rstrip('.')}"
    )


def _ndcg(figures: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Slice to that of the version in service and of the new one, where there were enough users to tell."""
    found = {}
    # nobody was asked where nobody did anything that was to be found
    for name, part in figures.get("slices", {}).items():
        metric = part["metrics"].get(f"ndcg@{figures['k']}")
        if part["is_told"] and metric:
            found[name] = (round(metric["incumbent"], 4), round(metric["candidate"], 4))
    return found


def _moment(night: date | None) -> datetime:
    return datetime.now(UTC) if night is None else datetime(night.year, night.month, night.day, tzinfo=UTC)


def _tell(config: Config, layout: Layout, found: Rebuilt) -> None:
    if found.outcome == "refused":
        facts = {"version": found.candidate, "in_service": found.version, "reasons": found.reasons}
        alerting.send(config.alerts, layout, "release_refused", "a rebuilt version was refused", facts)
    elif found.outcome == "published":  # which is told only where something else was told before
        facts = {"version": found.version}
        alerting.send(config.alerts, layout, "rebuild_recovered", "rebuilds are published again", facts)


class _Rebuild:
    """One rebuild, from the store to the pointer."""

    def __init__(self, config: Config, data: str, layout: Layout, progress: Progress) -> None:
        self.config = config
        self.data = data
        self.layout = layout
        self.progress = progress
        self.incumbent: Incumbent | None = None
        self.reasons: list[str] = []
        self.ndcg: dict[str, tuple[float, float]] = {}

    def run(self, now: datetime, full: bool | None) -> Rebuilt:
        collect(self.config, self.layout)
        self.incumbent = self._find_incumbent(now, full)
        try:
            outcomes = build(
                self.config, self.data, self.layout.root, goes_on=self._goes_on, progress=self.progress
            )
        except ReleaseRefused:
            forget_beside_service(self.layout)
            return self._found("refused", self._in_service())
        if outcomes[-1].stage != "publish":
            forget_beside_service(self.layout)
            return self._found("unchanged", self._in_service())
        prune_after_build(self.config, self.layout)
        return self._found("published", str(outcomes[-1].summary["version"]))

    def _find_incumbent(self, now: datetime, full: bool | None) -> Incumbent | None:
        """Which version is in service, and whether stages start from it."""
        if self.config.publish.registry and open_place(self.config.publish.registry).pointer().version:
            fetch_current(self.layout, self.config.publish)
        version = self._in_service()
        if not version:
            Incumbent.clear(self.layout)
            return None
        manifest = read_json(BundlePaths(self.layout.bundle(version)).manifest)
        incumbent = Incumbent.of(manifest, now, self.config.rebuild.full_every_days, full)
        noted = Incumbent.read(self.layout)
        if noted is not None and (noted.version, noted.is_warm) == (version, incumbent.is_warm):
            return noted  # of a rebuild that was broken off: its stages are of use
        return incumbent

    def _in_service(self) -> str:
        try:
            return current_version(self.layout)
        except ArtefactError:
            return ""

    def _goes_on(self, stage: str) -> bool:
        """Whether there is anything to do after ingest, and whether what was built may be published.

        Raises:
            ReleaseRefused: it may not.

        """
        if self.incumbent is None:
            if stage == "publish":
                measure_drift(self.config, self.layout, None, self.progress)
            return True
        if stage == "split":
            if self._is_unchanged(self.incumbent.version):
                return False
            # not before: where nothing is built, the stages that are there were made with the last one's note
            self.incumbent.write(self.layout)
        if stage == "publish":
            drift = measure_drift(self.config, self.layout, self.incumbent, self.progress)
            verdict = check_release(self.config, self.layout, self.incumbent, self.progress)
            self.ndcg = _ndcg(verdict.figures)
            self.reasons = [_told(finding) for finding in drift.findings if finding.is_beyond]
            self.reasons += verdict.reasons
            if self.reasons:
                raise ReleaseRefused(f"{'; '.join(self.reasons)}. {self.incumbent.version} stays in service.")
        return True

    def _is_unchanged(self, version: str) -> bool:
        paths, seen = BundlePaths(self.layout.bundle(version)), as_published(self.config, self.layout)
        built_from = read_json(paths.manifest).get("data", {}).get("fingerprint")
        same_rows = read_json(self.layout.marker("ingest"))["output"] == built_from
        return bool(same_rows and paths.config.read_text(encoding="utf-8") == to_toml(seen))

    def _candidate(self, outcome: Result) -> str:
        if outcome == "unchanged":
            return ""
        return str(read_json(self.layout.marker("factorize"))["output"])[:8]

    def _found(self, outcome: Result, version: str) -> Rebuilt:
        report = read_json(self.layout.ingest_report)
        done = {stage["stage"] for stage in read_json(self.layout.run_record) if not stage["reused"]}
        encoded = int(read_json(self.layout.embed_report)["to_encode"]) if "embed" in done else 0
        return Rebuilt(
            outcome,
            version,
            self._candidate(outcome),
            self.incumbent.version if self.incumbent else None,
            self.incumbent is None or not self.incumbent.is_warm,
            self.reasons,
            figures={
                "texts_encoded": encoded,
                "counts": {t: int(report[t].get("kept", 0)) for t in ("items", "users", "interactions")},
                "ndcg": self.ndcg,
            },
        )


def print_rebuilt(found: Rebuilt, out: Path) -> None:
    """What became of it, for people.

    Raises:
        ReleaseRefused: what was built is not in service.

    """
    layout, console = Layout(out), Console(highlight=False, soft_wrap=True, markup=False)
    rows = ", ".join(f"{n:,} {table}" for table, n in found.figures["counts"].items())
    started = "from nothing" if found.is_full else f"from those of {found.former}"
    encoded = f"{found.figures['texts_encoded']:,} texts encoded"
    console.print(f"{rows}; {encoded}, factors {started}, {found.seconds:.0f} s")
    if found.former is not None and found.outcome != "unchanged":
        console.print(f"compared with {found.former}: {layout.release_page}; drift: {layout.drift_report}")
    if found.outcome == "refused":
        told = "".join(f"\n  - {reason}" for reason in found.reasons)
        raise ReleaseRefused(f"what was built is not published, {found.version} stays in service:{told}")
    said = "published" if found.outcome == "published" else "nothing has changed; in service is"
    console.print(f"{said} {found.version}")
