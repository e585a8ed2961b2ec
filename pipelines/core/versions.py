"""The published versions of one output directory: what each is, and which one is in service.

Whoever changes what is in service, or removes versions, holds one lock; it dies with its process. A version is read
through, checksums and all, before anything points to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.core.bundle import (
    BundlePaths,
    check_bundle,
    current_version,
    earlier_versions,
    point_current,
    read_manifest,
)
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json

_WAIT_SECONDS = 10.0
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")


class BusyError(Exception):
    """Somebody else is changing what is in service."""


@dataclass(frozen=True)
class Version:
    """One published version.

    Attributes:
        name: of its directory.
        is_current: whether it is in service.
        problem: why it could not be put into service, as far as sizes of files tell; None: nothing is seen.
        manifest: of its bundle; empty where that cannot be read.
        metrics: see docs/metrics.md; empty likewise.
        has_report: whether the page of its evaluation lies with it.

    """

    name: str
    is_current: bool
    problem: str | None
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    has_report: bool


@contextmanager
def changing_current(layout: Layout, seconds: float | None = None) -> Iterator[None]:
    """Be the only one who changes what is in service.

    Raises:
        BusyError: another still does, after so many seconds.

    """
    layout.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(layout.current_lock, timeout=_WAIT_SECONDS if seconds is None else seconds):
            yield
    except Timeout as e:
        raise BusyError(
            f"{layout.current_lock} is held: another change of what is in service is under way. Try again."
        ) from e


def list_versions(layout: Layout) -> list[Version]:
    """All, the newest first."""
    current = _current(layout)
    return [_version(layout, name, current) for name in list_names(layout)]


def promote(layout: Layout, version: str) -> str | None:
    """Put a version into service.

    Returns:
        What was in service before; None: nothing.

    Raises:
        InputError: there is no such version.
        ArtefactError: it is not whole.
        BusyError: somebody else is at it.

    """
    with changing_current(layout):
        return _put(layout, version)


def rollback(layout: Layout) -> tuple[str, str]:
    """Put into service what was before the version that is: of what was written down, or else the next older one.

    Returns:
        What is now in service, and what was.

    Raises:
        ArtefactError: nothing is in service, or there is nothing whole to go back to.
        BusyError: somebody else is at it.

    """
    with changing_current(layout):
        current, known = current_version(layout), list_names(layout)
        earlier = [v for v in earlier_versions(layout) if v in known and v != current]
        for place, version in enumerate(earlier):
            if _is_whole(layout.bundle(version)):
                point_current(layout, version, earlier[place + 1 :])
                return version, current
        for version in known:
            if version < current and _is_whole(layout.bundle(version)):
                point_current(layout, version, [])
                return version, current
    raise ArtefactError(
        f"{layout.bundles} holds no whole version from before {current}: nothing to go back to. "
        "publish.keep says how many are kept."
    )


def report_of(layout: Layout, version: str) -> Path | None:
    """The page of a version's evaluation; None where it has none.

    Raises:
        InputError: there is no such version.

    """
    _check_known(layout, version)
    path = BundlePaths(layout.bundle(version)).report
    return path if path.is_file() else None


def _put(layout: Layout, version: str) -> str | None:
    _check_known(layout, version)
    check_bundle(layout.bundle(version))
    before = _current(layout)
    point_current(layout, version)
    return before


def _check_known(layout: Layout, version: str) -> None:
    known = list_names(layout)
    if version not in known:
        raise InputError(f"version {version[:80]!r} is not here; there are {', '.join(known) or 'none'}.")


def list_names(layout: Layout) -> list[str]:
    """Directories of published versions, the newest first."""
    if not layout.bundles.is_dir():
        return []
    found = [p.name for p in layout.bundles.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, reverse=True)


def _current(layout: Layout) -> str | None:
    try:
        return current_version(layout)
    except ArtefactError:
        return None


def _is_whole(root: Path) -> bool:
    try:
        check_bundle(root)
    except ArtefactError:
        return False
    return True


def _version(layout: Layout, name: str, current: str | None) -> Version:
    paths = BundlePaths(layout.bundle(name))
    try:
        manifest, metrics = read_manifest(paths), read_json(paths.metrics)
        if not isinstance(metrics, dict):
            raise ArtefactError(f"{paths.metrics} holds no metrics.")
    except ArtefactError as e:
        return Version(name, name == current, str(e), {}, {}, has_report=False)
    return Version(
        name, name == current, _problem(paths, manifest), manifest, metrics, has_report=paths.report.is_file()
    )


def _problem(paths: BundlePaths, manifest: dict[str, Any]) -> str | None:
    """What can be told without reading gigabytes: a file that is missing or of another length."""
    for name, expected in manifest["files"].items():
        path = paths.root / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            return f"{path} is missing or not {expected['bytes']} bytes long."
    return None
