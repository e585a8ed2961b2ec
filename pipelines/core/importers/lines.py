"""Text files line by line, plain or gzipped, however large, in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipelines.core.errors import InputError

MAX_LINE = 16 << 20
"""Bytes; a line that is longer is no record."""


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


def read_lines(handle: IO[bytes], path: Path) -> Iterator[bytes]:
    """Lines without their ends, blank ones left out.

    Raises:
        InputError: a line of more than `MAX_LINE` bytes.

    """
    while line := handle.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise InputError(
                f"{path} has a line of more than {MAX_LINE} bytes. Is it a text file of one record a line?"
            )
        if line := line.strip():
            yield line
