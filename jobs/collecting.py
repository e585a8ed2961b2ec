"""What a build takes from the service: whom to forget, and what it was told until now."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jobs.forgetting import note_forgotten
from pipelines.core.collected import Collected, write_collected
from pipelines.core.config import Config
from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from serving.store.connecting import store_url
from serving.store.snapshot import read_snapshot


def collect(config: Config, layout: Layout) -> Collected | None:
    """Put what the service's store holds beside the caller's tables; None where no service has been told anything.

    The caller holds the lock of the build.

    Raises:
        ArtefactError: the store is there and cannot be asked.

    """
    note_forgotten(config, layout)  # brings the store's tables up to date, too
    url = store_url(config.serve.store, layout.root)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        shutil.rmtree(layout.collected, ignore_errors=True)
        return None
    try:
        with read_snapshot(url) as snapshot:
            events = snapshot.events() if config.data.service_events else ()
            return write_collected(
                layout,
                snapshot.point,
                {"interactions": events, "users": snapshot.users(), "items": snapshot.items()},
            )
    except SQLAlchemyError as e:  # its own message quotes what is in the store
        raise ArtefactError(
            f"the store {url!r} does not answer: {e.__cause__ or type(e).__name__}. Try again when it does."
        ) from e
