"""A local copy of what a registry has in service: services load from it, and go on while the registry is away."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from pipelines.core.bundle import BundlePaths, finish_directory
from pipelines.core.config import PublishConfig, load_config
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.place import Place, check_known
from pipelines.core.registry.registry import InUse, Registry
from pipelines.core.registry.retention import Retention

log = logging.getLogger(__name__)


class Mirror:
    """Keeps `OUT/bundles` and `OUT/CURRENT` as a registry has them, with only what is needed of it.

    Several processes may keep the same directory; each version is fetched once.
    """

    def __init__(self, layout: Layout, registry: Place, settings: PublishConfig, in_use: InUse) -> None:
        """Fetch nothing yet.

        Args:
            layout: where the copies go.
            registry: that decides what is in service.
            settings: how many versions stay here, and whether they may bring code.
            in_use: versions that stay as well.

        """
        self._layout = layout
        self._registry = registry
        self._local = Folder(layout)
        self._retention = Retention(settings.keep, settings.keep_days)
        self._allows_code = settings.allow_code
        self._in_use = in_use
        self._whole: set[str] = set()

    def refresh(self) -> None:
        """Put into service here what is there, once every byte of it has come.

        Raises:
            ArtefactError: nothing is in service there, it cannot be reached, or what came is not whole.

        """
        there = self._registry.pointer()
        if there.version is None:
            raise ArtefactError(f"{self._registry}: nothing is in service. `kindling build` publishes there.")
        self.fetch(there.version)
        earlier = tuple(version for version in there.earlier if self._local.has(version))
        there = replace(there, earlier=earlier, removing=(), removed=())
        before = self._local.pointer()
        if before == there:
            return
        self._local.update(lambda _pointer: there)
        local, known = Registry(self._local), self._registry.names()
        # of what came from there: a version that a build is about to bring there is none of it
        followed = {before.version, *before.earlier}
        deleted = [name for name in followed if name and name not in known]  # they may know who was forgotten
        for name in (*local.remove(deleted, self._in_use), *local.prune(self._retention, self._in_use)):
            self._whole.discard(name)

    def fetch(self, version: str) -> None:
        """Have a version here.

        Raises:
            ArtefactError: it is not there, cannot be reached, or what came is not whole.

        """
        if version in self._whole and self._local.has(version):
            return
        self._layout.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._layout.fetch_lock):
            if not self._is_whole(version):
                self._bring(version)
        self._whole.add(version)

    def check(self, version: str) -> None:
        """See that a version can be fetched.

        Raises:
            InputError: there is no such version.

        """
        check_known(self._registry, self._registry.pointer(), version)

    def _is_whole(self, version: str) -> bool:
        try:
            self._local.check(version)
        except ArtefactError:
            return False
        return True

    def _bring(self, version: str) -> None:
        log.info("version %s is fetched from %s", version, self._registry)
        temporary = self._layout.bundles / f".{version}.fetch.tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed; the lock is ours
        temporary.mkdir(parents=True)
        try:
            self._registry.fetch(version, temporary)
            self._check_code(version, temporary)
            finish_directory(temporary, self._layout.bundle(version))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _check_code(self, version: str, root: Path) -> None:
        """See that a version does not run code of its own here, unless that is wanted.

        Raises:
            ArtefactError: it does.

        """
        if load_config(BundlePaths(root).config).encoder.trust_remote_code and not self._allows_code:
            raise ArtefactError(
                f"version {version} in {self._registry} has an encoder that brings Python code "
                "(encoder.trust_remote_code). If you trust who published it, set publish.allow_code = true in the "
                "--config of this service."
            )
