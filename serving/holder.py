"""The version in service, kept up to date with CURRENT. One object swaps for another, so no answer mixes two."""

from __future__ import annotations

import logging
from pathlib import Path

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.layout import Layout
from pipelines.core.registry.mirror import Mirror
from pipelines.core.sections.rules import RulesConfig
from serving.mirroring import refresh_or_go_on
from serving.recommender import Recommender
from serving.repeating import Repeating
from serving.requests import Request

log = logging.getLogger(__name__)


class CurrentRecommender:
    """Loads the published version, and every later one as it is published.

    A new version is loaded, checked and asked once before it takes the old one's place; one that cannot be
    loaded is refused, once, until it is published again; the old one goes on answering.
    """

    def __init__(
        self,
        out: Path,
        reload_seconds: float,
        threads: int = 1,
        rules: RulesConfig | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        """Load the version in service, then look for newer ones from a thread of its own.

        Args:
            out: of the build.
            reload_seconds: between two looks.
            threads: that rank.
            rules: in place of each version's own.
            mirror: brings what a registry has in service to `out`; None: it is published there.

        Raises:
            ArtefactError: nothing is published, or it is not whole.
            ConfigError: the rules do not fit it.

        """
        self._layout = Layout(out)
        self._threads = threads
        self._rules = rules
        self._mirror = mirror
        self._model = self._load(self._first_version())
        self._refused = ""
        self._complaint = ""
        self.refusals = 0
        """Publications that could not be loaded, so far."""
        self.refuses = False
        """Whether what is published now is refused: what is served is another version."""
        self._looking = Repeating(self.refresh, reload_seconds, "kindling-reload")

    def __call__(self) -> Recommender:
        """The version in service."""
        return self._model

    def close(self) -> None:
        """Stop looking for new versions."""
        self._looking.close()

    def _first_version(self) -> str:
        """What the registry has, or had when it was last heard of."""
        if self._mirror is not None:
            refresh_or_go_on(self._mirror, self._layout)
        return current_version(self._layout)

    def _load(self, version: str, previous: Recommender | None = None) -> Recommender:
        model = load_version(self._layout, version, self._threads, previous, self._rules)
        if previous is not None:
            log.info("version %s takes the place of %s", model.version, previous.version)
        return model

    def refresh(self) -> None:
        """Look once for another version and swap to it if it is sound."""
        publication = ""
        try:
            if self._mirror is not None:
                self._mirror.refresh()
            version = current_version(self._layout)
            publication = self._publication(version)
            if version != self._model.version and publication != self._refused:
                self._model = self._load(version, self._model)
            self._complaint = ""
            self.refuses = version != self._model.version
        # whatever is wrong with what was published, this thread must live to load what comes after
        except Exception as e:
            self.refuses = True
            if str(e) != self._complaint or publication not in ("", self._refused):
                self.refusals += 1
            self._refused = publication or self._refused
            if str(e) != self._complaint:
                log.error("what is published is refused, %s goes on answering: %s", self._model.version, e)
            self._complaint = str(e)

    def _publication(self, version: str) -> str:
        """Names one act of publishing: the same version put right and published again has another name."""
        paths = (self._layout.current, BundlePaths(self._layout.bundle(version)).manifest)
        return " ".join([version, *(str(path.stat().st_mtime_ns) for path in paths)])


def load_version(
    layout: Layout,
    version: str,
    threads: int,
    previous: Recommender | None = None,
    rules: RulesConfig | None = None,
) -> Recommender:
    """Load a version, check it and ask it once.

    Args:
        layout: of the build.
        version: its name.
        threads: that rank.
        previous: in memory. The encoder is the largest thing there: the same one goes on, not loaded beside itself.
        rules: in place of its own.

    Raises:
        ArtefactError: the version is gone or not whole.
        ConfigError: the rules do not fit it.

    """
    root = layout.bundle(version)
    shared = previous.encoder if previous and previous.uses_encoder_of(root) else None
    model = Recommender(root, shared, threads, rules)
    model.recommend(Request(query="warm up", n=1))
    return model
