"""A folder of tables that appears whole: steps that are not done twice, places that are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from pipelines.core.config import Config, load_config
from pipelines.core.errors import BusyError, ConfigError, InputError
from pipelines.core.importers.running import Imported, Made, run_import
from pipelines.core.importers.staging import Staging
from pipelines.core.importers.tally import Tally


class _Copying:
    """Copies its source in two steps, the second of which may fail."""

    def __init__(self, source: Path) -> None:
        self.source, self.done = source, list[str]()
        self.fails = False

    def step(self, name: str, work: Staging) -> dict[str, object]:
        if self.fails and name == "second":
            raise InputError("no more")
        self.done.append(name)
        (work.tables / name).write_text(self.source.read_text())
        return {"read": 1, "kept": 1, "bad": {}, "left_out": {}, "examples": {}}

    def make(self, work: Staging) -> Made:
        told = [work.once(name, lambda name=name: self.step(name, work)) for name in ("first", "second")]  # type: ignore[misc]
        return Made([Tally.from_json("rows", told[0])], Config(), ["a remark"])

    def run(self, to: Path, *, overwrite: bool = False, **options: object) -> Imported:
        return run_import("copy", {"source": self.source}, to, options, self.make, overwrite=overwrite)


@pytest.fixture
def importer(tmp_path: Path) -> _Copying:
    (tmp_path / "source").write_text("1")
    return _Copying(tmp_path / "source")


def test_done_once_and_told_again(importer: _Copying, tmp_path: Path) -> None:
    first = importer.run(tmp_path / "to")
    again = importer.run(tmp_path / "to")
    assert (first.is_new, again.is_new) == (True, False)
    assert importer.done == ["first", "second"]
    assert again.record["rows"]["rows"]["kept"] == 1
    assert load_config(first.config) == Config()
    assert "# a remark" in first.config.read_text()
    assert [p.name for p in tmp_path.glob(".to.*")] == [".to.import.lock"]


def test_after_a_failure_it_goes_on_behind_the_last_step(importer: _Copying, tmp_path: Path) -> None:
    importer.fails = True
    with pytest.raises(InputError):
        importer.run(tmp_path / "to")
    assert not (tmp_path / "to").exists()
    importer.fails = False
    importer.run(tmp_path / "to")
    assert importer.done == ["first", "second"]


def test_other_sources_begin_again(importer: _Copying, tmp_path: Path) -> None:
    importer.fails = True
    with pytest.raises(InputError):
        importer.run(tmp_path / "to")
    importer.fails = False
    importer.source.write_text("22")
    importer.run(tmp_path / "to")
    assert importer.done == ["first", "first", "second"]
    assert (tmp_path / "to" / "first").read_text() == "22"
    assert [p.name for p in tmp_path.glob(".to.*")] == [".to.import.lock"]


def test_another_import_is_replaced_only_if_asked(importer: _Copying, tmp_path: Path) -> None:
    importer.run(tmp_path / "to")
    importer.source.write_text("22")
    with pytest.raises(
        ConfigError, match=r"has another import in it \(of source\). Give another folder, or --overwrite"
    ):
        importer.run(tmp_path / "to")
    assert (tmp_path / "to" / "first").read_text() == "1"
    importer.run(tmp_path / "to", overwrite=True)
    assert (tmp_path / "to" / "first").read_text() == "22"
    with pytest.raises(ConfigError, match="has another import in it"):
        importer.run(tmp_path / "to", columns="other")


def test_killed_between_taking_away_the_old_and_putting_the_new(importer: _Copying, tmp_path: Path) -> None:
    importer.run(tmp_path / "to")
    (tmp_path / "to").rename(tmp_path / ".to.12345678.old")
    importer.source.write_text("22")
    importer.run(tmp_path / "to")
    assert (tmp_path / "to" / "first").read_text() == "22"
    assert [p.name for p in tmp_path.glob(".to.*")] == [".to.import.lock"]


def test_what_no_import_has_made_is_left_alone(importer: _Copying, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert importer.run(tmp_path / "empty").is_new
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="has files in it that no import has made"):
        importer.run(tmp_path / "mine", overwrite=True)
    with pytest.raises(ConfigError, match="is a file"):
        importer.run(tmp_path / "mine" / "thesis.txt")


def test_two_at_once(importer: _Copying, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".to.import.lock"),
        pytest.raises(BusyError, match=r"another import to .* is running"),
    ):
        importer.run(tmp_path / "to")


def test_too_many_bad_rows() -> None:
    tally = Tally("rows", read=100)
    tally.reject("it is cut", "row 3", 5)
    tally.leave_out("of others", "row 4", 50)
    tally.check()
    assert tally.kept == 45
    tally.reject("it is cut", "row 9")
    with pytest.raises(
        InputError,
        match=r"6 of 100 rows cannot be understood, most of them \(6\) because: it is cut; .* row 3",
    ):
        tally.check()
    with pytest.raises(InputError, match=r"no rows are left of 0 read\."):
        Tally("rows").check()
    assert read_json_again(tally) == tally


def read_json_again(tally: Tally) -> Tally:
    return Tally.from_json(tally.what, tally.as_json())
