"""A published version: what is in its directory, how it is finished and how it is checked.

Safetensors, Parquet and JSON only, nothing that could run code when loaded. `manifest.json` is written last
and holds the size and checksum of every other file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.core.errors import ArtefactError
from pipelines.core.layout import Layout
from pipelines.core.pointer import Pointer, parse_pointer
from pipelines.core.storage import digest_file, read_json, write_json

SCHEMA_VERSION = 3
"""Raised when an older program could not read a newer bundle: a new setting is enough, `config.toml` lies in it."""
OLDEST_SCHEMA = 2
"""That this program reads: what bundles of an older schema lack, settings and facts of the manifest, has defaults."""
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class BundlePaths:
    """Files of one bundle."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Version, checksums, counts, fingerprints."""
        return self.root / MANIFEST

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
        """Safetensors: `factors` (U, F), `own_texts` (U, E'), history as `indptr`, `indices`, `weights`, `kinds`.

        Kinds of events are bits, see `core.kinds`; bundles of before do not have them.
        """
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


def write_manifest(paths: BundlePaths, version: str, facts: Mapping[str, object]) -> None:
    """Finish a bundle: checksums of all its files, written last. `facts` go before what would be written otherwise."""
    files = sorted(p for p in paths.root.rglob("*") if p.is_file() and p != paths.manifest)
    listed = {
        str(p.relative_to(paths.root)): {"bytes": p.stat().st_size, "blake2b": digest_file(p)} for p in files
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
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


def check_bundle(root: Path, version: str | None = None) -> dict[str, Any]:
    """The manifest of a bundle whose files are all there and whole.

    Args:
        root: of the bundle.
        version: that it must be; None: the one its folder is named after.

    Raises:
        ArtefactError: names the file and what is wrong with it.

    """
    paths = BundlePaths(root)
    manifest = check_manifest(read_json(paths.manifest), str(root))
    expected_version = root.name if version is None else version
    if manifest["version"] != expected_version:  # under another name it would be loaded again and again
        raise ArtefactError(
            f"{paths.manifest} is of version {manifest['version']!r}, expected {expected_version!r}. "
            "Build again or roll back."
        )
    for name, expected in manifest["files"].items():
        path = root / name
        check_size(str(path), path.stat().st_size if path.is_file() else None, expected)
        check_digest(str(path), digest_file(path), expected)
    return manifest


def check_manifest(manifest: object, root: str) -> dict[str, Any]:
    """A manifest that this program can make use of.

    Args:
        manifest: JSON.
        root: of its bundle, for the message.

    Raises:
        ArtefactError: it is none, or of another program; or it names files outside its bundle.

    """
    schema = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or schema is None:
        raise ArtefactError(f"{root}/{MANIFEST} is no manifest of a bundle. Build again or roll back.")
    if not isinstance(schema, int) or not OLDEST_SCHEMA <= schema <= SCHEMA_VERSION:
        newer = isinstance(schema, int) and schema > SCHEMA_VERSION
        reads = f"{root} has schema version {schema}, this program reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}"
        raise ArtefactError(
            f"{reads}: a newer Kindling made it. Install that, or put an older version into service."
            if newer
            else f"{reads}. Use the Kindling that built it, or build again."
        )
    if not _is_manifest(manifest):
        raise ArtefactError(f"{root}/{MANIFEST} is no manifest of a bundle. Build again or roll back.")
    for name, expected in manifest["files"].items():
        if (
            not _is_inside(name)
            or not isinstance(expected, dict)
            or not {"bytes", "blake2b"} <= expected.keys()
        ):
            raise ArtefactError(
                f"{root}/{MANIFEST} has an unusable file {name[:80]!r}. Build again or roll back."
            )
    return manifest


def _is_manifest(document: dict[str, Any]) -> bool:
    """Whether what people and the service read of it is there."""
    try:
        datetime.fromisoformat(document["created_at"])
    except (KeyError, TypeError, ValueError):
        return False
    is_named = isinstance(document.get("version"), str) and isinstance(document.get("model", ""), str)
    return is_named and isinstance(document.get("files"), dict)


def _is_inside(name: str) -> bool:
    """Whether a name leads to a file of the bundle itself: what came over a network must not name others."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def check_size(where: str, found: int | None, expected: Mapping[str, Any]) -> None:
    """See that a file is there with the length of its manifest.

    Raises:
        ArtefactError: it is not.

    """
    if found != expected["bytes"]:
        raise ArtefactError(
            f"{where} is missing or not {expected['bytes']} bytes long. Build again or roll back."
        )


def check_digest(where: str, found: str, expected: Mapping[str, Any]) -> None:
    """See that a file holds what its manifest says.

    Raises:
        ArtefactError: it does not.

    """
    if found != expected["blake2b"]:
        raise ArtefactError(f"{where} does not have the checksum of its manifest. Build again or roll back.")


def current_version(layout: Layout) -> str:
    """The version in service.

    Raises:
        ArtefactError: nothing has been published here, or the pointer leads nowhere.

    """
    if not layout.current.exists():
        raise ArtefactError(
            f"{layout.root} holds no published build: {layout.current} is not there. Run `kindling build` first."
        )
    version = parse_pointer(read_json(layout.current), str(layout.current)).version
    if version is None or not BundlePaths(layout.bundle(version)).manifest.is_file():
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


def read_pointer(layout: Layout) -> Pointer:
    """What is in service here; what cannot be read counts as nothing.

    Raises:
        ArtefactError: a newer program wrote it.

    """
    try:
        document = read_json(layout.current)
    except ArtefactError:
        return Pointer()
    return parse_pointer(document, str(layout.current))


def write_pointer(layout: Layout, pointer: Pointer) -> None:
    """Put a version into service: the pointer first, then the copy of its metrics beside it.

    The caller holds the lock of `core.registry.folder`, where others may change it too.
    """
    write_json(layout.current, pointer.document())
    if pointer.version is not None:
        write_json(layout.metrics, read_json(BundlePaths(layout.bundle(pointer.version)).metrics))


def point_current(layout: Layout, version: str, how: str = "publish") -> None:
    """Put a whole version into service, as `write_pointer` does."""
    write_pointer(layout, read_pointer(layout).promoted(version, how))
