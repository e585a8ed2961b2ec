"""A published version that stays under its name without something it knew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from pipelines.core.bundle import BundlePaths, check_bundle, finish_directory, write_manifest
from pipelines.core.layout import Layout


def rewrite(
    layout: Layout, version: str, replaced: Collection[Path], write: Callable[[BundlePaths], None]
) -> None:
    """Put a version in the place of itself, some of its files written anew; for who holds `Folder.changing`.

    It is made whole under another name first, so that a process killed in between leaves one of the two.

    Args:
        layout: of the build.
        version: which.
        replaced: its files that `write` writes; the others are the same files under another name.
        write: puts them where it is told to.

    Raises:
        ArtefactError: the version is not whole.

    """
    old = BundlePaths(layout.bundle(version))
    manifest = check_bundle(old.root)
    new = BundlePaths(layout.bundles / f".{version}.forget.tmp")
    shutil.rmtree(new.root, ignore_errors=True)
    for name in manifest["files"]:
        if old.root / name not in replaced:
            _link(old.root / name, new.root / name)
    write(new)
    # the rest of it is what it was: its schema, too
    write_manifest(new, version, {name: fact for name, fact in manifest.items() if name != "files"})
    _exchange(layout, version, new.root)


def _link(path: Path, other: Path) -> None:
    """The same file under another name, or a copy where the file system has no such thing."""
    other.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _exchange(layout: Layout, version: str, new: Path) -> None:
    doomed = layout.bundles / f".{version}.forget.old"
    layout.bundle(version).rename(doomed)
    finish_directory(new, layout.bundle(version))
    shutil.rmtree(doomed)


def finish_exchanges(layout: Layout) -> None:
    """What a process left that was killed: a version that is away comes back, what was to be removed is."""
    for doomed in layout.bundles.glob(".*.forget.old"):
        place = layout.bundle(doomed.name.removeprefix(".").removesuffix(".forget.old"))
        if not place.exists():
            doomed.rename(place)
        else:
            shutil.rmtree(doomed)
    for half in layout.bundles.glob(".*.forget.tmp"):
        shutil.rmtree(half)
