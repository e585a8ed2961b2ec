"""Checksums as the command line gives them, and files compared with them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from pipelines.core.errors import ConfigError, InputError

_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Checksum:
    """What a file's bytes must hash to."""

    kind: Literal["sha256", "md5"]
    digest: str

    def check(self, path: Path, source: str) -> None:
        """Compare a file; `source` is how the caller named it.

        Raises:
            InputError: the file is not the one that was meant.

        """
        found = digest(path, self.kind)
        if found != self.digest:
            raise InputError(
                f"{source}: its {self.kind} is {found}, expected {self.digest}. It is damaged, or another version "
                "than the checksum is of; compare with what its publisher says."
            )


def digest(path: Path, kind: str) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as handle:
        # MD5 is what some publishers give; against accidents it does
        return hashlib.file_digest(handle, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def is_url(source: str) -> bool:
    """Whether a source is to be downloaded."""
    return "://" in source


def file_name(source: str) -> str:
    """The last part of a path or of an address, without anything that a file name cannot have."""
    path = unquote(urlsplit(source).path) if is_url(source) else source
    return re.sub(r"[^\w.+-]", "_", PurePosixPath(path).name).lstrip(".") or "download"


def parse_checksums(
    sources: Sequence[str], sha256: Sequence[str], md5: Sequence[str]
) -> dict[str, list[Checksum]]:
    """The checksums of each source: HEX where there is one source, NAME=HEX where there are more.

    Raises:
        ConfigError: no digest, or of a file that is none of the sources.

    """
    sources = list(dict.fromkeys(sources))
    names = {file_name(source): source for source in sources}
    if len(names) < len(sources) and (sha256 or md5):
        raise ConfigError(
            f"two of the sources have one name, so checksums cannot tell them apart: {', '.join(sources)}. Rename "
            "one, or import from files that you have checked."
        )
    found: dict[str, list[Checksum]] = {source: [] for source in sources}
    options: tuple[tuple[Literal["sha256", "md5"], Sequence[str]], ...] = (("sha256", sha256), ("md5", md5))
    for kind, values in options:
        for value in values:
            name, equals, written = value.rpartition("=")
            if not equals and len(sources) > 1:
                raise ConfigError(
                    f"--{kind} {value}: there are {len(sources)} files; say which, --{kind} NAME=HEX with NAME one "
                    f"of {', '.join(names)}."
                )
            if equals and name not in names:
                raise ConfigError(f"--{kind} {value}: no file is named '{name}', but {', '.join(names)}.")
            if not re.fullmatch(rf"[0-9a-fA-F]{{{_DIGITS[kind]}}}", written):
                raise ConfigError(
                    f"--{kind} {value}: expected {_DIGITS[kind]} hexadecimal digits, got {len(written)} characters."
                )
            found[names[name] if equals else sources[0]].append(Checksum(kind, written.lower()))
    return found
