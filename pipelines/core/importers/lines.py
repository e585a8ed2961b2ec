"""Text files line by line, plain or gzipped, however large, in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipelines.core.errors import InputError
from pipelines.core.importers.watching import Advance

MAX_LINE = 16 << 20
"""Bytes; a line that is longer is no record."""


_LINES_PER_LOOK = 10_000


@contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where its name ends in `.gz`.

    Raises:
        InputError: a gzip file that is damaged or ends too early.

    """
    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw) as handle:
                    yield handle  # type: ignore[misc]
            else:
                yield raw
    except EOFError as e:
        raise InputError(f"{path} ends in the middle: it did not come whole. Download it again.") from e
    except (gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{path} cannot be unpacked: {e}. Download it again.") from e


def read_lines(path: Path, advance: Advance | None = None) -> Iterator[bytes]:
    """Lines without their ends, blank ones left out; `advance` is told of megabytes of the file as it is.

    Raises:
        InputError: a line of more than `MAX_LINE` bytes, or what `open_plain` raises.

    """
    told = number = 0
    with open_plain(path) as handle:
        packed = getattr(handle, "fileobj", handle)
        while line := handle.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise InputError(
                    f"{path} has a line of more than {MAX_LINE} bytes. Is it a text file of one record a line?"
                )
            number += 1
            if advance is not None and number % _LINES_PER_LOOK == 0:
                reached = packed.tell() >> 20
                advance(reached - told)
                told = reached
            if line := line.strip():
                yield line
