"""Downloads from a real server that honours ranges, ignores them, cuts off, changes its mind; kills in the middle."""

from __future__ import annotations

import hashlib
import io
import time
import urllib.request
import zipfile
from email.message import Message
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from pipelines.core.errors import ArtefactError, BusyError, ConfigError, InputError
from pipelines.core.importers import download
from pipelines.core.importers.checksums import Checksum, file_name, parse_checksums
from pipelines.core.importers.download import fetch
from pipelines.core.storage import part_paths, read_json
from pipelines.progress import Progress
from tests.conftest import kill_group, kindling, start_kindling
from tests.unit.http_files import Manners, serving
from tests.unit.movielens_sets import write_zip

BARS = Progress(quiet=True).bar
CONTENT = np.random.default_rng(3).bytes(5_000_000)


@pytest.fixture(autouse=True)
def _no_pauses_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def sha256(content: bytes) -> list[Checksum]:
    return [Checksum("sha256", hashlib.sha256(content).hexdigest())]


def get(
    manners: Manners, cache: Path, checksums: list[Checksum] | None = None, name: str = "set.zip"
) -> bytes:
    with serving(manners) as address:
        wanted = sha256(manners.content) if checksums is None else checksums
        return fetch(f"{address}/{name}", cache, wanted, BARS).read_bytes()


def test_a_plain_download_and_again_from_the_cache(tmp_path: Path) -> None:
    manners = Manners(CONTENT)
    with serving(manners) as address:
        for _ in range(2):
            path = fetch(f"{address}/a/set.zip?x=1", tmp_path, sha256(CONTENT), BARS)
            assert (path.name, path.read_bytes() == CONTENT) == ("set.zip", True)
    assert manners.asked == [""]


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_cut_off_again_and_again_it_goes_on_where_it_was(etag: str | None, tmp_path: Path) -> None:
    manners = Manners(CONTENT, cut_after=1_500_000, etag=etag)
    assert get(manners, tmp_path) == CONTENT
    assert manners.asked == ["", "bytes=1500000-", "bytes=3000000-", "bytes=4500000-"]


def test_a_server_without_ranges_begins_again(tmp_path: Path) -> None:
    manners = Manners(CONTENT, cut_after=2_000_000, has_ranges=False)
    with pytest.raises(ArtefactError, match=r"2000000 bytes have arrived .* Run the same command again"):
        get(manners, tmp_path)
    assert [p.name for p in tmp_path.glob("*/set.zip")] == []
    with serving(manners) as address:
        url = f"{address}/set.zip"
        with pytest.raises(ArtefactError):
            fetch(url, tmp_path, sha256(CONTENT), BARS)
        manners.cut_after = None
        assert fetch(url, tmp_path, sha256(CONTENT), BARS).read_bytes() == CONTENT
    assert manners.asked[-1] == "bytes=2000000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(tmp_path: Path) -> None:
    manners = Manners(CONTENT, cut_after=0)
    with serving(manners) as address:
        url = f"{address}/set.zip"
        part_of_old(manners, url, tmp_path)
        manners.content, manners.etag, manners.cut_after = CONTENT[::-1], '"v2"', None
        assert fetch(url, tmp_path, sha256(CONTENT[::-1]), BARS).read_bytes() == CONTENT[::-1]


def part_of_old(manners: Manners, url: str, cache: Path) -> None:
    """Leave a part of the file as it is now."""
    manners.cut_after, manners.has_ranges = 1_000_000, False
    with pytest.raises(ArtefactError):
        fetch(url, cache, sha256(manners.content), BARS)
    manners.has_ranges = True


def test_a_change_that_the_server_hides_is_found_by_the_checksum(tmp_path: Path) -> None:
    manners = Manners(CONTENT, etag=None)
    with serving(manners) as address:
        url = f"{address}/set.zip"
        part_of_old(manners, url, tmp_path)
        manners.content, manners.cut_after = CONTENT[::-1], None
        assert fetch(url, tmp_path, sha256(CONTENT[::-1]), BARS).read_bytes() == CONTENT[::-1]
    assert manners.asked[-2:] == ["bytes=1000000-", ""]


