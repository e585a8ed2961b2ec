"""A published version: what is in its directory, how it is finished and how it is checked.

Safetensors, Parquet and JSON only, nothing that could run code when loaded. `manifest.json` is written last
and holds the size and checksum of every other file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.storage import digest_file, read_json, write_json

_MOST_EARLIER = 20
"""Versions that were in service, of which the pointer tells."""
SCHEMA_VERSION = 2
"""Raised when an older program could not read a newer bundle."""


@dataclass(frozen=True)
class BundlePaths:
    """Files of one bundle."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Version, checksums, counts, fingerprints."""
        return self.root / "manifest.json"

    @property
    def config(self) -> Path:
        """The whole configuration it was built with, as TOML with comments."""
        return self.root / "config.toml"

    @property
    def metrics(self) -> Path:
        """Figures of the build, the same file as `metrics.json` of the output directory."""
        return self.root / "metrics.json"

    @property
    def report(self) -> Path:
        """The same as a self-contained HTML page; absent from bundles of older versions."""
        return self.root / "report.html"

    @property
    def items(self) -> Path:
        """Parquet: id, text, metadata, `is_hidden`, `n_interactions`, `n_wanted` of each item, in row-number order.

        With attributes, of each a column of tags and one `<attribute>_confidence`.
        """
        return self.root / "items.parquet"

    @property
    def users(self) -> Path:
        """Parquet: the ids of the users, in row-number order, and `forgotten_at` of who came back after that."""
        return self.root / "users.parquet"

    @property
    def item_arrays(self) -> Path:
        """Safetensors: `factors` (I, F) and `profiles` (I, E'): E text columns, then the extra blocks."""
        return self.root / "item_arrays.safetensors"

    @property
    def user_arrays(self) -> Path:
        """Safetensors: `factors` (U, F), `own_texts` (U, E'), history as `indptr`, `indices`, `weights`."""
        return self.root / "user_arrays.safetensors"

    @property
    def text_maps(self) -> Path:
        """Safetensors: the maps A and B (E' + 1, F), the text means (E,), the gramians (F, F)."""
        return self.root / "text_maps.safetensors"

    @property
    def lexical(self) -> Path:
        """Parquet: terms, idf and directions of the lexical vectors; without rows where there are none."""
        return self.root / "lexical.parquet"

    @property
    def item_index(self) -> Path:
        """Graph over the items' vectors, see `core.index`; absent where all of them are screened (`serve.index`)."""
        return self.root / "item_index.usearch"

    @property
    def encoder(self) -> Path:
        """Weights and tokenizer when the encoder is a folder of the user's own; else absent."""
        return self.root / "encoder"


def write_manifest(
    paths: BundlePaths, version: str, facts: Mapping[str, object], created_at: str | None = None
) -> None:
    """Finish a bundle: checksums of all its files, written last."""
    files = sorted(p for p in paths.root.rglob("*") if p.is_file() and p != paths.manifest)
    listed = {
        str(p.relative_to(paths.root)): {"bytes": p.stat().st_size, "blake2b": digest_file(p)} for p in files
    }
    created = created_at or datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        paths.manifest,
        {
            "schema_version": SCHEMA_VERSION,
            "version": version,
            "created_at": created,
            **facts,
            "files": listed,
        },
    )


def check_bundle(root: Path) -> dict[str, Any]:
    """The manifest of a bundle whose files are all there and whole.

    Raises:
        ArtefactError: names the file and what is wrong with it.

    """
    paths = BundlePaths(root)
    manifest: dict[str, Any] = read_json(paths.manifest)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ArtefactError(f"{paths.manifest} is no manifest of a bundle. Build again or roll back.")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ArtefactError(
            f"{root} has schema version {manifest.get('schema_version')}, this program reads {SCHEMA_VERSION}. "
            "Use the Kindling that built it, or build again."
        )
    if manifest.get("version") != root.name:  # a copy under another name would be loaded again and again
        raise ArtefactError(
            f"{paths.manifest} is of version {manifest.get('version')!r}, expected that of its folder, {root.name!r}. "
            "Build again or roll back."
        )
    for name, expected in manifest["files"].items():
        path = root / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            raise ArtefactError(
                f"{path} is missing or not {expected['bytes']} bytes long. Build again or roll back."
            )
        if digest_file(path) != expected["blake2b"]:
            raise ArtefactError(
                f"{path} does not have the checksum of its manifest. Build again or roll back."
            )
    return manifest


def current_version(layout: Layout) -> str:
    """The version in service.

    Raises:
        ArtefactError: nothing has been published here, or the pointer leads nowhere.

    """
    if not layout.current.exists():
        raise ArtefactError(
            f"{layout.root} holds no published build: {layout.current} is not there. Run `kindling build` first."
        )
    pointer = read_json(layout.current)
    version = pointer.get("version") if isinstance(pointer, dict) else None
    if not isinstance(version, str) or not BundlePaths(layout.bundle(version)).manifest.is_file():
        raise ArtefactError(
            f"{layout.current} points to {version!r}, which is not in {layout.bundles}. Build again."
        )
    return version


def finish_directory(temporary: Path, final: Path) -> None:
    """Give a complete directory its name; its files are on the disk before anything can find them."""
    for path in temporary.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def earlier_versions(layout: Layout) -> list[str]:
    """What was in service before the version that is, the last one first; empty where nobody wrote it down."""
    pointer = _pointer(layout)
    earlier = pointer.get("earlier")
    return [v for v in earlier if isinstance(v, str)] if isinstance(earlier, list) else []


def _pointer(layout: Layout) -> dict[str, Any]:
    try:
        pointer = read_json(layout.current)
    except ArtefactError:
        return {}
    return pointer if isinstance(pointer, dict) else {}


def point_current(layout: Layout, version: str, earlier: Sequence[str] | None = None) -> None:
    """Put a version into service: the pointer first, then the copy of its metrics beside it.

    Args:
        layout: whose caller holds `core.versions.changing_current`, where others may change it too.
        version: a whole one.
        earlier: what was in service before, the last one first; None: the version in service, and what was before it.

    """
    paths = BundlePaths(layout.bundle(version))
    relative = str(paths.metrics.relative_to(layout.root))
    if earlier is None:
        was, earlier = _pointer(layout).get("version"), earlier_versions(layout)
        earlier = [was, *earlier] if isinstance(was, str) and was != version else earlier
    pointer = {"version": version, "metrics": relative, "earlier": list(earlier)[:_MOST_EARLIER]}
    write_json(layout.current, pointer)
    write_json(layout.metrics, read_json(paths.metrics))
