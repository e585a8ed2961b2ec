"""Where a service has its versions from, if they are published elsewhere than in its own directory."""

from __future__ import annotations

import logging

from pipelines.core.bundle import current_version
from pipelines.core.config import PublishConfig
from pipelines.core.errors import ArtefactError, KindlingError
from pipelines.core.layout import Layout
from pipelines.core.registry.mirror import Mirror
from pipelines.core.registry.registry import open_place
from serving.experiments.in_use import versions_in_use
from serving.store.store import Store

_ALL = 1_000_000
"""Versions kept by who does not know which are in use."""
log = logging.getLogger(__name__)


def open_mirror(layout: Layout, publish: PublishConfig | None, store: Store) -> Mirror | None:
    """What brings versions to `layout`; None: they are published there."""
    if publish is None or not publish.registry:
        return None
    place = open_place(publish.registry)
    return Mirror(layout, place, publish, lambda: versions_in_use(store.experiments.running()))


def refresh_or_go_on(mirror: Mirror, layout: Layout) -> None:
    """Have what the registry has in service; while it is away, what was fetched last will do.

    Raises:
        ArtefactError: it is away, and nothing was fetched yet.

    """
    try:
        mirror.refresh()
    except KindlingError as e:
        try:
            current_version(layout)
        except ArtefactError:
            raise e from None
        log.warning("the registry is not heard, the version that was fetched last is loaded: %s", e)


def fetch_current(layout: Layout, publish: PublishConfig) -> None:
    """Have a version in `layout` before a service starts there, whose settings are read from it; deletes nothing.

    Raises:
        ArtefactError: the registry is away, and nothing was fetched yet.

    """
    careful = publish.model_copy(update={"keep": _ALL})
    refresh_or_go_on(Mirror(layout, open_place(publish.registry), careful, dict), layout)
