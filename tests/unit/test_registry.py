"""What is in service changes whole, by one hand at a time, and can be taken back; in a folder and on S3."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.core.bundle import MANIFEST, BundlePaths, check_bundle, current_version, point_current
from pipelines.core.errors import ArtefactError, BusyError, ConfigError, InputError
from pipelines.core.layout import Layout
from pipelines.core.pointer import POINTER_SCHEMA, Pointer, parse_pointer
from pipelines.core.registry.bucket import Bucket
from pipelines.core.registry.folder import Folder
from pipelines.core.registry.place import Place
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.registry.retention import Retention
from pipelines.core.storage import read_json, write_json, write_text
from tests.unit.test_bundle import make_bundle

NAMES = ("v1", "v2", "v3")
PLACES = ("folder", "s3")


@pytest.fixture(params=PLACES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(Layout(tmp_path / "registry"))
    return open_place(request.getfixturevalue("s3_folder"))


@pytest.fixture
def bundles(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a whole bundle, or shows it again."""

    def bundle(name: str) -> Path:
        root = tmp_path / "made" / name
        if not root.exists():
            make_bundle(root, name)
        return root

    return bundle


@pytest.fixture
def registry(empty: Place, bundles: Callable[[str], Path]) -> Registry:
    """v1, v2, v3 published in this order."""
    made = Registry(empty)
    for name in NAMES:
        made.publish(name, bundles(name))
    return made


def no_use() -> dict[str, list[str]]:
    return {}


def spoil(place: Place, version: str, name: str = "item_arrays.safetensors") -> None:
    """A file of the same length with other contents: only its checksum tells."""
    content = bytearray(place.read(version, name))
    content[-1] ^= 1
    overwrite(place, version, name, bytes(content))


def overwrite(place: Place, version: str, name: str, content: bytes | None) -> None:
    """Another content for a file, or none."""
    if isinstance(place, Folder):
        path = place.layout.bundle(version) / name
        path.unlink() if content is None else path.write_bytes(content)
        return
    assert isinstance(place, Bucket)
    where = {"Bucket": place._bucket, "Key": place._key(version, name)}
    if content is None:
        place._client.delete_object(**where)
    else:
        place._client.put_object(**where, Body=content)


def test_versions_are_listed_with_what_they_are(registry: Registry) -> None:
    found = registry.versions()
    assert [v.name for v in found] == ["v3", "v2", "v1"]
    assert [v.is_current for v in found] == [True, False, False]
    assert [v.problem for v in found] == [None, None, None]
    assert found[0].metrics == {"version": "v3"}
    assert found[0].n_bytes > found[0].manifest["files"]["item_arrays.safetensors"]["bytes"]
    assert registry.show("v2") == found[1]
    assert registry.report("v2") is None


def test_what_is_wrong_with_a_version_is_told(registry: Registry) -> None:
    overwrite(registry.place, "v1", "item_arrays.safetensors", None)
    overwrite(registry.place, "v2", MANIFEST, b"[]")
    overwrite(registry.place, "v3", "report.html", b"<p>")
    found = registry.versions()
    assert found[0].has_report
    assert registry.report("v3") == b"<p>"
    assert "no manifest" in str(found[1].problem)
    assert "missing" in str(found[2].problem)
    with pytest.raises(InputError, match="v3, v2, v1"):
        registry.report("v7")


def test_nothing_is_published_yet(empty: Place) -> None:
    registry = Registry(empty)
    assert registry.versions() == []
    with pytest.raises(ArtefactError, match="nothing is in service"):
        registry.rollback()
    with pytest.raises(InputError, match="there are none"):
        registry.promote("v1")
    assert registry.prune(Retention(1), no_use) == []


def test_promotion_and_back_again(registry: Registry) -> None:
    assert registry.promote("v1") == "v3"
    assert registry.current() == "v1"
    assert registry.rollback() == ("v3", "v1")
    assert registry.rollback() == ("v2", "v3")  # one further back each time, not to and fro
    assert registry.rollback() == ("v1", "v2")
    with pytest.raises(ArtefactError, match="nothing to go back to"):
        registry.rollback()
    assert registry.current() == "v1"
    history = [(c["how"], c["version"]) for c in registry.place.pointer().history]
    assert history == [
        ("rollback", "v1"), ("rollback", "v2"), ("rollback", "v3"), ("promote", "v1"),
        ("publish", "v3"), ("publish", "v2"), ("publish", "v1"),
    ]  # fmt: skip


