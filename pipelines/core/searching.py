"""Where an id occurs in what a build has written, whatever the format."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.errors import ArtefactError

_TEXT = {".json", ".jsonl", ".toml", ".html", ".txt", ".log", ".csv", ".tsv", ".md", ".yaml", ".xml", ""}
_DATABASE = (".sqlite", ".sqlite-wal", ".sqlite-shm")
"""Asked by their tables: an id that is part of another cannot be told apart in their bytes."""


def find_in_files(root: Path, wanted: str) -> Iterator[tuple[Path, str]]:
    """Files below `root` that hold an id, and where in them.

    Parquet is read column by column, the index of lists too; texts are searched for the id as a word of its own; all
    else for the id in quotation marks, as headers have it. Databases are left to who can ask them.

    Args:
        root: a directory.
        wanted: the id.

    Yields:
        Path, and what to look at in it.

    Raises:
        ArtefactError: a file cannot be read, so nobody can say what it holds.

    """
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        if path.name.endswith(_DATABASE):
            continue
        try:
            place = _find(path, wanted)
        except FileNotFoundError:  # removed meanwhile
            continue
        except (OSError, pa.ArrowException) as e:
            raise ArtefactError(f"{path} cannot be searched: {e}. Remove it, or build again.") from e
        if place is not None:
            yield path, place


def _find(path: Path, wanted: str) -> str | None:
    if path.suffix == ".parquet":
        return _find_in_columns(path, wanted)
    if path.suffix in _TEXT:
        word = re.compile(rf"(?<![\w.-]){re.escape(wanted)}(?![\w-])")
        with path.open(encoding="utf-8", errors="replace") as handle:
            for number, line in enumerate(handle, 1):
                if word.search(line):
                    return f"line {number}"
        return None
    return _find_in_bytes(path, json.dumps(wanted, ensure_ascii=False).encode())


def _find_in_bytes(path: Path, quoted: bytes) -> str | None:
    if not path.stat().st_size:
        return None
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        at = mapped.find(quoted)
    return None if at < 0 else f"byte {at}"


def _find_in_columns(path: Path, wanted: str) -> str | None:
    quoted = json.dumps(wanted, ensure_ascii=False)  # as in the records of rejects
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            for name in table.column_names:
                for chunk in table.column(name).chunks:
                    values = _strings(chunk)
                    if values is not None and _holds(values, wanted, quoted):
                        return f"column {name}"
    return None


def _strings(values: pa.Array) -> pa.Array | None:
    """The texts of a column, those in lists too; None: it has none."""
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        values = values.flatten()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return values if is_text else None


def _holds(values: pa.Array, wanted: str, quoted: str) -> bool:
    found = pc.or_(pc.equal(values, wanted), pc.match_substring(values, quoted))
    return bool(pc.any(found).as_py())
