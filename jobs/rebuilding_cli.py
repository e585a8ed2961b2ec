"""The command `kindling rebuild`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import ConfigOption, OutOption
from jobs.stopping import terminate_cleanly
from pipelines.core.config import load_config


def rebuild(
    data: Annotated[str, typer.Option("--data", help="Folder, s3:// or gs:// address of the tables.")],
    out: OutOption,
    config: ConfigOption = None,
    full: Annotated[
        bool | None,
        typer.Option(
            "--full/--warm",
            help="Start factors from nothing, or from those in service; absent: every rebuild.full_every_days.",
        ),
    ] = None,
) -> None:
    """Build what came since, and publish it if it is no worse than the version in service; else exit status 7."""
    from jobs.rebuilding import print_rebuilt
    from jobs.rebuilding import rebuild as run_rebuild
    from pipelines.cluster import shutdown
    from pipelines.progress import Progress

    settings = load_config(config)
    with terminate_cleanly():
        try:
            found = run_rebuild(settings, data, out.resolve(), full=full, progress=Progress(settings.logs))
        finally:
            shutdown()
    print_rebuilt(found, out)