def test_a_file_that_became_shorter_is_fetched_from_the_start(tmp_path: Path) -> None:
    manners = Manners(CONTENT, etag=None)
    with serving(manners) as address:
        url = f"{address}/set.zip"
        part_of_old(manners, url, tmp_path)
        manners.content, manners.cut_after = b"short", None
        assert fetch(url, tmp_path, sha256(b"short"), BARS).read_bytes() == b"short"


def test_a_wrong_checksum_is_never_used(tmp_path: Path) -> None:
    wrong = sha256(b"something else")
    with pytest.raises(
        InputError, match=rf"its sha256 is {sha256(CONTENT)[0].digest}, expected {wrong[0].digest}"
    ):
        get(Manners(CONTENT), tmp_path, wrong)
    assert [p.name for p in tmp_path.glob("*/set.zip*")] == []


def test_a_damaged_file_in_the_cache_is_found(tmp_path: Path) -> None:
    with serving(Manners(CONTENT)) as address:
        url = f"{address}/set.zip"
        path = fetch(url, tmp_path, sha256(CONTENT), BARS)
        path.write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match="It is damaged"):
            fetch(url, tmp_path, sha256(CONTENT), BARS)
        assert fetch(url, tmp_path, sha256(CONTENT), BARS).read_bytes() == CONTENT


def test_without_a_length_only_a_checksum_tells_that_it_is_whole(tmp_path: Path) -> None:
    manners = Manners(CONTENT, says_length=False)
    assert get(manners, tmp_path / "whole") == CONTENT
    manners.cut_after = 1_000_000
    with pytest.raises(InputError, match="its sha256 is"):
        get(manners, tmp_path / "cut")


def test_what_the_server_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server answers 404"):
        get(Manners(b"", status=404), tmp_path)
    with pytest.raises(ArtefactError, match=r"0 bytes have arrived.*503"):
        get(manners := Manners(b"", status=503), tmp_path)
    assert len(manners.asked) == 3


def test_http_without_a_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only https:// is downloaded from, or http:// with --sha256"):
        get(Manners(CONTENT), tmp_path, [])
    with pytest.raises(InputError, match="only https://"):
        fetch("file:///etc/passwd", tmp_path, sha256(b""), BARS)


def test_a_redirect_is_followed_where_a_checksum_is_there(tmp_path: Path) -> None:
    with serving(Manners(CONTENT)) as address:
        assert get(Manners(CONTENT, redirect=f"{address}/other"), tmp_path) == CONTENT


def test_a_redirect_to_http_is_refused_where_there_is_none() -> None:
    asked = urllib.request.Request("https://example.org/set.zip")
    follow = download._Redirects(is_checked=False).redirect_request
    with pytest.raises(InputError, match=r"leads to http://example\.org/other, which is not https://"):
        follow(asked, io.BytesIO(), 302, "Found", Message(), "http://example.org/other")
    followed = follow(asked, io.BytesIO(), 302, "Found", Message(), "https://example.org/other")
    assert followed is not None


def test_two_at_once(tmp_path: Path) -> None:
    with serving(Manners(CONTENT)) as address:
        url = f"{address}/set.zip"
        folder = fetch(url, tmp_path, sha256(CONTENT), BARS).parent
        with FileLock(folder / ".lock"), pytest.raises(BusyError, match="by another process"):
            fetch(url, tmp_path, sha256(CONTENT), BARS)


def test_more_than_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtefactError, match=r"needs 5000000 more bytes .* where 1000 are free"):
        get(Manners(CONTENT), tmp_path)


def test_local_files_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(b"abc")
    md5 = Checksum("md5", "900150983cd24fb0d6963f7d28e17f72")  # RFC 1321
    assert fetch(str(path), tmp_path, [md5, *sha256(b"abc")], BARS) == path
    with pytest.raises(InputError, match="its sha256 is"):
        fetch(str(path), tmp_path, sha256(b"abd"), BARS)
    with pytest.raises(InputError, match="is not there"):
        fetch(str(tmp_path / "none.zip"), tmp_path, [], BARS)
    with pytest.raises(InputError, match="is a folder, and a checksum is of a file"):
        fetch(str(tmp_path), tmp_path, sha256(b"abc"), BARS)


