"""Published versions in an output directory: one writer at a time, by a lock that dies with its process."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.core.bundle import (
    MANIFEST,
    BundlePaths,
    check_bundle,
    finish_directory,
    read_pointer,
    write_pointer,
)
from pipelines.core.errors import ArtefactError, BusyError, InputError
from pipelines.core.layout import Layout
from pipelines.core.pointer import Pointer
from pipelines.core.registry.place import VERSION_NAME
from pipelines.core.storage import read_json

WAIT_SECONDS = 10.0
_ABANDONED_SECONDS = 86400.0
"""After which a copy that is not finished was killed."""


class Folder:
    """A `Place` on a file system."""

    reuses_names = True

    def __init__(self, layout: Layout) -> None:
        """Over the versions of an output directory; nothing is made yet."""
        self.layout = layout

    def __str__(self) -> str:
        """The directory of the versions."""
        return str(self.layout.bundles)

    def where(self, version: str) -> str:
        """The directory of one."""
        return str(self.layout.bundle(version))

    @contextmanager
    def changing(self, seconds: float | None = None) -> Iterator[None]:
        """Be the only one who changes what is in service, or removes versions.

        Raises:
            BusyError: another still does, after so many seconds.

        """
        self.layout.root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.layout.current_lock, timeout=WAIT_SECONDS if seconds is None else seconds):
                yield
        except Timeout as e:
            raise BusyError(
                f"{self.layout.current_lock} is held: another change of what is in service is under way. Try again."
            ) from e

    def names(self) -> list[str]:
        """Of all directories, broken ones among them: somebody has to see those."""
        if not self.layout.bundles.is_dir():
            return []
        found = [
            p.name for p in self.layout.bundles.iterdir() if VERSION_NAME.fullmatch(p.name) and p.is_dir()
        ]
        return sorted(found, reverse=True)

    def has(self, version: str) -> bool:
        """Whether the manifest is there."""
        return BundlePaths(self.layout.bundle(version)).manifest.is_file()

    def read(self, version: str, name: str) -> bytes:
        """The bytes of a file."""
        path = self.layout.bundle(version) / name
        try:
            return path.read_bytes()
        except OSError as e:
            raise ArtefactError(f"{path} cannot be read: {e.strerror}. Build again or roll back.") from e

    def sizes(self, version: str) -> dict[str, int]:
        """Lengths of its files."""
        root = self.layout.bundle(version)
        return {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file()}

    def check(self, version: str) -> dict[str, Any]:
        """All files read."""
        return check_bundle(self.layout.bundle(version))

    def pointer(self) -> Pointer:
        """`CURRENT`."""
        return read_pointer(self.layout)

    def update(self, change: Callable[[Pointer], Pointer]) -> Pointer:
        """Under the lock."""
        with self.changing():
            pointer = change(self.pointer())
            write_pointer(self.layout, pointer)
            return pointer

    def push(self, version: str, root: Path) -> None:
        """A copy, under a temporary name until it is whole. The same bundle again is no change."""
        final = self.layout.bundle(version)
        if self.has(version):
            if read_json(final / MANIFEST) != read_json(root / MANIFEST):
                raise InputError(f"{self} has another bundle of the name '{version}'. Build again.")
            if final.samefile(root) or check_bundle(final):
                return
        temporary = self._hidden(version, "tmp")
        shutil.copytree(root, temporary)
        check_bundle(temporary, version)
        with self.changing():
            finish_directory(temporary, final)

    def fetch(self, version: str, root: Path) -> None:
        """A copy of what its manifest names."""
        source = self.layout.bundle(version)
        manifest = check_bundle(source)
        for name in (*manifest["files"], MANIFEST):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, root / name)
        check_bundle(root, version)

    def abandoned(self) -> list[str]:
        """None: what is not whole lies under hidden names."""
        return []

    def delete(self, versions: Sequence[str]) -> None:
        """Each vanishes by a rename and is deleted afterwards, with what killed pushes and removals have left."""
        for version in versions:
            with suppress(FileNotFoundError):
                self.layout.bundle(version).rename(self._hidden(version, "deleted"))
        for leftover in [*self.layout.bundles.glob(".*.deleted"), *self.layout.bundles.glob(".*.tmp")]:
            with suppress(FileNotFoundError):
                if (
                    leftover.suffix == ".deleted"
                    or time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS
                ):
                    shutil.rmtree(leftover, ignore_errors=True)

    def _hidden(self, version: str, suffix: str) -> Path:
        return self.layout.bundles / f".{version}.{uuid.uuid4().hex[:8]}.{suffix}"
