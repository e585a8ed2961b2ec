"""What is in service changes whole, by one hand at a time, and can be taken back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipelines.core.bundle import BundlePaths, current_version, point_current
from pipelines.core.errors import ArtefactError, InputError
from pipelines.core.layout import Layout
from pipelines.core.storage import read_json, write_json, write_text
from pipelines.core.versions import BusyError, changing_current, list_versions, promote, report_of, rollback
from tests.unit.test_bundle import make_bundle

NAMES = ("v1", "v2", "v3")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    for name in NAMES:
        make_bundle(made.bundle(name), name)
        point_current(made, name)
    return made


def spoil(layout: Layout, version: str) -> None:
    """A file of the same length with other contents: only its checksum tells."""
    path = BundlePaths(layout.bundle(version)).item_arrays
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def test_versions_are_listed_with_what_is_wrong_with_them(layout: Layout) -> None:
    (layout.bundles / ".v9.tmp").mkdir()
    BundlePaths(layout.bundle("v1")).item_arrays.unlink()
    write_json(BundlePaths(layout.bundle("v2")).manifest, [])
    write_text(BundlePaths(layout.bundle("v3")).report, "<p>")
    found = list_versions(layout)
    assert [v.name for v in found] == ["v3", "v2", "v1"]
    assert [v.is_current for v in found] == [True, False, False]
    assert found[0].problem is None
    assert found[0].metrics == {"version": "v3"}
    assert "no manifest" in str(found[1].problem)
    assert "missing" in str(found[2].problem)
    assert [report_of(layout, v) is not None for v in NAMES] == [False, False, True]
    assert list_versions(Layout(layout.root / "elsewhere")) == []


def test_promotion_and_back_again(layout: Layout) -> None:
    assert promote(layout, "v1") == "v3"
    assert current_version(layout) == "v1"
    assert read_json(layout.metrics) == {"version": "v1"}
    assert rollback(layout) == ("v3", "v1")
    assert rollback(layout) == ("v2", "v3")  # one further back each time, not to and fro
    assert rollback(layout) == ("v1", "v2")
    with pytest.raises(ArtefactError, match="nothing to go back to"):
        rollback(layout)
    assert current_version(layout) == "v1"


def test_promoting_what_is_in_service_changes_nothing(layout: Layout) -> None:
    before = layout.current.read_bytes()
    assert promote(layout, "v3") == "v3"
    assert layout.current.read_bytes() == before


@pytest.mark.parametrize("version", ["v4", "", "..", "../bundles/v1", ".v9.tmp"])
def test_what_is_no_version_is_not_put_into_service(layout: Layout, version: str) -> None:
    (layout.bundles / ".v9.tmp").mkdir()
    with pytest.raises(InputError, match="v3, v2, v1"):
        promote(layout, version)
    assert current_version(layout) == "v3"


def test_a_version_that_is_not_whole_is_passed_over(layout: Layout) -> None:
    spoil(layout, "v2")
    with pytest.raises(ArtefactError, match="checksum"):
        promote(layout, "v2")
    assert current_version(layout) == "v3"
    assert rollback(layout) == ("v1", "v3")


def test_back_where_nobody_wrote_down_what_was_before(layout: Layout) -> None:
    write_json(layout.current, {"version": "v2", "metrics": "bundles/v2/metrics.json"})  # of an older program
    assert rollback(layout) == ("v1", "v2")


def test_one_writer_at_a_time(layout: Layout) -> None:
    with (
        changing_current(layout),
        pytest.raises(BusyError, match="Try again"),
        changing_current(layout, 0.01),
    ):
        pass
    errors: list[BaseException] = []

    def change(name: str) -> None:
        try:
            for _ in range(20):
                promote(layout, name)
                with changing_current(layout):  # pointer and figures never belong to different versions
                    assert read_json(layout.metrics)["version"] == current_version(layout)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=change, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
