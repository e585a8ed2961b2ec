"""The files of a data set, in a folder or in the zip as it was published.

A zip is never unpacked to disk: members are read where they are, so no name in it can point anywhere, and no more
is read than the directory of the zip declares, which is looked at first.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from pipelines.core.errors import InputError

_MAX_MEMBERS = 10_000
_MAX_BYTES = 64 << 30
"""Of one file, unpacked; the largest that is published (MovieLens 32M) has less than one."""
_MAX_RATIO = 200
"""Unpacked to packed; ratings have about 5."""
_SMALL = 64 << 20
"""Up to so many bytes no ratio is suspicious."""


class Files(Protocol):
    """Named files that can be read."""

    where: str
    """For messages."""

    def names(self) -> list[str]:
        """Paths relative to the root, with slashes, sorted."""

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file as a stream of bytes."""


class FolderFiles:
    """A folder and what is in it, two levels deep."""

    def __init__(self, root: Path) -> None:
        """Look at `root`."""
        self.where, self._root = str(root), root

    def names(self) -> list[str]:
        """Paths of all files."""
        found = [*self._root.glob("*"), *self._root.glob("*/*")]
        shown = (p.relative_to(self._root) for p in found if p.is_file())
        return sorted(p.as_posix() for p in shown if not any(part.startswith(".") for part in p.parts))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self._root / name).stat().st_size

    def open(self, name: str) -> IO[bytes]:
        """A file as a stream of bytes."""
        return (self._root / name).open("rb")


class ZipFiles:
    """A zip and what is in it."""

    def __init__(self, path: Path) -> None:
        """Read the directory of the zip.

        Raises:
            InputError: no zip, cut short, or made to do harm.

        """
        self.where = str(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as e:
            raise InputError(f"{path} is no whole zip: {e}. Download it again.") from e
        members = self._archive.infolist()
        if len(members) > _MAX_MEMBERS:
            raise InputError(
                f"{path} holds {len(members)} files, more than {_MAX_MEMBERS}: no data set that is known here."
            )
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or (name.parts and name.parts[0].endswith(":")):
                raise InputError(
                    f"{path} holds a file named {member.filename!r}, which points out of the archive. Nothing was "
                    "read; get it from its publisher."
                )
        self._members = {m.filename: m for m in members if not m.is_dir()}

    def names(self) -> list[str]:
        """Paths of all files."""
        return sorted(self._members)

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked, as the zip declares them."""
        return self._members[name].file_size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file as a stream of bytes, no more of them than were declared.

        Raises:
            InputError: the file is locked, damaged, or far too large for what it is made of.

        """
        member = self._members[name]
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > _MAX_BYTES or (member.file_size > _SMALL and ratio > _MAX_RATIO):
            raise InputError(
                f"{self.where}: {name} has {member.compress_size} bytes that unpack to {member.file_size}, more than "
                f"is believed (at most {_MAX_BYTES >> 30} GiB and {_MAX_RATIO} times as many). It looks like a zip "
                "bomb; nothing was read."
            )
        if member.flag_bits & 1:
            raise InputError(f"{self.where}: {name} is encrypted. Unpack it, and give the folder.")
        try:
            with self._archive.open(member) as handle:
                yield handle
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as e:
            raise InputError(f"{self.where}: {name} cannot be unpacked: {e}. Download the zip again.") from e


def open_files(path: Path) -> FolderFiles | ZipFiles:
    """The files of a folder or of a zip."""
    return FolderFiles(path) if path.is_dir() else ZipFiles(path)
