"""The published versions of one place: what each is, which is in service, and how that changes.

The command line, the service's routes and publish all come here. A version is read through, checksums and all, before
anything points to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.bundle import MANIFEST, BundlePaths, check_manifest, check_size
from pipelines.core.errors import ArtefactError, BusyError, ConfigError
from pipelines.core.layout import Layout
from pipelines.core.pointer import Pointer
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.place import Place, check_known
from pipelines.core.registry.retention import Retention

InUse = Callable[[], Mapping[str, Sequence[str]]]
"""Versions that are in use beside the one in service, with the names of who uses them."""


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
        n_bytes: of all its files.

    """

    name: str
    is_current: bool
    problem: str | None
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    has_report: bool
    n_bytes: int


def open_place(address: str) -> Place:
    """Where versions are: an output directory, or `s3://bucket/prefix`.

    Raises:
        ConfigError: an address of another kind, or boto3 is not installed.

    """
    if "://" not in address:
        return Folder(Layout(Path(address).absolute()))
    try:
        from pipelines.core.registry.bucket import Bucket  # noqa: PLC0415 - optional
    except ImportError as e:
        raise ConfigError(f"{address}: versions on S3 want boto3 ({e}). pip install 'kindling[s3]'.") from e
    return Bucket(address)


class Registry:
    """What can be done with the versions of a place."""

    def __init__(self, place: Place) -> None:
        """Over a folder or a bucket."""
        self.place = place

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        current = self.place.pointer().version
        return [self._version(name, current) for name in self.place.names()]

    def show(self, version: str) -> Version:
        """One of them.

        Raises:
            InputError: there is no such version.

        """
        pointer = self.place.pointer()
        check_known(self.place, pointer, version)
        return self._version(version, pointer.version)

    def current(self) -> str:
        """The version in service.

        Raises:
            ArtefactError: none is.

        """
        version = self.place.pointer().version
        if version is None:
            raise ArtefactError(f"{self.place}: nothing is in service. `kindling build` publishes.")
        return version

    def promote(self, version: str, how: str = "promote") -> str | None:
        """Put a version into service.

        Returns:
            What was in service before; None: nothing.

        Raises:
            InputError: there is no such version, or it is being deleted.
            ArtefactError: it is not whole.
            BusyError: somebody else is at it.

        """
        check_known(self.place, self.place.pointer(), version)
        self.place.check(version)
        before: list[str | None] = []

        def change(pointer: Pointer) -> Pointer:
            check_known(self.place, pointer, version)  # again: it may have been deleted while it was read
            before[:] = [pointer.version]
            return pointer.promoted(version, how)

        self.place.update(change)
        return before[0]

    def rollback(self) -> tuple[str, str]:
        """Put into service what was before the version that is: of what was written down, or else the next older one.

        Once more goes one further back; forward again is `promote`.

        Returns:
            What is now in service, and what was.

        Raises:
            ArtefactError: nothing is in service, or there is nothing whole to go back to.
            BusyError: somebody else is at it, or has just put another into service.

        """
        current = self.current()
        version = self._back_from(current)

        def change(pointer: Pointer) -> Pointer:
            if pointer.version != current:
                raise BusyError(
                    f"{pointer.version} was put into service meanwhile, in place of {current}. Look, and try again."
                )
            check_known(self.place, pointer, version)
            return pointer.rolled_back(version)

        self.place.update(change)
        return version, current

    def _back_from(self, current: str) -> str:
        pointer, known = self.place.pointer(), self.place.names()
        gone = {current, *pointer.removing}
        older = [v for v in known if v < current and v not in gone]
        for version in [v for v in pointer.earlier if v in known and v not in gone] + older:
            try:
                self.place.check(version)
            except ArtefactError:
                continue
            return version
        raise ArtefactError(
            f"{self.place} holds no whole version from before {current}: nothing to go back to. "
            "publish.keep says how many are kept."
        )

    def publish(self, version: str, root: Path) -> None:
        """Bring a whole bundle here and put it into service.

        Raises:
            ArtefactError: it is not whole, or cannot be brought.
            InputError: another bundle has its name.

        """
        self.place.push(version, root)
        self.place.update(lambda pointer: self._published(pointer, version))

    def _published(self, pointer: Pointer, version: str) -> Pointer:
        check_known(self.place, pointer, version)
        return pointer.promoted(version, "publish")

    def prune(self, retention: Retention, in_use: InUse, *, dry_run: bool = False) -> list[str]:
        """Delete old versions, never the one in service nor one in use.

        Args:
            retention: what is kept.
            in_use: asked at the last moment.
            dry_run: delete nothing.

        Returns:
            What was deleted, or would be.

        Raises:
            BusyError: somebody else is at it.

        """

        def choose(pointer: Pointer) -> list[str]:
            stays = {*in_use(), *([pointer.version] if pointer.version else [])}
            dated = [(name, self._created_at(name)) for name in self.place.names()]
            return retention.surplus(dated, stays, datetime.now(UTC))

        pointer = self.place.pointer()
        chosen = choose(pointer)
        if dry_run or not (chosen or pointer.removing or self.place.abandoned()):
            return chosen
        return self._delete(choose)

    def remove(self, versions: Collection[str], in_use: InUse) -> list[str]:
        """Delete these versions, whatever their age, but for the one in service and those in use.

        Args:
            versions: which; absent ones are none.
            in_use: asked at the last moment.

        Returns:
            What was deleted.

        Raises:
            BusyError: somebody else is at it.

        """

        def choose(pointer: Pointer) -> list[str]:
            stays = {*in_use(), pointer.version}
            return [name for name in self.place.names() if name in versions and name not in stays]

        return self._delete(choose) if versions else []

    def _delete(self, choose: Callable[[Pointer], list[str]]) -> list[str]:
        """Say so in the pointer, look once more, delete, strike it out of the pointer.

        Killed at any moment, the next one goes on: what is marked cannot be put into service.
        """
        chosen: list[str] = []

        def mark(pointer: Pointer) -> Pointer:
            chosen[:] = choose(pointer)
            return pointer.marked((*chosen, *self.place.abandoned()))

        marked = self.place.update(mark)
        again = choose(marked)
        spared = tuple(
            v for v in chosen if v not in again
        )  # somebody began to use them before they were marked
        if spared:
            marked = self.place.update(lambda pointer: pointer.spared(spared))
        self.place.delete(marked.removing)
        self.place.update(lambda p: p.without(marked.removing, forever=not self.place.reuses_names))
        return [v for v in chosen if v not in spared]

    def _created_at(self, version: str) -> str | None:
        try:
            return str(self._json(version, MANIFEST).get("created_at"))
        except ArtefactError:
            return None

    def report(self, version: str) -> bytes | None:
        """The page of a version's evaluation; None where it has none.

        Raises:
            InputError: there is no such version.

        """
        check_known(self.place, self.place.pointer(), version)
        name = BundlePaths(Path()).report.name
        return self.place.read(version, name) if name in self.place.sizes(version) else None

    def _version(self, name: str, current: str | None) -> Version:
        sizes, paths = self.place.sizes(name), BundlePaths(Path())
        n_bytes, has_report = sum(sizes.values()), paths.report.name in sizes
        try:
            manifest = check_manifest(self._json(name, MANIFEST), self.place.where(name))
            metrics = self._json(name, paths.metrics.name)
        except ArtefactError as e:
            return Version(name, name == current, str(e), {}, {}, has_report=False, n_bytes=n_bytes)
        problem = self._problem(name, manifest, sizes)
        return Version(name, name == current, problem, manifest, metrics, has_report, n_bytes)

    def _problem(self, version: str, manifest: dict[str, Any], sizes: dict[str, int]) -> str | None:
        """What can be told without reading gigabytes: a file that is missing or of another length."""
        where = self.place.where(version)
        try:
            for name, expected in manifest["files"].items():
                check_size(f"{where}/{name}", sizes.get(name), expected)
        except ArtefactError as e:
            return str(e)
        return None

    def _json(self, version: str, name: str) -> dict[str, Any]:
        where = f"{self.place.where(version)}/{name}"
        try:
            found = json.loads(self.place.read(version, name))
        except ValueError as e:
            raise ArtefactError(f"{where} is not JSON: {e}. Build again or roll back.") from e
        if not isinstance(found, dict):
            raise ArtefactError(
                f"{where} is no manifest or no metrics of a bundle. Build again or roll back."
            )
        return found
