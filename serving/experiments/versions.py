"""Published versions that answer beside the one in service, for experiments that try one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.core.bundle import BundlePaths
from pipelines.core.layout import Layout
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.mirror import Mirror
from pipelines.core.sections.rules import RulesConfig
from serving.experiments.checking import check_version
from serving.holder import load_version
from serving.live import LiveRecommender
from serving.recommender import Recommender

log = logging.getLogger(__name__)
_NEVER = -1
"""When a version that could not be fetched was changed: it is tried again at every look."""


class OtherVersions:
    """Loads what is wanted, in a thread of its own, and lets go of what is not any more.

    A version that cannot be loaded is refused, once, until its files are other ones.
    """

    def __init__(
        self,
        out: Path,
        current: Callable[[], Recommender],
        live: Callable[[Recommender], LiveRecommender],
        threads: int = 1,
        rules: RulesConfig | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        """Load nothing yet.

        Args:
            out: of the build.
            current: the version in service, whose encoder is shared.
            live: keeps a version up to date with the items that have come since.
            threads: that rank.
            rules: in place of each version's own.
            mirror: brings versions to `out`; None: they are published there.

        """
        self._rules = rules
        self._mirror = mirror
        self._layout = Layout(out)
        self._current = current
        self._live = live
        self._threads = threads
        self._loaded: dict[str, LiveRecommender] = {}
        self._refused: dict[str, tuple[int, str]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._loading: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "kindling-versions")

    def __call__(self, version: str) -> Recommender | None:
        """A version that is wanted, once it is loaded."""
        model = self._current()
        if model.version == version:
            return model
        loaded = self._loaded.get(version)
        return None if loaded is None else loaded()

    def keep(self, wanted: frozenset[str]) -> None:
        """Have these versions and no others; returns at once, and may be called again and again."""
        self._wanted = wanted
        needed = wanted - {self._current().version}
        for version in set(self._loaded) - needed:
            self._thread.submit(self._loaded.pop(version).close)
        for version in needed - self._loaded.keys() - self._loading:
            if self._refused.get(version, (_NEVER, ""))[0] != self._changed_at(version):
                self._loading.add(version)
                self._thread.submit(self._load, version)

    def why_not(self, version: str) -> str:
        """What keeps a wanted version from answering; empty: nothing does."""
        if self(version) is not None:
            return ""
        return self._refused.get(version, (0, f"version {version} is being loaded"))[1]

    def check(self, version: str) -> None:
        """See that a version is there and whole.

        Raises:
            InputError: it is not.

        """
        if self._mirror is not None:
            self._mirror.check(version)
        else:
            check_version(Folder(self._layout), version)

    def _load(self, version: str) -> None:
        changed_at = _NEVER
        try:
            if self._mirror is not None:
                self._mirror.fetch(version)
            changed_at = self._changed_at(version)
            model = load_version(self._layout, version, self._threads, self._current(), self._rules)
            log.info("version %s is loaded beside the one in service, for an experiment", version)
            self._refused.pop(version, None)
            if version in self._wanted:
                self._loaded[version] = self._live(model)
        # whatever is wrong with it, the service goes on
        except Exception as e:
            self._refused[version] = changed_at, str(e)
            log.error("version %s is refused, its experiment does not take part: %s", version, e)
        finally:
            self._loading.discard(version)

    def _changed_at(self, version: str) -> int:
        try:
            return BundlePaths(self._layout.bundle(version)).manifest.stat().st_mtime_ns
        except OSError:
            return 0