def test_checksums_of_the_command_line() -> None:
    digest = "AB" * 32
    sources = ["https://a/b/meta_X.jsonl.gz", "dir/X.csv"]
    assert parse_checksums(sources[:1], [digest], ["0" * 32]) == {
        sources[0]: [Checksum("sha256", "ab" * 32), Checksum("md5", "0" * 32)]
    }
    found = parse_checksums(sources, [f"X.csv={digest}"], [])
    assert found == {sources[0]: [], sources[1]: [Checksum("sha256", "ab" * 32)]}
    with pytest.raises(
        ConfigError, match=r"say which, --sha256 NAME=HEX with NAME one of meta_X.jsonl.gz, X.csv"
    ):
        parse_checksums(sources, [digest], [])
    with pytest.raises(ConfigError, match="no file is named 'Y'"):
        parse_checksums(sources, [f"Y={digest}"], [])
    with pytest.raises(ConfigError, match="expected 64 hexadecimal digits, got 3 characters"):
        parse_checksums(sources[:1], ["abc"], [])
    with pytest.raises(ConfigError, match="two of the sources have one name"):
        parse_checksums(["a/x.csv", "b/x.csv"], [f"x.csv={digest}"], [])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://h/ml-1m.zip?a=/../b", "ml-1m.zip"),
        ("https://h/", "download"),
        ("https://h/%2e%2e%2fetc%2fpasswd", "passwd"),
        ("https://h/.part", "part"),
        ("a/b c.zip", "b_c.zip"),
    ],
)
def test_names_of_files(source: str, name: str) -> None:
    assert file_name(source) == name


def test_killed_while_downloading_it_goes_on(tmp_path: Path) -> None:
    path = write_zip("ml-latest-small", tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ml-latest-small/padding.bin", CONTENT)
    content = path.read_bytes()
    manners = Manners(content, stall_after=3_500_000)
    to, cache = tmp_path / "to", tmp_path / "cache"
    with serving(manners) as address:
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        arguments = (
            "data",
            "import",
            "movielens",
            f"{address}/ml-latest-small.zip",
            "--to",
            to,
            "--md5",
            digest,
        )
        process = start_kindling(*arguments, "--cache", cache)
        while sum(p.stat().st_size for p in cache.glob("*/*.part")) < 2_000_000:
            assert process.poll() is None
            time.sleep(0.01)
        kill_group(process)
        (part,) = cache.glob("*/*.part")
        assert not (part.parent / "ml-latest-small.zip").exists()
        assert not to.exists()
        have = part.stat().st_size
        manners.stall_after = None
        done = kindling(*arguments, "--cache", cache)
    assert done.status == 0, done.err
    assert manners.asked == ["", f"bytes={have}-"]
    assert pq.read_metadata(to / "items.parquet").num_rows == 3
    assert "ratings: 4 of 4" in done.out
    assert f"kindling build --data {to} --config {to / 'kindling.toml'}" in done.out


def test_killed_while_importing_it_leaves_nothing_and_goes_on(tmp_path: Path) -> None:
    source, to = tmp_path / "amazon", tmp_path / "to"
    source.mkdir()
    (source / "meta_X.jsonl").write_text(
        '{"parent_asin": "B1", "title": "Cup"}\n{"parent_asin": "B2", "title": "Pot"}\n'
    )
    with (source / "X.csv").open("w") as out:
        out.write("user_id,parent_asin,rating,timestamp\n")
        out.writelines(f"U{n},B{1 + n % 2},5.0,{1500000000000 + n}\n" for n in range(400_000))
    arguments = ("data", "import", "amazon-reviews-2023", source, "--to", to)
    process = start_kindling(*arguments)
    while not (steps := list(tmp_path.glob(".to.*.importing/steps/items.json"))):
        assert process.poll() is None
        time.sleep(0.01)
    kill_group(process)
    assert process.returncode < 0
    assert not to.exists()
    written = (steps[0].parents[1] / "tables" / "items.parquet").stat().st_mtime_ns
    done = kindling(*arguments)
    assert done.status == 0, done.err
    record = read_json(to / "import.json")
    assert record["rows"]["reviews"]["kept"] == 400_000
    assert sum(pq.read_metadata(p).num_rows for p in part_paths(to / "interactions")) == 400_000
    assert (to / "items.parquet").stat().st_mtime_ns == written, "a finished step is not done again"
    assert [p.name for p in tmp_path.glob(".to*")] == [".to.import.lock"]