def test_promoting_what_is_in_service_changes_nothing(registry: Registry) -> None:
    before = registry.place.pointer()
    assert registry.promote("v3") == "v3"
    assert registry.place.pointer() == before


@pytest.mark.parametrize("version", ["v4", "", "..", "../bundles/v1", ".v9.tmp"])
def test_what_is_no_version_is_not_put_into_service(registry: Registry, version: str) -> None:
    if isinstance(registry.place, Folder):
        (registry.place.layout.bundles / ".v9.tmp").mkdir()
    with pytest.raises(InputError, match="v3, v2, v1"):
        registry.promote(version)
    assert registry.current() == "v3"


def test_a_version_that_is_not_whole_is_passed_over(registry: Registry) -> None:
    spoil(registry.place, "v2")
    with pytest.raises(ArtefactError, match="checksum"):
        registry.promote("v2")
    assert registry.current() == "v3"
    assert registry.rollback() == ("v1", "v3")


def test_publishing_again_is_no_mistake_and_another_of_the_name_is(
    registry: Registry, bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    registry.publish("v1", bundles("v1"))
    assert registry.current() == "v1"
    other = make_bundle(tmp_path / "other", "v1", "another")
    with pytest.raises(InputError, match="another bundle of the name 'v1'"):
        registry.publish("v1", other.root)
    assert registry.place.check("v1") == check_bundle(bundles("v1"))


def test_what_is_fetched_is_checked(
    registry: Registry, bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    registry.place.fetch("v2", tmp_path / "here")
    assert check_bundle(tmp_path / "here", "v2") == check_bundle(bundles("v2"))
    spoil(registry.place, "v2")
    with pytest.raises(ArtefactError, match="checksum"):
        registry.place.fetch("v2", tmp_path / "again")
    assert not (tmp_path / "again" / MANIFEST).exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a//b", "a/../../b", "..", "a\\b"])
def test_a_manifest_cannot_name_files_elsewhere(registry: Registry, tmp_path: Path, name: str) -> None:
    manifest = registry.show("v1").manifest
    manifest["files"][name] = {"bytes": 0, "blake2b": "0"}
    write_json(tmp_path / MANIFEST, manifest)
    overwrite(registry.place, "v1", MANIFEST, (tmp_path / MANIFEST).read_bytes())
    with pytest.raises(ArtefactError, match="unusable file"):
        registry.place.fetch("v1", tmp_path / "here")
    with pytest.raises(ArtefactError, match="unusable file"):
        registry.promote("v1")


def test_two_promotions_at_once_are_both_in_the_history(registry: Registry) -> None:
    """The second comes between what the first has read and what it writes."""
    place = registry.place
    if isinstance(place, Folder):
        pytest.skip("a folder has a lock: see test_one_writer_at_a_time")
    reads = []

    def change(pointer: Pointer) -> Pointer:
        reads.append(pointer.version)
        if len(reads) == 1:
            registry.promote("v2")
        return pointer.promoted("v1")

    place.update(change)
    assert reads == ["v3", "v2"]
    pointer = place.pointer()
    assert (pointer.version, pointer.earlier[:2]) == ("v1", ("v2", "v3"))


def test_who_is_always_slower_is_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    place = registry.place
    monkeypatch.setattr("pipelines.core.registry.bucket._TRIES", 3)
    if isinstance(place, Folder):
        pytest.skip("a folder has a lock")
    names = iter(["v1", "v2"] * 20)

    def change(pointer: Pointer) -> Pointer:
        registry.promote(next(names))
        return pointer.promoted("v0")

    with pytest.raises(BusyError, match="again and again"):
        place.update(change)


def test_a_rollback_that_comes_too_late_is_told(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people see the same bad version: the second one must not go back over the first one's good one."""
    update = registry.place.update

    def late(change: Callable[[Pointer], Pointer]) -> Pointer:
        monkeypatch.undo()
        assert registry.rollback() == ("v2", "v3")
        return update(change)

    monkeypatch.setattr(registry.place, "update", late)
    with pytest.raises(BusyError, match="v2 was put into service meanwhile, in place of v3"):
        registry.rollback()
    assert registry.current() == "v2"


def test_old_versions_are_deleted_and_others_not(registry: Registry, bundles: Callable[[str], Path]) -> None:
    registry.publish("v4", bundles("v4"))
    registry.promote("v2")
    in_use = {"v1": ["some experiment"]}
    assert registry.prune(Retention(1), lambda: in_use, dry_run=True) == ["v4", "v3"]
    assert [v.name for v in registry.versions()] == ["v4", "v3", "v2", "v1"]
    assert registry.prune(Retention(1), lambda: in_use) == ["v4", "v3"]
    assert [v.name for v in registry.versions()] == ["v2", "v1"]
    assert registry.place.pointer().removing == ()
    assert registry.rollback() == ("v1", "v2")  # of what was before, what is left
    registry.promote("v2")
    assert registry.prune(Retention(2), no_use) == []
    assert registry.prune(Retention(1), no_use) == ["v1"]
    with pytest.raises(ArtefactError, match="nothing to go back to"):
        registry.rollback()


def test_nobody_deletes_what_another_has_just_put_into_service(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = registry.place.update

    def late(change: Callable[[Pointer], Pointer]) -> Pointer:
        monkeypatch.undo()
        registry.promote("v1")  # after it was looked which are old, before that is said in the pointer
        return update(change)

    monkeypatch.setattr(registry.place, "update", late)
    assert registry.prune(Retention(1), no_use) == ["v3", "v2"]
    assert registry.current() == "v1"
    registry.place.check("v1")


def test_what_is_about_to_be_deleted_is_not_put_into_service(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, refused = registry.place.delete, []

    def slow(versions: tuple[str, ...]) -> None:
        for change in (lambda: registry.promote("v1"), registry.rollback):
            try:
                change()
            except (InputError, ArtefactError) as e:
                refused.append(str(e))
        delete(versions)

    monkeypatch.setattr(registry.place, "delete", slow)
    assert registry.prune(Retention(1), no_use) == ["v2", "v1"]
    assert len(refused) == 2
    assert "is deleted, or about to be" in refused[0]
    assert "nothing to go back to" in refused[1]
    assert registry.current() == "v3"


def test_a_version_that_came_into_use_meanwhile_is_spared(registry: Registry) -> None:
    """An experiment that began before the mark could be seen is seen at the second look."""
    looks = iter([{}, {}, {"v1": ["late"]}])
    assert registry.prune(Retention(1), lambda: next(looks)) == ["v2"]
    assert registry.promote("v1") == "v3"


def test_a_removal_that_was_killed_is_finished_by_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_versions: tuple[str, ...]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry.place, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.prune(Retention(2), no_use)
    with pytest.raises(InputError, match="about to be"):
        registry.promote("v1")
    assert registry.prune(Retention(3), no_use) == []
    assert [v.name for v in registry.versions()] == ["v3", "v2"]
    assert registry.place.pointer().removing == ()


def test_on_s3_a_deleted_name_does_not_come_again(registry: Registry, bundles: Callable[[str], Path]) -> None:
    registry.prune(Retention(2), no_use)
    if isinstance(registry.place, Folder):
        registry.publish("v1", bundles("v1"))
        assert registry.current() == "v1"
    else:
        with pytest.raises(InputError, match="its name does not come again"):
            registry.publish("v1", bundles("v1"))


def test_an_abandoned_push_is_cleared_away(
    s3_folder: str, bundles: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Bucket(s3_folder)
    registry = Registry(place)
    registry.publish("v2", bundles("v2"))
    place.push("v1", bundles("v1"))
    overwrite(place, "v1", MANIFEST, None)
    registry.prune(Retention(5), no_use)
    assert place.sizes("v1")  # it may still be going on
    monkeypatch.setattr("pipelines.core.registry.bucket._ABANDONED", -timedelta(hours=1))
    registry.prune(Retention(5), no_use)
    assert place.sizes("v1") == {}
    assert place.names() == ["v2"]


def test_a_server_without_conditions_is_refused(s3_folder: str, bundles: Callable[[str], Path]) -> None:
    place = Bucket(s3_folder)

    def forget(params: dict[str, object], **_: object) -> None:
        params.pop("IfNoneMatch", None)

    place._client.meta.events.register("provide-client-params.s3.PutObject", forget)
    with pytest.raises(ConfigError, match="writes whatever the condition"):
        Registry(place).publish("v1", bundles("v1"))
    assert place.names() == []


def test_what_s3_refuses_is_said_plainly(s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtefactError, match="Make the bucket"):
        Registry(open_place("s3://no-such-bucket/x")).versions()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ArtefactError, match="AWS_ENDPOINT_URL and the network"):
        Registry(open_place(s3_folder)).versions()
    for address in ("gs://x/y", "s3:///x"):
        with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
            open_place(address)


def test_back_where_nobody_wrote_down_what_was_before(registry: Registry) -> None:
    if not isinstance(registry.place, Folder):
        pytest.skip("older programs knew no S3")
    write_json(registry.place.layout.current, {"version": "v2", "metrics": "bundles/v2/metrics.json"})
    assert registry.rollback() == ("v1", "v2")


def test_a_pointer_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    make_bundle(layout.bundle("v1"))
    point_current(layout, "v1")
    write_json(layout.current, read_json(layout.current) | {"schema_version": POINTER_SCHEMA + 1})
    for look in (lambda: current_version(layout), Registry(Folder(layout)).versions):
        with pytest.raises(ArtefactError, match="a newer Kindling writes it"):
            look()


def test_a_pointer_comes_back_as_it_was_written() -> None:
    pointer = Pointer().promoted("a").promoted("b").marked(("c",)).without(("d",), forever=True)
    assert parse_pointer(pointer.document(), "") == pointer


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name in NAMES:
        make_bundle(layout.bundle(name), name)
    place = Folder(layout)
    registry = Registry(place)
    with place.changing(), pytest.raises(BusyError, match="Try again"), place.changing(0.01):
        pass
    errors: list[BaseException] = []

    def change(name: str) -> None:
        try:
            for _ in range(20):
                registry.promote(name)
                with place.changing():  # pointer and figures never belong to different versions
                    assert read_json(layout.metrics)["version"] == current_version(layout)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=change, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def dates() -> Iterator[tuple[str, str | None]]:
    now = datetime(2026, 5, 10, tzinfo=UTC)
    for day in range(5):
        yield f"v{5 - day}", (now - timedelta(days=day)).isoformat()
    yield "v0", None


@pytest.mark.parametrize(
    ("retention", "stays", "gone"),
    [
        (Retention(2), {"v5"}, ["v3", "v2", "v1", "v0"]),
        (Retention(2), {"v1"}, ["v4", "v3", "v2", "v0"]),  # the one in service counts
        (Retention(2), {"v1", "v2", "v3"}, ["v5", "v4", "v0"]),  # all in use stay, whatever their number
        (Retention(1, days=2.5), {"v5"}, ["v2", "v1"]),  # of unknown age: not known to be old
        (Retention(4, days=2.5), {"v5"}, ["v1"]),
        (Retention(99), {"v5"}, []),
    ],
)
def test_retention_by_count_and_age(retention: Retention, stays: set[str], gone: list[str]) -> None:
    assert retention.surplus(list(dates()), stays, datetime(2026, 5, 10, tzinfo=UTC)) == gone


def test_retention_that_would_leave_nothing_is_refused() -> None:
    for keep, days in ((0, 1.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(InputError, match="expected"):
            Retention(keep, days)


def test_a_broken_copy_of_a_version_is_seen_in_the_folder(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (layout.bundles / ".v9.tmp").mkdir(parents=True)
    write_text(BundlePaths(layout.bundle("v1")).config, "")
    (found,) = Registry(Folder(layout)).versions()
    assert found.problem is not None
    assert "manifest.json cannot be read" in found.problem
