"""Which published versions running experiments try: those are not to be deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.core.layout import Layout
from serving.store.connecting import store_url
from serving.store.experiments import Experiment
from serving.store.store import open_store


def versions_in_use(running: Iterable[Experiment]) -> dict[str, list[str]]:
    """Each version that some variant names, with the experiments it is in."""
    found: dict[str, list[str]] = {}
    for experiment in running:
        named = [v.settings.version for v in experiment.definition.variants]
        for version in sorted({version for version in named if version is not None}):
            found.setdefault(version, []).append(experiment.name)
    return found


def in_use_by_store(layout: Layout, setting: str) -> dict[str, list[str]]:
    """The same, of the store that a service with this `serve.store` has; nothing where there is no store yet.

    Raises:
        ArtefactError: the store cannot be read: then nobody knows what is in use.
        ConfigError: the setting names none.

    """
    url = store_url(setting, layout.root)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        return {}
    store = open_store(url)
    try:
        return versions_in_use(store.experiments.running())
    finally:
        store.close()
