"""The store of a service, for commands that ask it or change it from beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import ServeConfig, load_config
from pipelines.core.layout import Layout
from serving.store.store import Store, open_store, store_url


@contextmanager
def store_of(out: Path, config: Path | None) -> Iterator[tuple[Store, ServeConfig]]:
    """The store that `kindling serve` with the same arguments uses, and the settings of that service.

    Args:
        out: directory of the build.
        config: TOML file; None: as the version in service was built.

    Raises:
        ArtefactError: nothing is published there, or the store cannot be opened.

    """
    layout = Layout(out.resolve())
    settings = load_config(config or BundlePaths(layout.bundle(current_version(layout))).config).serve
    store = open_store(store_url(settings.store, layout.root))
    try:
        yield store, settings
    finally:
        store.close()
