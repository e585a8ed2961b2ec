"""Publishing, promoting and deleting, killed by SIGKILL before every change: nothing half-done is ever in service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_bundle import make_bundle

PROGRAM = r"""
import json, os, signal, sys
from pathlib import Path
from pipelines.core.errors import InputError
from pipelines.core.registry.registry import Registry, open_place
from pipelines.core.registry.retention import Retention

address, bundles = sys.argv[1], Path(sys.argv[2])
STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile", "open"}


def work(registry):
    registry.publish("v2", bundles / "v2")
    registry.promote("v1")
    registry.prune(Retention(1), dict)


def killed_at(step, place):
    # a child that ends itself before its step-th change; True: it came to its end first
    child = os.fork()
    if child == 0:
        left = step
        registry = Registry(open_place(place))
        registry.publish("v1", bundles / "v1")

        def count(request=None, **_):
            nonlocal left
            left -= request is None or request.method not in ("GET", "HEAD")
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        if "://" in place:
            registry.place._client.meta.events.register("before-send.s3", count)
        else:
            sys.addaudithook(lambda event, args: count() if event in STEPS and changes(event, args) else None)
        work(registry)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def changes(event, args):
    return event != "open" or (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR))


def state(registry):
    pointer = registry.place.pointer()
    registry.place.check(pointer.version)
    found = registry.versions()
    problems = [str(v.problem) for v in found if v.problem]
    return {"current": pointer.version, "names": [v.name for v in found], "problems": problems}


step, ended = 0, False
while not ended:
    place = f"{address}/{step}"
    ended = killed_at(step, place)
    registry = Registry(open_place(place))
    print(json.dumps({"step": step, **state(registry)}), flush=True)
    try:
        registry.publish("v2", bundles / "v2")
    except InputError as e:
        assert "does not come again" in str(e) or "about to be" in str(e), e
    registry.promote("v1")
    registry.prune(Retention(1), dict)
    after = state(registry)
    assert after == {"current": "v1", "names": ["v1"], "problems": []}, after
    assert registry.place.pointer().removing == ()
    step += 1
"""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_killed_at_every_step(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = str(tmp_path / "place") if kind == "folder" else request.getfixturevalue("s3_folder")
    for name in ("v1", "v2"):
        make_bundle(tmp_path / "made" / name, name)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, address, str(tmp_path / "made")],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(states) > 15  # so many changes there are, at least
    assert all(state["problems"] == [] for state in states)
    currents = [state["current"] for state in states]
    changes = [a for a, b in zip(currents, [*currents[1:], None], strict=True) if a != b]
    assert changes == [
        "v1",
        "v2",
        "v1",
    ]  # the later it was killed, the further it had come; never anything between
