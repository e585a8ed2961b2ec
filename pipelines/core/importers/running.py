"""An import from sources to a folder with tables, a record and a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.config import Config
from pipelines.core.errors import ConfigError
from pipelines.core.importers.staging import CONFIG, RECORD, Staging, fingerprint, staging
from pipelines.core.importers.tally import Tally
from pipelines.core.short_toml import short_toml
from pipelines.core.storage import read_json


@dataclass(frozen=True)
class Made:
    """What an importer hands back: rows counted, the configuration to build with, what a person should know of it."""

    tallies: Sequence[Tally]
    config: Config
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Imported:
    """A folder that is ready to be built from.

    Attributes:
        destination: the folder.
        record: `import.json`.
        is_new: False where it was there already.

    """

    destination: Path
    record: dict[str, Any]
    is_new: bool

    @property
    def config(self) -> Path:
        """The configuration to build with."""
        return self.destination / CONFIG


def run_import(
    importer: str,
    sources: Mapping[str, Path],
    destination: Path,
    options: Mapping[str, object],
    make: Callable[[Staging], Made],
    *,
    overwrite: bool,
) -> Imported:
    """Let `make` write tables, and put them in place together.

    Args:
        importer: its name.
        sources: where each source lies, by how the caller named it.
        destination: a folder that is not there yet.
        options: what else decides the result.
        make: writes into `Staging.tables`.
        overwrite: take the place of an earlier import.

    Raises:
        ConfigError: the destination is taken, or lies in a source.
        BusyError: another import to it is running.

    """
    for name, path in sources.items():
        if destination.resolve().is_relative_to(path.resolve()):
            raise ConfigError(
                f"--to {destination} lies in {name}, which is read. Give a folder outside of it."
            )
    print_ = fingerprint(importer, sources, options)
    with staging(destination, print_, overwrite=overwrite) as work:
        if work is None:
            return Imported(destination, read_json(destination / RECORD), is_new=False)
        made = make(work)
        record = {
            "importer": importer,
            "sources": list(sources),
            "rows": {t.what: t.as_json() for t in made.tallies},
            "remarks": list(made.remarks),
        }
        command = f"kindling build --data {destination} --config {destination / CONFIG} --out OUT"
        title = f"Made by `kindling data import {importer}` from {', '.join(sources)}."
        work.publish(record, short_toml(made.config, [title, command, *made.remarks]))
        return Imported(destination, record, is_new=True)
