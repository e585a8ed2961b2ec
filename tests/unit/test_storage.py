"""Files are whole or absent, whatever happens to their writer; matrices in row parts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import ArtefactError
from pipelines.core.storage import (
    count_rows,
    digest_file,
    digest_files,
    fresh_directory,
    part_name,
    part_paths,
    read_json,
    read_rows,
    read_tensors,
    replacing,
    write_json,
    write_rows,
    write_table,
    write_tensors,
    write_text,
)


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def test_replacing_makes_directories_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "红")
    assert path.read_text(encoding="utf-8") == "红"
    write_text(path, "blue")
    assert path.read_text(encoding="utf-8") == "blue"
    assert names(path.parent) == ["file.txt"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne", encoding="utf-8")
            assert names(tmp_path) == [temporary.name, "file.txt"]
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file.txt"]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from pipelines.core.storage import replacing, write_tensors
root = Path(sys.argv[1])
for n in range(10**9):
    with replacing(root / "whole.txt") as temporary, temporary.open("w") as slow:
        for _ in range(10_000):
            print(n, file=slow, flush=True)
    write_tensors(root / "whole.safetensors", {"rows": np.full((300, 300), n, dtype=np.float32)})
"""


def test_a_writer_killed_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        try:
            while not (tmp_path / "whole.safetensors").exists():
                assert writer.poll() is None
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))
        finally:
            writer.kill()
            writer.wait()
        lines = (tmp_path / "whole.txt").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 10_000
        assert len(set(lines)) == 1
        rows = read_tensors(tmp_path / "whole.safetensors")["rows"]
        assert rows.shape == (300, 300)
        assert (rows == rows[0, 0]).all()
        # what a kill leaves behind is out of every reader's sight
        assert [p.name for p in part_paths(tmp_path, ".safetensors")] == ["whole.safetensors"]
        (tmp_path / "whole.safetensors").unlink()


def test_json_comes_back_and_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    value = {"名": ["a", 1, 2.5, None, True]}
    write_json(path, value)
    assert read_json(path) == value
    assert "名" in path.read_text(encoding="utf-8")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(path, {"x": bad})
    assert read_json(path) == value


@pytest.mark.parametrize("content", [None, b'{"half": ', b"\xff\xfe", b""])
def test_json_that_cannot_be_read_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "value.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"value\.json cannot be read"):
        read_json(path)


def test_tables_come_back(tmp_path: Path) -> None:
    table = pa.table({"item_id": ["a", "中"], "n": [1, None]})
    write_table(tmp_path / part_name(3), table)
    assert pq.read_table(tmp_path / "part-000003.parquet").equals(table)


def test_tensors_come_back_whatever_their_memory_order(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "strided": np.arange(10)[::3],
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    write_tensors(path, tensors, metadata={"made": "here"})
    found = read_tensors(path)
    assert set(found) == set(tensors)
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype


def test_tensors_that_cannot_be_read_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ArtefactError, match=r"t\.safetensors cannot be read"):
        read_tensors(path)
    write_tensors(path, {"x": np.ones(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ArtefactError, match=r"t\.safetensors cannot be read"):
        read_tensors(path)


def test_parts_sort_as_numbers_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        (tmp_path / part_name(number)).touch()
    (tmp_path / ".part-000000.parquet").touch()
    (tmp_path / "other.json").touch()
    assert [p.name for p in part_paths(tmp_path)] == [part_name(n) for n in (1, 2, 10)]
    assert part_paths(tmp_path / "absent") == []


def write_parts(directory: Path, boundaries: list[int]) -> np.ndarray:
    """A matrix of `boundaries[-1]` rows, cut there."""
    matrix = np.arange(boundaries[-1] * 2, dtype=np.float32).reshape(-1, 2)
    for start, stop in zip([0, *boundaries], boundaries, strict=False):
        write_rows(directory, start, matrix[start:stop])
    return matrix


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_equal_a_slice_whatever_the_parts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("rows")
    boundaries = sorted(data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=5)))
    matrix = write_parts(directory, boundaries)
    start = data.draw(st.integers(0, len(matrix)))
    stop = data.draw(st.integers(start, len(matrix)))
    found = read_rows(directory, start, stop)
    np.testing.assert_array_equal(found, matrix[start:stop])
    assert found.shape == (stop - start, 2)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(read_rows(directory, start), matrix[start:])
    assert count_rows(directory) == len(matrix)


def test_a_missing_part_is_an_error_and_no_shorter_matrix(tmp_path: Path) -> None:
    write_parts(tmp_path, [4, 8, 12])
    part_paths(tmp_path, ".safetensors")[1].unlink()
    for start, stop in [(0, None), (0, 12), (2, 6), (5, 7), (4, 5)]:
        with pytest.raises(ArtefactError, match="holds no rows from"):
            read_rows(tmp_path, start, stop)
    assert read_rows(tmp_path, 0, 4).shape == (4, 2)
    assert read_rows(tmp_path, 8, 12).shape == (4, 2)


def test_rows_beyond_the_end_and_of_nothing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="holds no rows from 0"):
        read_rows(tmp_path / "absent")
    assert count_rows(tmp_path / "absent") == 0
    write_parts(tmp_path, [4])
    with pytest.raises(ArtefactError, match="holds no rows from 4 on, rows 2 to 6"):
        read_rows(tmp_path, 2, 6)


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path, [4])
    part = part_paths(tmp_path, ".safetensors")[0]
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(ArtefactError, match=rf"{part.name} cannot be read"):
        read_rows(tmp_path, 0, 2)


def test_fresh_directory_is_empty(tmp_path: Path) -> None:
    directory = tmp_path / "stages" / "split"
    fresh_directory(directory)
    (directory / "sub").mkdir()
    (directory / "sub" / "file").touch()
    fresh_directory(directory)
    assert names(directory) == []
    assert names(directory.parent) == ["split"]


def test_digests_see_names_and_bytes_but_not_order_or_place(tmp_path: Path) -> None:
    for place, first in (("one", "a"), ("two", "a"), ("renamed", "c")):
        write_text(tmp_path / place / first, "1")
        write_text(tmp_path / place / "b", "2")
    paths = {place: list((tmp_path / place).iterdir()) for place in ("one", "two", "renamed")}
    digests = {place: digest_files(found, tmp_path / place) for place, found in paths.items()}
    assert digests["one"] == digests["two"] == digest_files(paths["one"][::-1], tmp_path / "one")
    assert digests["renamed"] != digests["one"]
    write_text(tmp_path / "two" / "b", "3")
    assert digest_files(paths["two"], tmp_path / "two") != digests["one"]
    blake = hashlib.blake2b(b"1", digest_size=16).hexdigest()
    assert digest_file(tmp_path / "one" / "a") == blake
