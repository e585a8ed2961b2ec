"""A finished stage's marker: written last, and believed only while the files it names are there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.storage import digest_files, read_json, write_json


def read_marker(layout: Layout, name: str) -> dict[str, Any] | None:
    """The marker, or None where there is none or it is not one (half a disk, another version)."""
    try:
        marker = read_json(layout.marker(name))
    except ArtefactError:
        return None
    return marker if _is_marker(marker) and _files_are_there(layout.stage(name), marker["files"]) else None


def _is_marker(marker: object) -> bool:
    expected = {"fingerprint", "seconds", "summary", "output", "files"}
    return isinstance(marker, dict) and expected <= marker.keys()


def _files_are_there(root: Path, files: dict[str, int]) -> bool:
    """Whether what a stage wrote still has the sizes it had; a part that somebody removed is made again."""
    return all(
        (root / name).is_file() and (root / name).stat().st_size == size for name, size in files.items()
    )


def write_marker(
    layout: Layout, name: str, fingerprint: str, seconds: float, summary: dict[str, object]
) -> None:
    """Mark a stage as done, with the sizes of its files and a hash of what they hold."""
    root = layout.stage(name)
    root.mkdir(parents=True, exist_ok=True)
    files = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith((".", "_DONE"))]
    marker = {
        "fingerprint": fingerprint,
        "files": {str(p.relative_to(root)): p.stat().st_size for p in files},
        "output": digest_files(files, root),
        "seconds": seconds,
        "summary": summary,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(layout.marker(name), marker)
