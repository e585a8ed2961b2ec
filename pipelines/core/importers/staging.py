"""Where an import works until it is done: steps that are not done twice, and a folder that appears whole.

Beside the destination DIR, `.DIR.FINGERPRINT.importing/` has `tables/`, which becomes DIR by being renamed, and
`steps/NAME.json`, written when a step is done. Killed at any moment, an import leaves DIR as it was; run again, it
goes on behind the last step that was finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.core.errors import ArtefactError, BusyError, ConfigError
from pipelines.core.storage import read_json, write_json, write_text

RECORD = "import.json"
"""In the folder of an import: from what it was made, what was left out."""
CONFIG = "kindling.toml"
"""In the folder of an import: the configuration to build it with."""
_FORMAT = 1
"""Of what importers write; raise it when the same sources give other tables."""


def fingerprint(importer: str, sources: Mapping[str, Path], options: Mapping[str, object]) -> str:
    """Hash of what an import depends on: sources with size and time of change, and options."""
    files = []
    for path in sources.values():
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files += [(str(p.relative_to(path.parent)), p.stat().st_size, p.stat().st_mtime_ns) for p in inside]
    said = json.dumps([_FORMAT, importer, files, dict(options)], sort_keys=True, default=str)
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()


class Staging:
    """The work of one import."""

    def __init__(self, destination: Path, print_: str) -> None:
        """Work for `destination` on what `print_` is the fingerprint of."""
        self.destination, self.fingerprint = destination, print_
        self._root = destination.parent / f".{destination.name}.{print_}.importing"
        self.tables = self._root / "tables"
        """Becomes the destination."""
        self.scratch = self._root / "scratch"
        """Is thrown away."""

    def begin(self) -> None:
        """Make room; what other imports to the same place have left is removed."""
        for ending in ("importing", "old"):
            for other in self.destination.parent.glob(f".{self.destination.name}.*.{ending}"):
                if other != self._root:
                    shutil.rmtree(other)
        self.tables.mkdir(parents=True, exist_ok=True)
        for unfinished in self.tables.rglob(".*"):  # what a kill left of files that were being written
            unfinished.unlink()

    def once(self, step: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `work` returns, or returned before the import was killed."""
        done = self._root / "steps" / f"{step}.json"
        if done.is_file():
            return dict(read_json(done))
        result = work()
        write_json(done, result)
        return result

    def fresh_scratch(self, name: str) -> Path:
        """An empty folder for one step; what a killed one has left is gone."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, record: dict[str, Any], config: str) -> None:
        """Let the tables take the place of the destination."""
        write_text(self.tables / CONFIG, config)
        write_json(self.tables / RECORD, {"fingerprint": self.fingerprint, **record})
        if self.destination.exists():
            doomed = self.destination.parent / f".{self.destination.name}.{uuid.uuid4().hex[:8]}.old"
            self.destination.rename(doomed)
            self.tables.rename(self.destination)
            shutil.rmtree(doomed)
        else:
            self.tables.rename(self.destination)
        self.end()

    def end(self) -> None:
        """Throw away what is left of the work."""
        shutil.rmtree(self._root, ignore_errors=True)


@contextmanager
def staging(destination: Path, print_: str, *, overwrite: bool) -> Iterator[Staging | None]:
    """The place to work, or None where the same import is done already.

    Raises:
        ConfigError: the destination has something else in it.
        BusyError: another import to it is running.

    """
    destination = destination.absolute()
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(destination.parent / f".{destination.name}.import.lock", timeout=0):
            work = Staging(destination, print_)
            if _is_done(destination, print_, overwrite=overwrite):
                work.end()
                yield None
                return
            work.begin()
            yield work
    except Timeout as e:
        raise BusyError(f"another import to {destination} is running. Wait until it is done.") from e


def _is_done(destination: Path, print_: str, *, overwrite: bool) -> bool:
    if not destination.exists():
        return False
    if not destination.is_dir():
        raise ConfigError(f"--to {destination} is a file. Give a folder that is not there yet.")
    try:
        record = read_json(destination / RECORD)
    except ArtefactError:
        if any(destination.iterdir()):
            raise ConfigError(
                f"--to {destination} has files in it that no import has made. Give a folder that is not there yet."
            ) from None
        return False
    if isinstance(record, dict) and record.get("fingerprint") == print_:
        return True
    if not overwrite:
        raise ConfigError(
            f"--to {destination} has another import in it (of {', '.join(record.get('sources', ['something']))}). "
            "Give another folder, or --overwrite."
        )
    return False
