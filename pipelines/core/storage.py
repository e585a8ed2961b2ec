"""Files that are either whole or absent, and matrices cut into row parts.

Every write goes to a temporary name in the same directory, is flushed to the disk, and is then renamed: a
process killed at any moment leaves the old file or the new one. Temporary names begin with a dot, so no
reader's pattern sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipelines.core.errors import ArtefactError

FloatArray = npt.NDArray[np.float32]

_ROWS_OF_A_PIECE = 65_536


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes `path`'s place, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically; NaN and infinity are refused, for not every reader knows them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON file.

    Raises:
        ArtefactError: absent or not JSON.

    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise ArtefactError(
            f"{path} cannot be read: {e}. Delete it if it is there, and run `kindling build` again; it redoes what is "
            "missing."
        ) from e


def write_table(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write one Parquet file atomically."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, row_group_size, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read one Parquet file.

    Raises:
        ArtefactError: absent, cut short or not Parquet.

    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Write named arrays as one safetensors file atomically."""
    with replacing(path) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary, metadata=metadata)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read every array of a safetensors file.

    Raises:
        ArtefactError: absent, cut short or not safetensors.

    """
    try:
        with safe_open(path, framework="numpy") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e


def take_rows(path: Path, name: str, rows: npt.NDArray[np.int64]) -> FloatArray:
    """Some rows of a matrix in a safetensors file, in the order asked for; the file passes by in pieces.

    Args:
        path: of the file.
        name: of the matrix (n, F) in it.
        rows: (m,) numbers below n.

    Returns:
        (m, F).

    Raises:
        ArtefactError: absent, cut short, not safetensors, or without the matrix.

    """
    try:
        with safe_open(path, framework="numpy") as handle:
            matrix = handle.get_slice(name)
            n, width = matrix.get_shape()
            taken = np.empty((len(rows), width), dtype=np.float32)
            for piece in np.unique(rows // _ROWS_OF_A_PIECE):
                start = int(piece) * _ROWS_OF_A_PIECE
                inside = np.flatnonzero(rows // _ROWS_OF_A_PIECE == piece)
                taken[inside] = matrix[start : min(start + _ROWS_OF_A_PIECE, n)][rows[inside] - start]
            return taken
    except (OSError, SafetensorError) as e:
        raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e


def part_paths(directory: Path, suffix: str = ".parquet") -> list[Path]:
    """Parts of a directory in their order."""
    return sorted(p for p in directory.glob(f"*{suffix}") if not p.name.startswith("."))


def part_name(number: int) -> str:
    """File name of the `number`-th Parquet part, so that names sort as numbers do."""
    return f"part-{number:06d}.parquet"


def write_rows(directory: Path, start: int, rows: np.ndarray) -> None:
    """Write rows `start .. start + len(rows)` of a matrix as one part."""
    name = f"rows-{start:012d}-{start + len(rows):012d}.safetensors"
    write_tensors(directory / name, {"rows": rows})


def read_rows(directory: Path, start: int = 0, stop: int | None = None) -> FloatArray:
    """Read rows `start .. stop` of a matrix stored in parts, whatever the parts' boundaries.

    Raises:
        ArtefactError: a part is missing or unreadable.

    """
    paths = part_paths(directory, ".safetensors")
    stop = count_rows(directory) if stop is None else stop
    blocks: list[FloatArray] = []
    reached = start
    for path in paths:
        first, last = (int(x) for x in path.stem.split("-")[1:])
        if reached >= stop or not first <= reached < last:
            continue
        try:
            with safe_open(path, framework="numpy") as handle:
                blocks.append(handle.get_slice("rows")[reached - first : min(stop, last) - first])
        except (OSError, SafetensorError) as e:
            raise ArtefactError(f"{path} cannot be read: {e}. Run `kindling build` again.") from e
        reached = last
    if not paths or reached < stop:
        raise ArtefactError(
            f"{directory} holds no rows from {reached} on, rows {start} to {stop} were asked for. "
            "Run `kindling build` again."
        )
    return np.ascontiguousarray(
        np.concatenate(blocks) if blocks else read_tensors(paths[0])["rows"][:0], dtype=np.float32
    )


def count_rows(directory: Path) -> int:
    """Rows of a matrix stored in parts, from the parts' names."""
    paths = part_paths(directory, ".safetensors")
    return int(paths[-1].stem.split("-")[2]) if paths else 0


def fresh_directory(directory: Path) -> None:
    """Make `directory` empty, by moving what was there out of sight first so that no reader sees half of it."""
    if directory.exists():
        doomed = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}.old"
        directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    directory.mkdir(parents=True)


def digest_files(paths: Sequence[Path], root: Path) -> str:
    """Hash of the files' names below `root` and their contents."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        state.update(str(path.relative_to(root)).encode())
        state.update(digest_file(path).encode())
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, 32 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
