"""The store of a service, for commands that ask it or change it from beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from pipelines.core.bundle import BundlePaths, current_version
from pipelines.core.config import ServeConfig, load_config
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from serving.store.connecting import store_url
from serving.store.store import Store, open_store


@contextmanager
def store_of(out: Path, config: Path | None) -> Iterator[tuple[Store, ServeConfig]]:
    """The store that `kindling serve` with the same arguments uses, and the settings of that service.

    Args:
        out: directory of the build.
        config: TOML file; None: as the version in service was built.

    Raises:
        ArtefactError: nothing is published there, or the store cannot be opened or does not answer.

    """
    layout = Layout(out.resolve())
    settings = load_config(config or BundlePaths(layout.bundle(current_version(layout))).config).serve
    url = store_url(settings.store, layout.root)
    store = open_store(url)
    try:
        yield store, settings
    except SQLAlchemyError as e:
        # its own message quotes the statement, and with it what is in the store
        raise ArtefactError(
            f"the store {url!r} does not answer: {e.__cause__ or type(e).__name__}. Try again, and see that nobody "
            "else holds it."
        ) from e
    finally:
        store.close()
